"""What a second review found wrong in the core: order of steps, keys, letters, suspects, timers, forces; one test each.

Each provokes its defect in the smallest pipeline that shows it; workers answer as they are told.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from ensue import Event, Pipeline, Retry
from ensue.events.decide.inputs import Cancel, Completed, CompletionKind, Emit, Force, Redrive, StepBroken, WorkerDown
from ensue.events.errors import EventInvalid
from ensue.events.model.codec import encode, unpack
from ensue.events.pipelines.plan import compile_plan
from ensue.events.pipelines.version import version_of
from ensue.events.policies.breaker import BreakerStatus
from ensue.events.state.records import unpack_records
from ensue.events.state.replay import fold
from ensue.events.state.snapshot import dump, load
from ensue.events.state.state import Run, State

from .answers import TRANSIENT, Item, Order, Paid, emit_all, ends, fails, held, one, returns
from .core_driver import CoreDriver, picture


class Keyed(Event, key="name"):
    name: str
    n: int = 0


def keyed_item(n: int, key: str | None) -> list[Any]:
    return [Item.__event_type__, 1, encode(Item(n=n)), key]


def numbers(driver: CoreDriver, step: str) -> list[int]:
    """The `n` of the events that a step's workers hold, in the order in which they got them."""
    return [unpack(item[6][0][3])["n"] for _, item in held(driver, step)]


def redrive(driver: CoreDriver, run_id: bytes, instead: list[Any] | None = None) -> None:
    """An operator has the first delivery of a run go again, perhaps with another event."""
    assert redriven(driver, run_id, instead) is None


def redriven(driver: CoreDriver, run_id: bytes, instead: list[Any] | None = None) -> object:
    """What an operator hears who has the first delivery of a run go again, perhaps with another event."""
    order = Redrive(run_id, driver.number_of(run_id), 1, "ann", edited=instead and [bytes(16), *instead])
    order.entries, order.as_of, order.reply = driver.entries_of(run_id), driver.decider.next_offset, object()
    [answer] = driver.tell(order).answers
    return answer.value


def with_steps(*steps: str) -> Pipeline:
    """A pipeline of steps that hear the same event, declared in this order."""
    flow = Pipeline("same")
    for name in steps:
        flow.step(name=name)(_hears)
    return flow


def _hears(event: Order) -> None: ...


@pytest.mark.parametrize("reads", ["the log", "a snapshot"])
def test_the_order_in_which_code_declares_steps_changes_nothing_of_what_is_under_way(reads: str) -> None:
    driver = CoreDriver(with_steps("charge", "mail"))
    driver.emit(Order())
    returns(driver, "charge")
    swapped = with_steps("mail", "charge")
    assert version_of(swapped.declaration) == version_of(driver.pipeline.declaration)
    plans = {"same": compile_plan(swapped.declaration, "v1")}
    if reads == "the log":
        state, runs = State(), dict[int, Run]()
        for entry in driver.log:
            assert fold(state, plans, runs, entry.run, unpack_records(entry.body))
    else:
        state = load(unpack(dump(driver.decider.state)), plans)[0]
    [run] = state.runs.values()
    assert [delivery.step.name for delivery in run.deliveries.values()] == ["mail"]


def test_thousands_that_wait_for_a_key_of_a_step_without_workers_fail_with_it() -> None:
    flow = Pipeline("queue")

    @flow.step
    def work(event: Keyed) -> None: ...

    driver = CoreDriver(flow)
    driver.tell(WorkerDown(1, "gone", True))
    del driver.steps[1]
    for n in range(1_500):
        driver.emit(Keyed(name="k", n=n), "k")
    driver.tell(StepBroken("queue", "work", "cannot import"))
    assert ends(driver) == ["failed"] * 1_500
    assert driver.decider.state.key_queues == {}


