"""The simulator finds faults: for each mutant of the engine it finds a seed, which shrinks and breaks the same law."""

import dataclasses
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from ensue.actors.partition import recovery
from ensue.actors.partition.batch import batch_of
from ensue.actors.partition.loop import Partition
from ensue.actors.simulation import owner
from ensue.actors.worker import executor
from ensue.actors.worker.invoke import Item
from ensue.actors.worker.seen_deliveries import SeenDeliveries
from ensue.cluster.log.memory import log as memory_log
from ensue.cluster.log.memory.log import MemoryLog, MemoryStore
from ensue.cluster.log.protocol import Seen
from ensue.events.decide import core as decide
from ensue.events.decide import results
from ensue.events.decide.breakers import Breakers
from ensue.events.decide.commands import Decision
from ensue.events.decide.decision_builder import DecisionBuilder
from ensue.events.state import keys, transitions
from ensue.events.state.records import NewRecord, RecordKind
from ensue.events.state.state import Delivery, State
from ensue.events.supervision.policy import How
from ensue.events.supervision.supervisor import Child, Supervisor
from ensue.testing import Faults, SimulationFailed, simulate

from .zoo import FRAIL, ZOO

MOST_SEEDS = 150
WITHIN_SECONDS = 900.0
STUCK = Faults(hung=0.1, lost=0.2, lasting_seconds=120.0)
OVERTAKEN = Faults(reordered=0.3)
DOUBLED = dataclasses.replace(Faults.none(), doubled=0.1, slow=0.2)
Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]
ANIMALS = {animal.name: animal for animal in ZOO}


def carries_out_before_committing(patch: Patch) -> None:
    act = Partition._carry_out

    def carry_out(self: Partition, decision: Decision) -> None:
        real, self._log = self._log, _Silent()  # type: ignore[assignment]
        try:
            act(self, decision)
        finally:
            self._log = real
        if decision.writes:
            self._log.commit(batch_of(decision, self.epoch))

    patch.setattr(Partition, "_carry_out", carry_out)


def recovers_all_runs_but_one(patch: Patch) -> None:
    real = recovery.recover

    def recover(*arguments: Any) -> recovery.Recovered:
        recovered = real(*arguments)
        for run_id in list(recovered.decider.state.runs)[:1]:
            del recovered.decider.state.runs[run_id]
        return recovered

    patch.setattr(owner, "recover", recover)


def leases_a_key_twice(patch: Patch) -> None:
    def enqueue(state: State, delivery: Delivery) -> None:
        keys.ready(state, delivery)

    patch.setattr(transitions, "enqueue", enqueue)


def takes_a_delivery_twice(patch: Patch) -> None:
    real = SeenDeliveries.fresh

    def fresh(self: SeenDeliveries, items: list[Item]) -> list[Item]:
        real(self, items)
        return items

    patch.setattr(SeenDeliveries, "fresh", fresh)


def calls_nothing_missing(patch: Patch) -> None:
    def missing(_self: SeenDeliveries, _tokens: list[int]) -> list[int]:
        return []

    patch.setattr(SeenDeliveries, "missing", missing)


def calls_missing_what_it_then_takes(patch: Patch) -> None:
    def missing(self: SeenDeliveries, tokens: list[int]) -> list[int]:
        return [token for token in tokens if token not in self._owed]

    patch.setattr(SeenDeliveries, "missing", missing)


def lets_a_stale_owner_commit(patch: Patch) -> None:
    def check_epoch(_store: MemoryStore, _epoch: int) -> None:
        """Everybody may."""

    patch.setattr(memory_log, "_check_epoch", check_epoch)


def forgets_who_sent_before(patch: Patch) -> None:
    def lookup(_self: MemoryLog, _keys: list[tuple[str, str]]) -> dict[tuple[str, str], Seen]:
        return {}

    patch.setattr(MemoryLog, "lookup", lookup)


def records_no_attempt(patch: Patch) -> None:
    real = DecisionBuilder.record

    def record(self: DecisionBuilder, run: Any, record: NewRecord) -> None:
        real(self, run, record)
        kind, *_ = record
        if kind == RecordKind.ATTEMPT:  # it was applied, and does not get into the log
            run.records.pop()

    patch.setattr(DecisionBuilder, "record", record)


def passes_over_a_gap_in_a_stream(patch: Patch) -> None:
    def finished(self: decide.Decider, delivery: Delivery, item: list[Any]) -> None:
        if item[0] == 0:
            results.done(self._builder, delivery, item)
            self._builder.settle(delivery.run)
        else:
            real(self, delivery, item)

    real = decide.Decider._finished
    patch.setattr(decide.Decider, "_finished", finished)


