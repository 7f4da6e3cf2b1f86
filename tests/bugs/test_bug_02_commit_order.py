"""Bug 2: sequence order is not commit order. A reader that pages with `scan` never passes over an event.

Seen: Eventuous 222, prooph 189: a number was drawn first and committed later, so a reader that had read 7 already
never saw 6.

Mutant: `end_after(...)` dropped from `SqliteLog.commit` (cluster/log/sqlite/log.py), its epoch check kept;
tried 2026-11-21: red.
Mutant: `if offset != end` of `end_after` (cluster/log/protocol.py) is `if offset < end`; tried 2026-11-21: red.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import LocalEngine
from ensue.cluster.log.open import open_log
from ensue.cluster.log.protocol import Batch, Log, Reader, Seen
from ensue.cluster.log.sqlite.log import SqliteLog
from ensue.events.errors import LogCorrupt

from ..conformance.logs import Store, entry, start

pytestmark = pytest.mark.timeout(60)


class Pages:
    """A reader that follows the log page by page and never looks back."""

    def __init__(self, reader: Reader) -> None:
        self.offsets: list[int] = []
        self._reader = reader
        self._after = 1

    def turn(self) -> None:
        """Read the next page."""
        for found in self._reader.scan(self._after, 7):
            self.offsets += range(found.offset, found.offset + found.count)
            self._after = found.offset + found.count


def numbered(epoch: int, *runs: int) -> Batch:
    return Batch(epoch, [entry(run) for run in runs], [start(run) for run in runs])


def test_who_drew_the_later_numbers_cannot_commit_them_before_the_earlier_ones(store: Store) -> None:
    with closing(store.open()) as early, closing(store.open()) as late, closing(early.reader()) as reader:
        epoch, pages = early.acquire("both"), Pages(reader)
        with pytest.raises(LogCorrupt, match="the next record must have offset 1"):
            late.commit(numbered(epoch, 4, 5))
        pages.turn()
        early.commit(numbered(epoch, 1, 2, 3))
        pages.turn()
        late.commit(numbered(epoch, 4, 5))
        pages.turn()
        assert pages.offsets == [1, 2, 3, 4, 5]


def test_a_commit_that_is_not_over_shows_nothing_to_who_reads_in_the_middle_of_it(tmp_path: Path) -> None:
    with closing(SqliteLog(str(tmp_path / "ensue.db"))) as log, closing(log.reader()) as reader:
        epoch, pages = log.acquire("one"), Pages(reader)
        log.commit(numbered(epoch, 1))
        middle: list[list[int]] = []

        class Looking(list[Seen]):
            """The last that a commit writes: after it, a reader gets a turn."""

            def __len__(self) -> int:
                pages.turn()
                middle.append(list(pages.offsets))
                return super().__len__()

        batch = numbered(epoch, 2, 3)
        batch.seen = Looking([Seen("shop", "1", b"", b"", b"", 1)])
        log.commit(batch)
        assert middle
        assert all(offsets == [1] for offsets in middle)
        pages.turn()
        assert pages.offsets == [1, 2, 3]


def test_many_writers_who_draw_numbers_and_commit_when_they_can_leave_no_gap_to_a_reader(tmp_path: Path) -> None:
    url, wanted = f"sqlite:///{tmp_path / 'ensue.db'}?durability=relaxed", 100
    numbers = itertools.count(1)

    def draw_and_commit(log: Log, epoch: int) -> None:
        while (number := next(numbers)) <= wanted:
            while not committed(log, numbered(epoch, number)):
                pass  # the writer that drew the number before has to commit first

    with closing(open_log(url)) as first, closing(first.reader()) as reader:
        epoch, pages = first.acquire("all"), Pages(reader)
        logs = [open_log(url) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            writing = [pool.submit(draw_and_commit, log, epoch) for log in logs]
            follow(pages, lambda: not all(task.done() for task in writing))
        for task, log in zip(writing, logs, strict=True):
            task.result()
            log.close()
        assert pages.offsets == list(range(1, wanted + 1))


def committed(log: Log, batch: Batch) -> bool:
    """Whether a batch could be committed at its offsets."""
    try:
        log.commit(batch)
    except LogCorrupt:
        return False
    return True


def follow(pages: Pages, going: Callable[[], bool]) -> None:
    """Page while it goes on, and once more."""
    while going():
        pages.turn()
    seen = -1
    while seen != len(pages.offsets):
        seen = len(pages.offsets)
        pages.turn()


class Order(Event):
    n: int


async def test_a_reader_that_pages_beside_an_engine_at_work_passes_over_nothing(tmp_path: Path) -> None:
    flow = Pipeline("paged")

    @flow.step
    def work(event: Order) -> list[Order] | None:
        return [Order(n=event.n - 1)] * 2 if event.n else None

    over = threading.Event()
    async with LocalEngine(flow, store=f"sqlite:///{tmp_path / 'ensue.db'}?durability=relaxed") as engine:
        reader = engine.reader()
        pages = Pages(reader)
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow, pages, lambda: not over.is_set())
            try:
                for run in [await engine.emit(Order(n=4)) for _ in range(20)]:
                    await run.result(30)
            finally:
                over.set()
            following.result()
        assert pages.offsets == list(range(1, reader.next_offset()))
        reader.close()