def test_the_next_event_of_a_key_waits_until_a_cancelled_attempt_has_stopped() -> None:
    flow = Pipeline("queue")

    @flow.step
    def work(event: Keyed) -> None: ...

    driver = CoreDriver(flow)
    first = driver.emit(Keyed(name="k", n=1), "k")
    driver.emit(Keyed(name="k", n=2), "k")
    worker, item = one(driver, "work")
    decision = driver.tell(Cancel(first))
    assert [(stop.worker, stop.tokens) for stop in decision.cancel] == [(worker, [item[0]])]
    assert numbers(driver, "work") == [1]
    driver.answer(worker, item, CompletionKind.RELEASE)
    assert numbers(driver, "work") == [2]
    assert ends(driver) == ["cancelled"]
    assert picture(driver.decider.state) == picture(driver.replayed())


def test_a_step_of_which_one_worker_is_at_work_is_not_broken() -> None:
    flow = Pipeline("half")

    @flow.step(replicas=2)
    def work(event: Order) -> None: ...

    driver = CoreDriver(flow)
    driver.tell(StepBroken("half", "work", "the other does not start"))
    driver.tell(WorkerDown(1, "its node is drained", True))
    driver.emit(Order())
    assert ends(driver) == []
    driver.add_worker("work")
    returns(driver, "work")
    assert ends(driver) == ["completed"]


def test_a_letter_of_a_generator_that_had_emitted_is_run_again_as_it_is_and_not_with_another_event() -> None:
    flow = Pipeline("split")

    @flow.step(retry=Retry(attempts=1))
    def read(event: Order) -> Iterator[Item]:
        yield Item()

    @flow.step
    def take(event: Item) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order(n=1))
    worker, item = one(driver, "read")
    driver.answer(worker, item, CompletionKind.STREAM, 0, [keyed_item(n, None) for n in (10, 11)])
    fails(driver, "read")
    for _ in range(2):
        returns(driver, "take")
    other = [Order.__event_type__, 1, encode(Order(n=2)), None]
    assert isinstance(redriven(driver, run_id, other), EventInvalid)
    assert driver.decider.state.runs == {}
    redrive(driver, run_id)
    worker, item = one(driver, "read")
    driver.answer(worker, item, CompletionKind.STREAM, 2, [keyed_item(12, None)])
    assert numbers(driver, "take") == [12]
    assert picture(driver.decider.state) == picture(driver.replayed())


def test_a_letter_with_another_event_waits_behind_those_of_its_new_key() -> None:
    flow = Pipeline("queue")

    @flow.step
    def work(event: Keyed) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Keyed(name="a", n=1), "a")
    fails(driver, "work")
    driver.emit(Keyed(name="b", n=2), "b")
    redrive(driver, run_id, [Keyed.__event_type__, 1, encode(Keyed(name="b", n=3)), "b"])
    assert numbers(driver, "work") == [2]
    returns(driver, "work")
    assert numbers(driver, "work") == [3]
    assert picture(driver.decider.state) == picture(driver.replayed())


def test_letters_and_events_of_one_key_keep_their_order_over_a_restart() -> None:
    flow = Pipeline("queue")

    @flow.step
    def first(event: Keyed) -> None: ...

    @flow.step
    def second(event: Keyed) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Keyed(name="a"), "a")
    fails(driver, "first")
    fails(driver, "second")
    for worker in list(driver.steps):
        driver.tell(WorkerDown(worker, "gone", True))
    entries, as_of, number = driver.entries_of(run_id), driver.decider.next_offset, driver.number_of(run_id)
    letters = [Redrive(run_id, number, delivery, "ann", entries=entries, as_of=as_of) for delivery in (1, 2)]
    between = Emit("queue", b"r" * 16, b"e" * 16, Keyed.__event_type__, 1, encode(Keyed(name="a")), "a")
    driver.tell(letters[0], between, letters[1])
    queues = [_queued(driver.decider.state, step) for step in ("first", "second")]
    assert queues == [[run_id, b"r" * 16], [b"r" * 16, run_id]]
    assert [_queued(driver.replayed(), step) for step in ("first", "second")] == queues