def forgets_what_was_with_workers(patch: Patch) -> None:
    """After a restart nothing is ready again: what the last owner had with workers is lost."""

    def resume_delivery(_builder: object, _delivery: Delivery, _most_losses: int) -> None:
        """It stays with its worker."""

    patch.setattr(decide, "resume_delivery", resume_delivery)


def undoes_the_oldest_first(patch: Patch) -> None:
    def compensate_next(state: State, run: Any) -> None:
        if run.compensations:
            run.compensations = dict(reversed(list(run.compensations.items())))
        real(state, run)

    real = transitions._compensate_next
    patch.setattr(transitions, "_compensate_next", compensate_next)


def forgets_open_breakers(patch: Patch) -> None:
    real = Breakers.__init__

    def init(self: Breakers, plans: Any, queues: Any, builder: Any, _facts: Any) -> None:
        real(self, plans, queues, builder, {})

    patch.setattr(Breakers, "__init__", init)


def says_only_once_that_it_is_stuck(patch: Patch) -> None:
    patch.setattr(executor, "_REPEAT_SECONDS", inf)


def never_hands_a_fault_up(patch: Patch) -> None:
    def give_up(self: Supervisor, child: Child, _reason: str, now_us: int) -> list[Any]:
        return self._restart(child, How.CRASHED, now_us)

    patch.setattr(Supervisor, "_give_up", give_up)


class _Silent:
    """A log that writes nothing."""

    def commit(self, _batch: object) -> None:
        """Nothing."""


MUTANTS: list[tuple[Mutant, str, set[str]]] = [
    (carries_out_before_committing, "keys", {"attempts are recorded first", "no loss"}),
    (
        recovers_all_runs_but_one,
        "fan",
        {"everything ends", "nothing surprises", "the log is the truth"},
    ),
    (leases_a_key_twice, "keys", {"order of keys"}),
    (takes_a_delivery_twice, "fan", {"one attempt at a time", "nothing void begins"}),
    (calls_nothing_missing, "fan", {"everything ends"}),
    (calls_missing_what_it_then_takes, "keys", {"one attempt at a time", "nothing void begins"}),
    (lets_a_stale_owner_commit, "fan", {"one owner", "nothing surprises"}),
    (forgets_who_sent_before, "keys", {"nothing surprises", "once"}),
    (records_no_attempt, "join", {"attempts are recorded first", "nothing surprises"}),
    (passes_over_a_gap_in_a_stream, "streams", {"results are complete"}),
    (forgets_what_was_with_workers, "join", {"everything ends"}),
    (undoes_the_oldest_first, "saga", {"undone in reverse"}),
    (forgets_open_breakers, "breakers", {"breakers hold"}),
    (says_only_once_that_it_is_stuck, "join", {"everything ends"}),
    (never_hands_a_fault_up, "fan", {"supervision holds"}),
]
FAULTS: dict[Mutant, Faults] = {
    calls_missing_what_it_then_takes: OVERTAKEN,
    says_only_once_that_it_is_stuck: STUCK,
    never_hands_a_fault_up: FRAIL,
}


@pytest.mark.parametrize(("mutate", "animal", "laws"), MUTANTS, ids=[row[0].__name__ for row in MUTANTS])
def test_a_mutant_is_found_and_its_smallest_seed_replays(
    mutate: Mutant, animal: str, laws: set[str], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    found = _first_failure(animal, FAULTS.get(mutate, Faults()))
    assert found.law in laws
    shrunk = found.replay
    pipeline, feed = ANIMALS[animal].pipeline, ANIMALS[animal].feed
    with pytest.raises(SimulationFailed) as again:
        simulate(pipeline, feed, shrink=False, **shrunk)
    assert again.value.law == found.law
    assert again.value.report.digest == found.report.digest
    monkeypatch.undo()
    simulate(pipeline, feed, shrink=False, **shrunk)


def test_a_failure_shrinks_to_the_faults_that_matter(monkeypatch: Patch) -> None:
    takes_a_delivery_twice(monkeypatch)
    found = _first_failure("fan", DOUBLED)
    assert len(found.replay["keep_faults"]) <= 3
    assert any(name.startswith("doubled#") for name in found.replay["keep_faults"])
    assert len(found.replay["keep_events"]) < len(found.report.outcomes) + 8


def _first_failure(animal: str, faults: Faults) -> SimulationFailed:
    for seed in range(MOST_SEEDS):
        try:
            simulate(
                ANIMALS[animal].pipeline, ANIMALS[animal].feed, seed=seed, faults=faults, within_seconds=WITHIN_SECONDS
            )
        except SimulationFailed as error:
            return error
    pytest.fail(f"{MOST_SEEDS} seeds did not find it")
