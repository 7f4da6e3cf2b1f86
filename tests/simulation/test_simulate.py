"""The simulator runs whole pipelines through hundreds of faults, deterministically, and checks the laws."""

import asyncio
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ensue import Breaker, BreakerOpened, Context, Event, GiveUp, Outcome, Pipeline, Retry, Supervision
from ensue.testing import LAWS, Faults, SimulationFailed, SimulationReport, simulate

from ..child_process import run_program
from .zoo import FRAIL, HARD, OPERATED, ZOO, Animal

SEEDS = 500


class Ping(Event):
    """The trigger."""

    n: int = 0


class Pong(Event):
    """The end."""

    n: int


def _ping(seconds: float = 0.0) -> Pipeline:
    p = Pipeline("ping")

    @p.step
    async def answer(event: Ping) -> Pong:
        await asyncio.sleep(seconds)
        return Pong(n=event.n)

    return p


def _by_name(animal: Animal) -> str:
    return animal.name


@pytest.mark.parametrize("animal", ZOO, ids=_by_name)
def test_no_law_is_broken_whatever_goes_wrong(animal: Animal) -> None:
    happened: set[str] = set()
    for seed in range(ZOO.index(animal), SEEDS, len(ZOO)):
        happened |= set(simulate(animal.pipeline, animal.feed, seed=seed).faults)
    assert happened == set(Faults.kinds()) - {"cancelled", "retried", "redriven"}


def test_workers_that_are_never_replaced_wait_for_the_operator_and_nothing_is_lost() -> None:
    p = Pipeline("once")

    @p.step(supervision=Supervision(child="temporary"))
    async def answer(event: Ping) -> Pong:
        await asyncio.sleep(1)
        return Pong(n=event.n)

    deaths = 0
    for seed in range(50):
        report = simulate(p, *(Ping(n=n) for n in range(4)), seed=seed, faults=Faults(worker_death=0.1))
        deaths += report.faults["worker_death"]
    assert deaths > 10


def test_a_step_that_its_pipeline_does_not_start_again_keeps_no_other_from_being_restarted() -> None:
    p = Pipeline("apart", supervision=Supervision(child="temporary"))

    @p.step(supervision=Supervision(intensity=0))
    async def brittle(event: Ping) -> None:
        await asyncio.sleep(1)

    @p.step(supervision=Supervision(intensity=1000))
    async def answer(event: Ping) -> Pong:
        await asyncio.sleep(1)
        return Pong(n=event.n)

    for seed in range(60):
        simulate(p, *(Ping(n=n) for n in range(4)), seed=seed, faults=Faults(worker_death=0.2))


@pytest.mark.parametrize("faults", [OPERATED, HARD, FRAIL], ids=["operators", "hard", "frail"])
@pytest.mark.parametrize("animal", ZOO, ids=_by_name)
def test_no_law_is_broken_by_operators_either_nor_when_little_gets_done(animal: Animal, faults: Faults) -> None:
    for seed in range(15):
        simulate(animal.pipeline, animal.feed, seed=seed, faults=faults)


@pytest.mark.parametrize("first", [True, False], ids=["declared-first", "declared-last"])
def test_a_step_that_names_a_breaker_has_its_exceptions_counted_as_it_was_declared(first: bool) -> None:
    p = Pipeline("mail")
    mail = Breaker("mail", failures_in_row=2, open_seconds=5, counts=LookupError)
    opened: list[str] = []

    def declare(event: Pong) -> None: ...

    def send(event: Ping) -> None:
        raise LookupError("no such host")

    steps: list[tuple[Callable[..., None], Breaker | str]] = [(declare, mail), (send, "mail")]
    for step, breaker in steps if first else reversed(steps):
        p.step(breaker=breaker, retry=1)(step)

    @p.step
    def alarm(event: BreakerOpened) -> None:
        opened.append(event.breaker)

    simulate(p, *(Ping(n=n) for n in range(3)), faults=Faults.none(), setup=opened.clear)
    assert opened[:1] == ["mail"]