def test_what_goes_on_after_a_pivot_keeps_its_place_among_those_of_its_key_over_a_restart() -> None:
    flow = Pipeline("pivot")

    @flow.step
    def reserve(event: Order) -> None: ...

    @flow.compensate(reserve)
    def release(event: Order) -> None: ...

    @flow.step
    def split(event: Order) -> Keyed: ...  # type: ignore[empty-body]

    @flow.step
    def work(event: Keyed) -> None: ...

    @flow.step(pivot=True)
    def pay(event: Order) -> None: ...

    driver = CoreDriver(flow)
    first = driver.emit(Keyed(name="a"), "a")
    doubted = driver.emit(Order())
    returns(driver, "reserve")
    worker, item = one(driver, "split")
    driver.answer(
        worker, item, CompletionKind.DONE, 10, [[Keyed.__event_type__, 1, encode(Keyed(name="a")), "a"]], False
    )
    paying, pay_item = one(driver, "pay")
    between = Emit("pivot", b"r" * 16, b"e" * 16, Keyed.__event_type__, 1, encode(Keyed(name="a")), "a")
    driver.tell(Cancel(doubted), between, Completed(paying, [[CompletionKind.DONE, pay_item[0], 10, [], False]]))
    assert _queued(driver.decider.state, "work") == [first, b"r" * 16, doubted]
    assert _queued(driver.replayed(), "work") == [first, b"r" * 16, doubted]


def _queued(state: State, step: str) -> list[bytes]:
    """The runs that wait for a step's only key, in their order."""
    [queue] = [queue for name, queue in state.key_queues.items() if step in name]
    return [delivery.run.run_id for delivery in queue]


def test_a_suspect_that_probes_a_circuit_goes_to_an_idle_worker() -> None:
    flow = Pipeline("bank")

    @flow.step(replicas=2)
    def call(event: Order) -> None: ...

    driver = CoreDriver(flow, 8)
    busy = driver.add_worker("call")
    emit_all(driver, 2)
    driver.tell(Force("bank/call", True, "ann", 1.0))
    del driver.held[1], driver.steps[1]
    driver.tell(WorkerDown(1, "died"))
    driver.emit(Order())
    driver.tell(seconds=2)
    assert [worker for worker, _ in held(driver, "call")] == [busy, busy]
    assert _suspects(driver) == []
    for _ in range(2):
        returns(driver, "call")
    assert [item[0] for _, item in held(driver, "call")] == _suspects(driver)
    assert len(_suspects(driver)) == 1


def _suspects(driver: CoreDriver) -> list[int]:
    """The tokens of suspects that are with workers."""
    slots = [slot for slot, _ in driver.decider.workers.values()]
    return [token for slot in slots for token, delivery in slot.leases.items() if delivery.crashes]


def test_timers_of_cancelled_runs_are_forgotten() -> None:
    flow = Pipeline("patient")

    @flow.step(retry=Retry(attempts=9, wait=3_600))
    def call(event: Order) -> None: ...

    driver = CoreDriver(flow)
    for _ in range(1_000):
        run_id = driver.emit(Order())
        driver.answer(*one(driver, "call"), CompletionKind.FAIL, *TRANSIENT[:4], 3_600.0, False)
        driver.tell(Cancel(run_id))
    assert len(driver.builder._timers) < 200
    driver.emit(Order())
    driver.answer(*one(driver, "call"), CompletionKind.FAIL, *TRANSIENT[:4], 3_600.0, False)
    driver.tell(seconds=3_601)
    assert len(held(driver, "call")) == 1


def test_a_step_without_a_breaker_is_closed_after_the_time_for_which_it_was_forced_open() -> None:
    flow = Pipeline("plain")

    @flow.step(breaker=False, retry=Retry(attempts=20, wait=0.001))
    def call(event: Order) -> Paid: ...  # type: ignore[empty-body]

    driver = CoreDriver(flow)
    driver.tell(Force("plain/call", True, "ann", 1.0))
    emit_all(driver, 3)
    assert held(driver, "call") == []
    driver.tell(seconds=2)
    assert len(held(driver, "call")) == 3
    for worker, item in held(driver, "call"):
        driver.held[worker].remove(item)
        driver.tell(Completed(worker, [[CompletionKind.FAIL, item[0], *TRANSIENT]]))
    assert driver.decider.breakers(driver.now_us)[0].status == BreakerStatus.CLOSED
