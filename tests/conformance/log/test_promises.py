"""What every log promises, tried on each of them: `cluster/log/protocol.py` is the law, this file holds them to it."""

from threading import Thread

import pytest

from ensue.cluster.log.protocol import Batch, Definition, Entry, Log, Reader, RunChange, RunRow, Snapshot
from ensue.events.errors import LogCorrupt, LogUnavailable, StaleEpoch
from ensue.events.state.run_status import Status

from ..logs import NOW_US, Store, commit_run, entry, observed, run_id, seen, start

# Offsets


def test_offsets_begin_at_one_and_an_entry_takes_as_many_as_it_has_records(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    assert (log.next_offset(), reader.next_offset()) == (1, 1)
    entries = [entry(1, count=3), entry(4, run=1, count=2), entry(6)]
    log.commit(Batch(epoch, entries, [start(1), start(6)]))
    assert (log.next_offset(), reader.next_offset()) == (7, 7)
    assert reader.scan(1, 10) == entries


@pytest.mark.parametrize(
    "entries",
    [
        [entry(2)],
        [entry(1), entry(3)],
        [entry(1, count=2), entry(2)],
        [entry(1), entry(1)],
        [entry(1, count=0)],
        [entry(1, count=-1), entry(0)],
        [entry(1, run=2)],
    ],
    ids=["late", "gap", "overlap", "twice", "empty", "backwards", "run of the future"],
)
def test_a_batch_that_is_not_gapless_is_refused_whole(log: Log, entries: list[Entry]) -> None:
    epoch = log.acquire("a")
    before = observed(log)
    with pytest.raises(LogCorrupt):
        log.commit(Batch(epoch, entries, [start(1)], [], [seen("1")]))
    assert observed(log) == before
    assert commit_run(log, epoch) == 1


def test_a_gap_behind_what_is_there_is_refused(log: Log) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, [entry(1, count=5)], [start(1)]))
    for offset in (1, 5, 7):
        with pytest.raises(LogCorrupt, match="offset 6"):
            log.commit(Batch(epoch, [entry(offset)]))
    assert log.next_offset() == 6


def test_a_commit_without_entries_moves_nothing_but_its_rows(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    run = commit_run(log, epoch)
    log.commit(Batch(epoch, changed=[RunChange(run, Status.COMPLETED, NOW_US)]))
    log.commit(Batch(epoch))
    assert log.next_offset() == 2
    assert reader.counts() == {("orders", Status.COMPLETED): 1}


# All or nothing


@pytest.mark.parametrize(
    "bad",
    [
        Batch(1, [entry(2)], [start(1)]),
        Batch(1, [entry(2)], [start(2)._replace(run_id=run_id(1))]),
        Batch(1, [entry(2), entry(3)], [start(2), start(2)]),
        Batch(1, [entry(2)], [start(2)], [RunChange(99, Status.FAILED, NOW_US)]),
        Batch(1, [entry(2)], [start(2)], [], [seen("1")]),
        Batch(1, [entry(2)], [start(2)], [], [seen("2"), seen("2")]),
    ],
    ids=["run again", "run id again", "run twice", "unknown run", "seen before", "seen twice"],
)
def test_a_batch_that_contradicts_the_log_leaves_nothing(log: Log, bad: Batch) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, [entry(1)], [start(1)], [], [seen("1")]))
    before = observed(log)
    with pytest.raises(LogCorrupt):
        log.commit(bad)
    assert observed(log) == before
    assert commit_run(log, epoch) == 2


# Epochs


def test_nobody_commits_before_the_log_is_acquired(log: Log) -> None:
    with pytest.raises(StaleEpoch):
        log.commit(Batch(0, [entry(1)], [start(1)]))
    assert log.next_offset() == 1


def test_a_stale_owner_commits_nothing_once_another_has_acquired(store: Store) -> None:
    old, new = store.open(), store.open()
    stale = old.acquire("old")
    commit_run(old, stale)
    current = new.acquire("new")
    before = observed(new)
    with pytest.raises(StaleEpoch):
        old.commit(Batch(stale, [entry(2)], [start(2)], [], [seen("1")]))
    with pytest.raises(StaleEpoch):
        old.save_snapshot(Snapshot(2, b"stale"))
    assert observed(new) == before
    assert list(new.snapshots()) == []
    assert commit_run(new, current) == 2
    with pytest.raises(StaleEpoch):
        old.commit(Batch(stale, [entry(3)], [start(3)]))
    assert observed(old) == observed(new)
    old.close()
    new.close()


