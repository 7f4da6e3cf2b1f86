"""What a review found wrong in how the core heeds calls that fail: keys, errors, breakers, resources; one test each."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ensue import Breaker, Pipeline, StepFailed
from ensue.events.decide.commands import Decision
from ensue.events.decide.core import Decider, Limits
from ensue.events.decide.inputs import Completed, CompletionKind, Force, WorkerDown
from ensue.events.model.codec import encode
from ensue.events.policies.breaker import BreakerStatus

from .answers import FULL, TRANSIENT, Excused, Item, Order, emit_all, ends, fails, held, one, returns
from .core_driver import CoreDriver, picture


def status(driver: CoreDriver) -> str:
    """The state of the first breaker."""
    return driver.decider.breakers(driver.now_us)[0].status


def test_a_run_with_thousands_of_events_of_one_key_halts_when_one_fails() -> None:
    flow = Pipeline("keyed")

    @flow.step
    def split(event: Order) -> list[Item]: ...  # type: ignore[empty-body]

    @flow.step
    def work(event: Item) -> None: ...

    driver = CoreDriver(flow, 512)
    driver.emit(Order())
    packed = [[Item.__event_type__, 1, encode(Item(n=n)), "k"] for n in range(2_000)]
    driver.answer(*one(driver, "split"), CompletionKind.DONE, 10, packed, True)
    assert len(held(driver, "work")) == 1
    fails(driver, "work")
    assert ends(driver) == ["failed"]
    assert held(driver, "work") == []
    assert picture(driver.decider.state) == picture(driver.replayed())


def test_the_errors_that_travel_with_a_delivery_are_the_newest_that_fit() -> None:
    flow = Pipeline("errors")

    @flow.step
    def split(event: Order) -> list[Item]: ...  # type: ignore[empty-body]

    @flow.step
    def work(event: Item) -> None: ...

    @flow.on_error(work)
    def excuse(event: StepFailed) -> Excused: ...  # type: ignore[empty-body]

    @flow.step
    def after(event: Excused) -> None: ...

    driver = CoreDriver(flow, 64)
    driver.emit(Order())
    returns(driver, "split", *(Item(n=n) for n in range(40)), many=True)
    worker = one(driver, "work")[0]
    for n, item in enumerate(list(driver.held[worker])):
        driver.answer(
            worker, item, CompletionKind.FAIL, "permanent", "ValueError", f"{n:01000}", "t" * 4_000, None, False
        )
    returns(driver, "excuse", Excused())
    faults = one(driver, "after")[1][7]
    assert [int(fault[1][2]) for fault in faults] == [37, 38, 39]
    assert sum(len(fault[1][2]) + len(fault[1][3]) for fault in faults) < 16_384


def test_one_error_that_is_larger_than_what_fits_travels_alone() -> None:
    flow = Pipeline("large")

    @flow.step
    def work(event: Order) -> None: ...

    @flow.step
    def other(event: Order) -> None: ...

    @flow.on_error(work, other)
    def excuse(event: StepFailed) -> None: ...

    driver = CoreDriver(flow)
    driver.emit(Order())
    fails(driver, "work")
    driver.answer(*one(driver, "other"), CompletionKind.FAIL, "permanent", "ValueError", "m", "t" * 20_000, None, False)
    assert [fault[0] for fault in held(driver, "excuse")[-1][1][7]] == ["other"]


def after_one_message(failing: Callable[[int], bool]) -> str:
    """The state of a breaker after 300 calls that come back in one message; `failing` says which of them failed."""
    flow = Pipeline("many")

    @flow.step
    def call(event: Order) -> None: ...

    driver = CoreDriver(flow, 300)
    emit_all(driver, 300)
    worker = one(driver, "call")[0]
    said: list[list[Any]] = [
        [CompletionKind.FAIL, item[0], *TRANSIENT] if failing(n) else [CompletionKind.DONE, item[0], 10, [], False]
        for n, item in enumerate(driver.held[worker])
    ]
    driver.tell(Completed(worker, said))
    return status(driver)


def test_failures_scattered_among_successes_in_one_message_open_no_breaker() -> None:
    assert after_one_message(lambda n: n % 50 == 25) == BreakerStatus.CLOSED


def test_failures_in_a_row_in_one_message_open_the_breaker() -> None:
    assert after_one_message(lambda n: 100 <= n < 105) == BreakerStatus.OPEN


def test_a_probe_whose_process_had_to_be_ended_opens_the_breaker_again() -> None:
    flow = Pipeline("stuck")

    @flow.step
    def call(event: Order) -> None: ...

    driver = CoreDriver(flow)
    driver.tell(Force("stuck/call", True, "ann", 1.0))
    emit_all(driver, 3)
    assert held(driver, "call") == []
    driver.tell(seconds=2)
    [(worker, item)] = held(driver, "call")
    driver.tell(Completed(worker, [[CompletionKind.STUCK, item[0]]]))
    driver.held[worker] = []
    driver.tell(WorkerDown(worker, "killed", True))
    driver.add_worker("call")
    assert status(driver) == BreakerStatus.OPEN
    assert held(driver, "call") == []


def counting(*, probes: int = 2) -> Pipeline:
    """A generator, and who takes what it emits; both call the bank."""
    flow = Pipeline("counting")

    @flow.step(breaker=Breaker("bank", probes=probes))
    def count(event: Order) -> Iterator[Item]:
        yield Item()

    @flow.step(breaker="bank")
    def take(event: Item) -> None: ...

    return flow


def half_open(driver: CoreDriver) -> None:
    """Five orders wait, and the breaker lets a probe through."""
    driver.tell(Force("bank", True, "ann", 1.0))
    emit_all(driver, 5)
    driver.tell(seconds=2)


def streams(driver: CoreDriver, index: int = 0) -> Decision:
    """The first generator emits once more."""
    return driver.answer(
        *one(driver, "count"), CompletionKind.STREAM, index, [[Item.__event_type__, 1, encode(Item()), None]]
    )


def test_a_generator_is_a_probe_until_it_ends_whatever_it_emits() -> None:
    driver = CoreDriver(counting(), 8)
    half_open(driver)
    for index in range(3):
        streams(driver, index)
        assert status(driver) == BreakerStatus.HALF_OPEN
        assert len(held(driver, "count") + held(driver, "take")) == 1
    driver.answer(*one(driver, "count"), CompletionKind.DONE, 10, [], True, 3)
    assert status(driver) == BreakerStatus.HALF_OPEN
    streams(driver)
    driver.answer(*one(driver, "count"), CompletionKind.DONE, 10, [], True, 1)
    assert status(driver) == BreakerStatus.CLOSED
    assert (len(held(driver, "count")), len(held(driver, "take"))) == (3, 4)


@pytest.mark.parametrize("probes", [1, 3])
def test_generators_that_emit_as_probes_and_then_fail_never_close_the_breaker(probes: int) -> None:
    driver = CoreDriver(counting(probes=probes), 8)
    half_open(driver)
    for opens in range(1, 6):
        streams(driver)
        driver.answer(*one(driver, "count"), CompletionKind.FAIL, *TRANSIENT)
        [view] = driver.decider.breakers(driver.now_us)
        assert (view.status, view.opens) == (BreakerStatus.OPEN, opens)
        assert held(driver, "count") + held(driver, "take") == []
        driver.tell(seconds=301)


def test_a_generator_that_is_a_probe_goes_on_however_much_waits_for_it() -> None:
    driver = CoreDriver(counting(), 1)
    driver.decider = Decider(driver.plans, driver.builder, Limits(backlog=1))
    driver.held.clear()
    driver.steps.clear()
    for step in driver.pipeline.steps:
        driver.add_worker(step)
    half_open(driver)
    assert [len(streams(driver, index).credit) for index in range(4)] == [1, 1, 1, 1]
    assert driver.decider.backlog == 4


def test_what_workers_were_sent_ahead_is_recalled_when_their_breaker_opens_and_loses_no_attempt() -> None:
    flow = Pipeline("ahead")

    @flow.step(breaker=Breaker("bank", failures_in_row=2))
    def call(event: Order) -> None: ...

    @flow.step(breaker="bank")
    def check(event: Order) -> None: ...

    @flow.step
    def note(event: Order) -> None: ...

    driver = CoreDriver(flow, 8)
    emit_all(driver, 6)
    assert driver.answer(*one(driver, "call"), CompletionKind.FAIL, *TRANSIENT).recall == []
    opened = driver.answer(*one(driver, "call"), CompletionKind.FAIL, *TRANSIENT)
    recalled = {recall.worker: set(recall.tokens) for recall in opened.recall}
    left = {worker: {item[0] for item in items} for worker, items in driver.held.items()}
    assert recalled == {worker: left[worker] for worker, step in driver.steps.items() if step != "note"}
    for worker, tokens in recalled.items():
        driver.held[worker] = []
        said: list[list[Any]] = [[CompletionKind.RELEASE, token] for token in tokens]
        driver.tell(Completed(worker, said))
        assert driver.tell(Completed(worker, said)).entries == []  # said twice
    driver.tell(Force("bank", False, "ann"))
    assert [item[3] for _, item in held(driver, "call") + held(driver, "check")] == [1] * 10
    assert len(held(driver, "note")) == 6
    assert picture(driver.decider.state) == picture(driver.replayed())


def test_an_operator_who_opens_a_breaker_recalls_what_workers_were_sent_ahead() -> None:
    flow = Pipeline("held-back")

    @flow.step
    def call(event: Order) -> None: ...

    driver = CoreDriver(flow)
    emit_all(driver, 3)
    [recall] = driver.tell(Force("held-back/call", True, "ann")).recall
    assert recall.tokens == [item[0] for _, item in held(driver, "call")]


def test_after_a_resource_ran_out_nothing_goes_out_for_a_while_and_then_one_at_a_time() -> None:
    flow = Pipeline("disk")

    @flow.step
    def write(event: Order) -> None: ...

    driver = CoreDriver(flow, 4)
    driver.emit(Order())
    for pause in (1.0, 2.0, 4.0):
        decision = driver.answer(*one(driver, "write"), CompletionKind.FAIL, *FULL)
        assert decision.due_us is not None
        assert decision.due_us <= driver.now_us + pause * 1e6
        emit_all(driver, 2)
        driver.tell(seconds=pause - 0.001)
        assert held(driver, "write") == []
        driver.tell(seconds=0.001)
        assert len(held(driver, "write")) == 1
    returns(driver, "write")
    assert len(held(driver, "write")) >= 4
    driver.answer(*one(driver, "write"), CompletionKind.FAIL, *FULL)
    assert driver.decider.queues["disk", "write"].exhausted_until_us == driver.now_us + 1_000_000
