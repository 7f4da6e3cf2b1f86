"""Any commits at all, refusals and restarts among them, leave every log as the simplest log there is would be."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue.cluster.log.protocol import (
    AuditRow,
    Batch,
    DeadFilter,
    DeadLetter,
    Entry,
    Fact,
    LetterSettled,
    Log,
    Reader,
    RunChange,
    RunRow,
    RunStart,
    Seen,
)
from ensue.events.errors import LogCorrupt
from ensue.events.state.run_status import LIVE, Status

from ..logs import KINDS, NOW_US, make_store


def start(run: int, pipeline: str) -> RunStart:
    return RunStart(run, run.to_bytes(16, "big"), pipeline, "v1", "OrderPlaced", NOW_US + run)


def seen(sender_id: str) -> Seen:
    return Seen("hooks/github", sender_id, b"digest", b"run", b"event", NOW_US)


def dead(number: int, value: int) -> DeadLetter:
    """A letter whose fields are few enough to meet: many have the same time."""
    return DeadLetter(
        number.to_bytes(16, "big"),
        value,
        value.to_bytes(16, "big"),
        number,
        f"pipeline-{value % 2}",
        f"step-{value % 3}",
        f"Type{value % 2}",
        b"event",
        ("error", "timeout")[value % 2],
        f"Error{value % 3}",
        f"message {value}",
        value,
        NOW_US + value,
        value % 4 == 0,
    )


class Act(NamedTuple):
    """One thing to remember, bury, settle or record: which of the few there are, and with what in it."""

    what: str
    which: int
    value: int


@dataclass
class Operations:
    """The simplest facts, dead letters and audit rows there are."""

    facts: dict[tuple[str, str], Fact] = field(default_factory=dict[tuple[str, str], Fact])
    dead: dict[bytes, DeadLetter] = field(default_factory=dict[bytes, DeadLetter])
    audit: list[AuditRow] = field(default_factory=list[AuditRow])

    def add_to(self, batch: Batch, acts: list[Act]) -> None:
        """Put these acts into a batch: right ones, so what is settled is there."""
        for _, which, value in (act for act in acts if act.what == "fact"):
            body = None if value == 0 else b"%d" % value
            batch.facts.append(Fact(f"kind-{which % 2}", f"name-{value % 3}", body, NOW_US + value))
            self.facts[batch.facts[-1][:2]] = batch.facts[-1]
        for _, which, value in (act for act in acts if act.what == "dead"):
            batch.dead.append(dead(which, value))
            self.dead[batch.dead[-1].letter_id] = batch.dead[-1]
        for _, which, value in (act for act in acts if act.what == "settled" and self.dead):
            letter_id = sorted(self.dead)[which % len(self.dead)]
            batch.settled.append(LetterSettled(letter_id, ("redriven", "discarded")[value % 2]))
            self.dead[letter_id] = self.dead[letter_id]._replace(state=batch.settled[-1].state)
        for _, which, value in (act for act in acts if act.what == "audit"):
            batch.audit.append(AuditRow(NOW_US + value, "ada", "did", f"subject-{which % 3}", f"{value}"))
        self.audit += batch.audit

    def wanted(self, wanted: DeadFilter) -> list[DeadLetter]:
        """What a filter leaves, newest first, each field in its plainest words."""
        found = sorted(self.dead.values(), key=lambda letter: (letter.time_us, letter.letter_id), reverse=True)
        found = [letter for letter in found if wanted.pipeline in (None, letter.pipeline)]
        found = [letter for letter in found if wanted.step in (None, letter.step)]
        found = [letter for letter in found if wanted.kind in (None, letter.kind)]
        found = [letter for letter in found if wanted.error in (None, letter.error)]
        found = [letter for letter in found if wanted.event_type in (None, letter.event_type)]
        found = [letter for letter in found if wanted.run_id in (None, letter.run_id)]
        found = [letter for letter in found if wanted.state in (None, letter.state)]
        found = [letter for letter in found if wanted.before_us is None or letter.time_us < wanted.before_us]
        return [letter for letter in found if wanted.after_us is None or letter.time_us >= wanted.after_us]


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
        open_again = make_store(kind, Path(folder)).open
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
    assert log.next_offset() == reader.next_offset() == model.end
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
    log, model = make_store(kind, tmp_path).open(), Model()
    log.commit(model.batch(log.acquire("a"), [(0, 1, number % 8) for number in range(1003)]))
    assert_same(log, model)
    log.close()


ACTS = st.builds(
    Act, st.sampled_from(("fact", "dead", "settled", "audit")), which=st.integers(0, 9), value=st.integers(0, 5)
)
FILTERS = st.builds(
    DeadFilter,
    st.sampled_from((None, "pipeline-0", "pipeline-1")),
    st.sampled_from((None, "step-0", "step-1")),
    st.sampled_from((None, "error", "timeout")),
    st.sampled_from((None, "Error0", "Error1")),
    st.sampled_from((None, "Type0", "Type1")),
    st.none() | st.integers(0, 5).map(lambda run: run.to_bytes(16, "big")),
    st.sampled_from((None, "open", "redriven", "discarded", "nothing")),
    before_us=st.none() | st.integers(NOW_US, NOW_US + 6),
    after_us=st.none() | st.integers(NOW_US, NOW_US + 6),
)
ANYTHING = [DeadFilter(), DeadFilter(state=None), DeadFilter("pipeline-0"), DeadFilter(None, "step-1", state=None)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(
    plans=st.lists(st.lists(ACTS, max_size=25), min_size=1, max_size=6),
    refused=st.integers(0, 5),
    filters=st.lists(FILTERS, max_size=5),
)
def test_any_facts_letters_settlements_and_actions_leave_what_the_model_says(
    kind: str, plans: list[list[Act]], refused: int, filters: list[DeadFilter]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        open_again = make_store(kind, Path(folder)).open
        log, model = open_again(), Operations()
        for number, plan in enumerate(plans):
            batch = Batch(log.acquire("a"))
            model.add_to(batch, plan)
            if number == refused:
                wrong = replace(batch, settled=[*batch.settled, LetterSettled(b"nobody's", "redriven")])
                with pytest.raises(LogCorrupt):
                    log.commit(wrong)
            log.commit(batch)
            if number % 2:
                log.close()
                log = open_again()
        assert_same_operations(log, model, [*ANYTHING, *filters])
        log.close()


def assert_same_operations(log: Log, model: Operations, filters: list[DeadFilter]) -> None:
    reader = log.reader()
    for kind in ("kind-0", "kind-1", "nothing"):
        facts = sorted(fact for fact in model.facts.values() if fact.kind == kind and fact.body is not None)
        assert reader.facts(kind) == log.facts(kind) == facts
    for wanted in filters:
        assert_letters(reader, wanted, model.wanted(wanted))
    assert all(reader.dead_letter(letter_id) == letter for letter_id, letter in model.dead.items())
    depth = {(letter.pipeline, letter.step): (0, letter.time_us) for letter in model.wanted(DeadFilter())}
    for letter in model.wanted(DeadFilter()):
        count, oldest_us = depth[letter.pipeline, letter.step]
        depth[letter.pipeline, letter.step] = (count + 1, min(oldest_us, letter.time_us))
    assert reader.dead_depth() == depth
    assert reader.audit(limit=1000) == model.audit[::-1]
    of_one = [row for row in reversed(model.audit) if row.subject == "subject-1"]
    assert reader.audit(subject="subject-1", limit=3) == of_one[:3]
    reader.close()


def assert_letters(reader: Reader, wanted: DeadFilter, expected: list[DeadLetter]) -> None:
    """Pages of two are together what the filter leaves."""
    found: list[DeadLetter] = []
    while page := reader.dead(wanted, after=found[-1].letter_id if found else None, limit=2):
        found += page
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_facts_letters_and_actions_in_one_commit_are_all_there(kind: str, tmp_path: Path) -> None:
    log, model = make_store(kind, tmp_path).open(), Operations()
    for what in ("dead", "settled"):
        batch = Batch(log.acquire("a"))
        model.add_to(batch, [Act(word, n, n % 6) for n in range(1003) for word in (what, "fact", "audit")])
        log.commit(batch)
    reader = log.reader()
    assert reader.dead(DeadFilter(state=None), limit=2000) == model.wanted(DeadFilter(state=None))
    assert reader.audit(limit=3000) == model.audit[::-1]
    reader.close()
    log.close()