def test_an_epoch_of_the_future_is_refused_too(log: Log) -> None:
    epoch = log.acquire("a")
    with pytest.raises(StaleEpoch):
        log.commit(Batch(epoch + 1, [entry(1)], [start(1)]))


def test_every_acquire_has_an_epoch_of_its_own_also_after_a_restart(store: Store) -> None:
    epochs: list[int] = []
    for owner in ("a", "a", "b"):
        log = store.open()
        epochs.append(log.acquire(owner))
        log.close()
    assert epochs == [1, 2, 3]


# Dedup


def test_what_was_seen_is_found_until_it_is_forgotten(log: Log) -> None:
    epoch = log.acquire("a")
    old, new = seen("1", NOW_US), seen("2", NOW_US + 1)
    log.commit(Batch(epoch, seen=[old, new]))
    keys = [("hooks/github", "1"), ("hooks/github", "2"), ("hooks/github", "3"), ("other", "1"), ("hooks/github", "1")]
    assert log.lookup(keys) == {keys[0]: old, keys[1]: new}
    assert log.lookup([]) == {}
    assert log.forget(NOW_US + 1, most=9) == 1
    assert log.lookup(keys) == {keys[1]: new}
    log.commit(Batch(epoch, seen=[old]))
    assert log.lookup(keys) == {keys[0]: old, keys[1]: new}


def test_no_more_is_forgotten_at_once_than_was_asked_for(log: Log) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, seen=[seen(str(number), NOW_US + number) for number in range(5)]))
    assert [log.forget(NOW_US + 4, most=3) for _ in range(3)] == [3, 1, 0]
    assert list(log.lookup([("hooks/github", str(number)) for number in range(5)])) == [("hooks/github", "4")]


# What is live


def test_live_is_what_belongs_to_runs_that_are_not_finished(log: Log) -> None:
    epoch = log.acquire("a")
    runs = {status: commit_run(log, epoch, status) for status in Status}
    live = sorted(run for status, run in runs.items() if status.live)
    assert [found.run for found in log.live()] == live
    assert [row.run for row in log.live_runs()] == live
    assert [found.offset for found in log.live(after=live[1])] == live[1:]


def test_a_run_leaves_live_when_it_finishes_and_comes_back_when_it_is_reopened(log: Log) -> None:
    epoch = log.acquire("a")
    run = commit_run(log, epoch)
    other = commit_run(log, epoch)
    log.commit(Batch(epoch, [entry(3, run=run, count=2)], [], [RunChange(run, Status.FAILED, NOW_US)]))
    assert [found.offset for found in log.live()] == [other]
    log.commit(Batch(epoch, [entry(5, run=run)], [], [RunChange(run, Status.RUNNING, None)]))
    assert [found.offset for found in log.live()] == [1, 2, 3, 5]
    assert [row.finished_us for row in log.live_runs()] == [None, None]


