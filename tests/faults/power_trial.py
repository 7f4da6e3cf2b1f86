"""A power-cut trial: a log on a disk that loses its power, and what is found when it is opened again.

Rules: the writer is ensue's own `SqliteLog`, opened as usual. It remembers which commits returned, and each row that it
writes follows from its number, so half a batch, a wrong body and an extra row are all found.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from shutil import copytree, rmtree
from typing import Literal

import apsw

from ensue.cluster.log.protocol import Batch, Entry, RunChange, RunStart, Seen, Snapshot
from ensue.cluster.log.sqlite.log import SqliteLog
from ensue.events.errors import LogUnavailable
from ensue.events.state.run_status import Status

from .power import Disk, disk_on

__all__ = ["Durability", "Story", "Tally", "check", "cuts", "write"]

Durability = Literal["full", "relaxed"]
_STORE = "ensue.db"
_MOST_CALLS = 400
_CUTS_A_STORE = 8


@dataclass(slots=True)
class Story:
    """What a writer knows: where the acknowledged batches end, the one that may be there, and a snapshot."""

    ends: list[int] = field(default_factory=lambda: [1])
    unsure: int | None = None
    snapshot: int = 0


@dataclass(slots=True)
class Tally:
    """Of all cuts: commits acknowledged, cuts that lost one of them, and what broke a promise."""

    cuts: int = 0
    commits: int = 0
    losing: int = 0
    wrong: list[str] = field(default_factory=list[str])


def cuts(
    folder: Path,
    count: int,
    seed: int,
    durability: Durability = "full",
    spoil: Callable[[SqliteLog], None] = lambda _: None,
) -> Tally:
    """So many power cuts, each in the middle of writing or of the recovery from the last; `spoil` may break the log."""
    tally = Tally()
    story, home = Story(), folder / "store-0"
    home.mkdir()
    for number in range(count):
        disk, unplug = disk_on(f"power-{seed}-{number}", seed * 1_000_003 + number)
        after = folder / f"life-{number}"
        after.mkdir()
        before = len(story.ends)
        try:
            _live(home, story, disk, durability, spoil)
        except Exception as error:  # noqa: BLE001 - as below; without power every call fails, and with it none
            if not disk.is_off:
                tally.wrong.append(f"life {number} of seed {seed}: {type(error).__name__}: {error}")
        else:
            tally.wrong.append(f"life {number} of seed {seed} ended before its power was cut")
        finally:
            unplug()
        disk.left_in(after)
        rmtree(home)
        tally.cuts += 1
        tally.commits += len(story.ends) - before
        found = _look(after, story, durability, tally, f"cut {number} of seed {seed}")
        story, home = found or Story(), after
        if found is None or (number + 1) % _CUTS_A_STORE == 0:
            story, home = Story(), folder / f"store-{number + 1}"
            rmtree(after)
            home.mkdir()
    return tally


def _look(home: Path, story: Story, durability: Durability, tally: Tally, where: str) -> Story | None:
    """What a copy of the store holds; None where that cannot be read, and so is no beginning of another life."""
    copy = home.with_name(f"{home.name}-copy")
    copytree(home, copy)
    try:
        with closing(SqliteLog(str(copy / _STORE), durability)) as log:
            return check(log, story, durability, tally, where)
    except Exception as error:  # noqa: BLE001 - whatever a damaged store leads to, it is what the look found
        tally.wrong.append(f"{where}: {type(error).__name__}: {error}")
        return None
    finally:
        rmtree(copy)


def _live(home: Path, story: Story, disk: Disk, durability: Durability, spoil: Callable[[SqliteLog], None]) -> None:
    """Write until the power is cut, at a seeded call."""
    left = disk.random.randrange(1, _MOST_CALLS)

    def before(_call: str, _name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            disk.cut()

    disk.before = before
    log = SqliteLog(str(home / _STORE), durability)
    try:
        log._open().wal_autocheckpoint(disk.random.choice((5, 20, 100, 1000)))
        spoil(log)
        while True:
            write(log, story, disk.random)
    finally:
        is_cut = disk.is_off
        disk.cut()  # what has no power is not closed in order
        with suppress(LogUnavailable, apsw.Error):
            log.close()
        disk.is_off = is_cut


def write(log: SqliteLog, story: Story, random: Random, batches: int = 20) -> None:
    """Take over the log and write some batches, and at times a snapshot or a checkpoint. Raises what the log raises."""
    epoch = log.acquire("writer")
    for _ in range(batches):
        batch, story.unsure = _batch(epoch, story.ends[-1], random.randrange(1, 12))
        log.commit(batch)
        story.ends.append(story.unsure)
        story.unsure = None
        if random.random() < 0.05:
            log.save_snapshot(Snapshot(story.ends[-1], _body(story.ends[-1], 3000)))
            story.snapshot = story.ends[-1]
        if random.random() < 0.1:
            log.checkpoint()


def check(log: SqliteLog, story: Story, durability: Durability, tally: Tally, where: str) -> Story:
    """What a log holds, beside what its writer knew; the story of the next writer."""
    end = log.next_offset()
    borders = [*story.ends, *([story.unsure] if story.unsure else [])]
    if end not in borders:
        tally.wrong.append(f"{where}: the log ends at {end}, in the middle of a batch")
    if end < story.ends[-1]:
        tally.losing += 1
        if durability == "full":
            tally.wrong.append(f"{where}: the log ends at {end}, {story.ends[-1]} was acknowledged")
    found = _faults(log, end)
    tally.wrong += [f"{where}: {fault}" for fault in found]
    snapshot = max((snapshot.offset for snapshot in log.snapshots()), default=0)
    if durability == "full" and snapshot < story.snapshot:
        tally.wrong.append(f"{where}: the snapshot of {story.snapshot} is lost")
    return Story([border for border in borders if border <= end] or [1], None, snapshot)


def _faults(log: SqliteLog, end: int) -> list[str]:
    """Everything that is there is as it was written, and nothing else is there."""
    faults: list[str] = []
    with closing(log.reader()) as reader:
        entries = reader.scan(0, 10**6)
        if [entry.offset for entry in entries] != list(range(1, end)):
            faults.append(f"offsets up to {end} have gaps: {[entry.offset for entry in entries]}")
        if any(entry.body != _body(entry.offset) for entry in entries):
            faults.append("a body is not as it was written")
        runs = reader.runs(limit=10**6)
        if [(row.run, row.status) for row in runs] != [(run, _status(run)) for run in range(end - 1, 0, -1)]:
            faults.append("the index of runs is not that of the log")
        if sum(reader.counts().values()) != end - 1:
            faults.append("the counts of runs are not those of the log")
    seen = log.lookup([("power", str(run)) for run in range(1, end + 20)])
    if {int(sender_id) for _, sender_id in seen} != set(range(1, end)):
        faults.append("the senders' ids are not those of the log")
    if any(snapshot.offset > end or snapshot.body != _body(snapshot.offset, 3000) for snapshot in log.snapshots()):
        faults.append("a snapshot is not as it was written")
    if log.damaged_snapshots:
        faults.append(f"{log.damaged_snapshots} snapshots are damaged")
    if (said := log._open().pragma("integrity_check")) != "ok":
        faults.append(f"integrity: {said}")
    return faults


def _batch(epoch: int, end: int, count: int) -> tuple[Batch, int]:
    """The batch of `count` runs that begins at offset `end`, and the end after it."""
    runs = range(end, end + count)
    return Batch(
        epoch,
        entries=[Entry(run, run, 1, _body(run)) for run in runs],
        started=[RunStart(run, _id(run), "power", "v", "T", run) for run in runs],
        changed=[RunChange(run, _status(run), run) for run in runs if _status(run) == Status.COMPLETED],
        seen=[Seen("power", str(run), b"d", _id(run), _id(run), run) for run in runs],
    ), end + count


def _status(run: int) -> int:
    return int(Status.COMPLETED if run % 3 else Status.RUNNING)


def _id(run: int) -> bytes:
    return run.to_bytes(16, "big")


def _body(offset: int, most: int = 900) -> bytes:
    """What belongs at an offset."""
    random = Random(offset)  # noqa: S311 - the same bytes every time
    return random.randbytes(random.randrange(1, most))