@pytest.mark.parametrize("animal", ZOO, ids=_by_name)
def test_the_same_seed_writes_the_same_log(animal: Animal) -> None:
    digests = [[simulate(animal.pipeline, animal.feed, seed=seed).digest for seed in range(4)] for _ in range(2)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == len(digests[0])


def test_the_same_seed_writes_the_same_log_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from zoo import ZOO; from ensue.testing import simulate\n"
        "print([simulate(a.pipeline, a.feed, seed=seed).digest for a in ZOO for seed in range(3)])"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    printed = [
        run_program(command, cwd=tmp_path, env=os.environ | {"PYTHONHASHSEED": seed}, check=True).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert printed[0].count("'") > 2 * len(ZOO)


def test_a_run_without_faults_is_what_the_pipeline_says() -> None:
    report = simulate(_ping(), Ping(n=1), Ping(n=2), faults=Faults.none())
    assert [outcome.event for outcome in report.outcomes] == [Pong(n=1), Pong(n=2)]
    assert (report.statuses, report.faults, report.attempts) == ({"completed": 2}, {}, 2)


def test_hours_of_sleep_take_no_time() -> None:
    p = Pipeline("slow")

    @p.step(timeout=100_000)
    async def wait(event: Ping) -> Pong:
        await asyncio.sleep(80_000)
        return Pong(n=event.n)

    report = simulate(p, Ping(), faults=Faults.none())
    assert report.statuses == {"completed": 1}
    assert report.virtual_seconds > 80_000


def test_events_can_be_drawn_from_the_seed_and_sent_many_times() -> None:
    def feed(dice: random.Random) -> list[Event]:
        return [Ping(n=dice.randrange(1000)) for _ in range(3)]

    def drawn(seed: int) -> list[Event | None]:
        report = simulate(_ping(), feed, seed=seed, runs=5, faults=Faults.none())
        return [outcome.event for outcome in report.outcomes]

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1)[:2] == drawn(1)[3:]


async def test_it_can_be_called_from_an_async_test() -> None:
    assert simulate(_ping(0.1), Ping(), seed=3).statuses == {"completed": 1}


def test_a_check_of_ones_own_fails_a_seed_that_shrinks_and_is_replayed() -> None:
    calls: list[int] = []
    p = Pipeline("counting")

    @p.step
    def count(event: Ping) -> Pong:
        calls.append(event.n)
        return Pong(n=event.n)

    def called_once(report: SimulationReport) -> None:
        assert len(calls) == len(report.events), "somebody was called twice"

    events = [Ping(n=n) for n in range(8)]

    def fifty_seeds() -> None:
        for seed in range(50):
            simulate(p, *events, seed=seed, setup=calls.clear, check=called_once)

    with pytest.raises(SimulationFailed, match="somebody was called twice") as failed:
        fifty_seeds()
    assert failed.value.law == "check"
    assert len(failed.value.replay["keep_faults"]) <= 2
    assert len(failed.value.replay["keep_events"]) < len(events)
    with pytest.raises(SimulationFailed, match="simulate\\(counting, \\*events, seed="):
        simulate(p, *events, setup=calls.clear, check=called_once, shrink=False, **failed.value.replay)


def test_a_check_that_counts_on_all_events_keeps_them() -> None:
    def three_are_done(report: SimulationReport) -> None:
        assert report.statuses.get("completed") == 3

    with pytest.raises(SimulationFailed) as failed:
        simulate(_ping(), Ping(n=1), Ping(n=2), seed=5, check=three_are_done)
    assert failed.value.replay == {"seed": 5, "keep_faults": ()}


def test_setup_forgets_what_an_earlier_simulation_left() -> None:
    charged: list[str] = []
    p = Pipeline("charges")

    @p.step
    def charge(event: Ping, ctx: Context) -> Pong:
        charged.append(ctx.idempotency_key)
        return Pong(n=event.n)

    def each_once(report: SimulationReport) -> None:
        assert len(set(charged)) == report.statuses["completed"]

    for seed in range(20):
        simulate(p, *(Ping(n=n) for n in range(5)), seed=seed, setup=charged.clear, check=each_once)


def test_a_run_that_never_ends_is_reported_with_what_is_pending() -> None:
    p = Pipeline("loop")

    @p.step(retry=Retry(attempts=10_000_000, wait=86_400.0))
    def fail(event: Ping) -> Pong:
        raise ConnectionError("never")

    with pytest.raises(SimulationFailed, match="fail #1: WAITING") as failed:
        simulate(p, Ping(), faults=Faults.none(), within_seconds=1_000_000)
    assert failed.value.law == "everything ends"


def test_a_step_that_gives_up_is_an_outcome_and_no_broken_law() -> None:
    p = Pipeline("refusing")

    @p.step
    def refuse(event: Ping) -> Pong:
        raise GiveUp("no")

    outcome: Outcome = simulate(p, Ping(), seed=1).outcomes[0]
    assert (outcome.status, [error.message for error in outcome.errors]) == ("failed", ["no"])


def test_every_law_has_a_name_and_says_what_it_is() -> None:
    assert len({law.name for law in LAWS}) == len(LAWS)
    assert all(law.says.endswith(".") for law in LAWS)


def test_faults_say_what_differs_from_the_default_as_python() -> None:
    assert repr(Faults()) == "Faults()"
    assert repr(Faults(lost=0.5, cancelled=1.0)) == "Faults(lost=0.5, cancelled=1.0)"
    assert repr(Faults.none()) == "Faults.none()"