def test_of_two_changes_of_one_run_in_one_batch_the_last_one_holds(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    changed = [RunChange(1, Status.WAITING, None), RunChange(1, Status.COMPLETED, NOW_US)]
    log.commit(Batch(epoch, [entry(1)], [start(1)], changed))
    assert reader.counts() == {("orders", Status.COMPLETED): 1}


def test_live_is_as_of_its_first_step_whatever_is_committed_meanwhile(log: Log) -> None:
    epoch = log.acquire("a")
    runs = [commit_run(log, epoch) for _ in range(3)]
    live = log.live()
    assert next(live).run == runs[0]
    log.commit(Batch(epoch, [entry(4)], [start(4)], [RunChange(run, Status.COMPLETED, NOW_US) for run in runs]))
    assert [found.run for found in live] == runs[1:]


# Snapshots


def test_the_two_newest_snapshots_are_kept(log: Log) -> None:
    epoch = log.acquire("a")
    saved: list[Snapshot] = []
    for _ in range(4):
        commit_run(log, epoch)
        saved.append(Snapshot(log.next_offset(), b"state as of %d" % log.next_offset()))
        log.save_snapshot(saved[-1])
    assert list(log.snapshots()) == [saved[3], saved[2]]
    assert log.damaged_snapshots == 0


def test_a_damaged_snapshot_is_skipped_and_counted(store: Store, log: Log) -> None:
    epoch = log.acquire("a")
    for _ in range(2):
        commit_run(log, epoch)
        log.save_snapshot(Snapshot(log.next_offset(), b"state"))
    store.damage_snapshot(3)
    assert list(log.snapshots()) == [Snapshot(2, b"state")]
    assert log.damaged_snapshots == 1
    store.damage_snapshot(2)
    assert list(log.snapshots()) == []
    assert log.damaged_snapshots == 2


def test_a_snapshot_of_the_same_offset_takes_the_place_of_the_first(log: Log) -> None:
    log.acquire("a")
    log.save_snapshot(Snapshot(1, b"one"))
    log.save_snapshot(Snapshot(1, b"two"))
    assert list(log.snapshots()) == [Snapshot(1, b"two")]


def test_a_snapshot_beyond_the_end_is_refused(log: Log) -> None:
    log.acquire("a")
    with pytest.raises(LogCorrupt, match="ends at 1"):
        log.save_snapshot(Snapshot(2, b"lie"))


# Opening again


def test_everything_is_there_when_a_store_is_opened_again(store: Store) -> None:
    log = store.open()
    epoch = log.acquire("a")
    log.commit(Batch(epoch, [entry(1, count=2), entry(3)], [start(1), start(3)], [], [seen("1")]))
    log.save_snapshot(Snapshot(4, b"state"))
    log.define("orders", "v1", b"{}", NOW_US)
    log.checkpoint()
    before = observed(log)
    log.close()
    again = store.open()
    assert observed(again) == before
    assert list(again.snapshots()) == [Snapshot(4, b"state")]
    assert commit_run(again, again.acquire("b")) == 4
    again.close()


def test_a_closed_log_and_a_closed_reader_say_so_and_close_twice(log: Log, reader: Reader) -> None:
    for thing in (reader, log):
        thing.close()
        thing.close()
        with pytest.raises(LogUnavailable, match="closed"):
            thing.next_offset()


# Readers


def test_a_reader_finds_runs_by_id(log: Log, reader: Reader) -> None:
    run = commit_run(log, log.acquire("a"))
    assert reader.run(run_id(run)) == RunRow(
        run, run_id(run), "orders", "v1", "OrderPlaced", Status.RUNNING, NOW_US + run, None
    )
    assert reader.run(run_id(99)) is None


def test_the_entries_of_a_run_come_in_order_from_any_offset(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, [entry(1, count=2), entry(3), entry(4, run=1), entry(5, run=3)], [start(1), start(3)]))
    assert [found.offset for found in reader.entries(1)] == [1, 4]
    assert [found.offset for found in reader.entries(1, after=2)] == [4]
    assert reader.entries(99) == []
    assert [found.offset for found in reader.scan(3, 2)] == [3, 4]
    assert reader.scan(6, 2) == []
    assert reader.scan(1, 0) == []


def test_the_first_definition_of_a_version_stays(log: Log, reader: Reader) -> None:
    log.define("orders", "v1", b"first", 1)
    log.define("triage", "v1", b"other", 2)
    log.define("orders", "v1", b"second", 3)
    log.define("orders", "v2", b"next", 4)
    orders = [Definition("orders", "v1", b"first", 1), Definition("orders", "v2", b"next", 4)]
    assert reader.definitions("orders") == orders
    assert reader.definitions() == [orders[0], Definition("triage", "v1", b"other", 2), orders[1]]


def test_a_reader_in_another_thread_sees_only_whole_commits(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    ends: list[tuple[int, int]] = []

    def watch() -> None:
        while not ends or ends[-1][0] < 301:
            found = reader.scan(0, 1000)
            ends.append((found[-1].offset + 1 if found else 1, len(found)))

    thread = Thread(target=watch)
    thread.start()
    for first in range(1, 301, 3):
        log.commit(Batch(epoch, [entry(first), entry(first + 1), entry(first + 2)], [start(first)]))
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert all((end - 1) % 3 == 0 and length == end - 1 for end, length in ends)
