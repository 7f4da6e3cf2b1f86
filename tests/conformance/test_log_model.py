"""Any commits at all, refusals and restarts among them, leave every log as the simplest log there is would be."""

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue.cluster.log import Batch, Entry, Log, Reader, RunChange, RunRow, RunStart, Seen
from ensue.cluster.memory_log import MemoryLog, MemoryStore
from ensue.cluster.sqlite_log import SqliteLog
from ensue.events.errors import LogCorrupt
from ensue.events.status import LIVE, Status

KINDS = ("memory", "full", "relaxed")
NOW_US = 1_700_000_000_000_000


def make_store(kind: str, folder: str) -> Callable[[], Log]:
    """A store that can be opened again and again."""
    if kind == "memory":
        store = MemoryStore()
        return lambda: MemoryLog(store)
    return lambda: SqliteLog(str(Path(folder) / "ensue.db"), "full" if kind == "full" else "relaxed")


def start(run: int, pipeline: str) -> RunStart:
    return RunStart(run, run.to_bytes(16, "big"), pipeline, "v1", "OrderPlaced", NOW_US + run)


def seen(sender_id: str) -> Seen:
    return Seen("hooks/github", sender_id, b"digest", b"run", b"event", NOW_US)


@dataclass
class Model:
    """The simplest log there is."""

    entries: list[Entry] = field(default_factory=list[Entry])
    runs: dict[int, RunRow] = field(default_factory=dict[int, RunRow])
    seen: dict[tuple[str, str], Seen] = field(default_factory=dict[tuple[str, str], Seen])
    end: int = 1

    def batch(self, epoch: int, plan: "list[tuple[int, int, int]]") -> Batch:
        """A right batch: each (choice, count, status) starts a run or goes on with one, and may change it."""
        batch = Batch(epoch)
        for choice, count, status in plan:
            run = sorted(self.runs)[choice % len(self.runs)] if choice and self.runs else self.end
            if run == self.end:
                batch.started.append(start(run, f"pipeline-{choice % 3}"))
                self.runs[run] = RunRow(*batch.started[-1][:5], Status.RUNNING, batch.started[-1].started_us, None)
                batch.seen.append(seen(str(run)))
                self.seen["hooks/github", str(run)] = batch.seen[-1]
            if status:
                change = RunChange(run, status, None if status in LIVE else NOW_US + self.end)
                batch.changed.append(change)
                self.runs[run] = self.runs[run]._replace(status=change.status, finished_us=change.finished_us)
            batch.entries.append(Entry(self.end, run, count, b"body of %d" % self.end))
            self.end += count
        self.entries += batch.entries
        return batch


PLANS = st.lists(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4), st.integers(0, 7)), max_size=40), min_size=1, max_size=6
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(plans=PLANS, refused=st.integers(0, 5))
def test_any_commits_leave_what_the_model_says(
    kind: str, plans: list[list[tuple[int, int, int]]], refused: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        open_again = make_store(kind, folder)
        log, model = open_again(), Model()
        for number, plan in enumerate(plans):
            epoch = log.acquire("a")
            batch = model.batch(epoch, plan)
            if number == refused:
                with pytest.raises(LogCorrupt):
                    log.commit(
                        Batch(
                            epoch,
                            [*batch.entries, Entry(model.end + 1, model.end + 1, 1, b"gap")],
                            batch.started,
                            batch.changed,
                        )
                    )
            log.commit(batch)
            if number % 2:
                log.close()
                log = open_again()
        assert_same(log, model)
        log.close()


def assert_same(log: Log, model: Model) -> None:
    reader = log.reader()
    live = {run for run, row in model.runs.items() if row.status in LIVE}
    assert log.end() == reader.end() == model.end
    assert reader.scan(0, 10_000) == model.entries
    assert list(log.live()) == [found for found in model.entries if found.run in live]
    assert [row.run for row in log.live_runs()] == sorted(live)
    assert reader.runs(limit=10_000) == [model.runs[run] for run in sorted(model.runs, reverse=True)]
    assert_pages(reader, sorted(model.runs.values(), reverse=True))
    assert reader.counts() == Counter((row.pipeline, row.status) for row in model.runs.values())
    assert log.lookup(list(model.seen)) == model.seen
    for run in model.runs:
        assert reader.entries(run) == [found for found in model.entries if found.run == run]
    reader.close()


def assert_pages(reader: Reader, newest_first: list[RunRow]) -> None:
    """Pages of three through any filter are together what the filter leaves."""
    filters: list[list[int] | None] = [None, [], [Status.COMPLETED], [Status.FAILED], [4, 1, 4], [3, 5]]
    for statuses, pipeline in product(filters, (None, "pipeline-1", "nobody")):
        wanted = [row for row in newest_first if pipeline in (None, row.pipeline)]
        wanted = [row for row in wanted if statuses is None or row.status in statuses]
        pages: list[RunRow] = []
        before: int | None = None
        while page := reader.runs(pipeline=pipeline, statuses=statuses, before=before, limit=3):
            assert len(page) <= 3
            pages += page
            before = page[-1].run
        assert pages == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_rows_of_each_kind_in_one_commit_are_all_there(kind: str, tmp_path: Path) -> None:
    log, model = make_store(kind, str(tmp_path))(), Model()
    log.commit(model.batch(log.acquire("a"), [(0, 1, number % 8) for number in range(1003)]))
    assert_same(log, model)
    log.close()
