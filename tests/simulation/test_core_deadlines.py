"""Whether another attempt begins: none does after the deadline, whatever held it back, or after the wrong time-out."""

from collections.abc import Sequence

import pytest

from ensue import Pipeline, Retry
from ensue.events.decide.inputs import Completed, CompletionKind, Force, WorkerDown

from .answers import FULL, TRANSIENT, Order, emit_all, ends, held, one, returns
from .core_driver import CoreDriver, picture

NOTE = "(given up: the deadline of 10 s leaves no time for another attempt)"


def flow_of(name: str) -> Pipeline:
    """One step with a deadline of 10 s."""
    flow = Pipeline(name)

    @flow.step(retry=Retry(attempts=9, wait=1.0, deadline=10.0), breaker=False)
    def call(event: Order) -> None: ...

    return flow


def fail_all(driver: CoreDriver, completion: Sequence[object]) -> None:
    """All that is held fails, and may be tried again."""
    for worker, item in held(driver, "call"):
        driver.answer(worker, item, CompletionKind.FAIL, *completion)


def test_a_worker_that_comes_late_gets_what_still_has_time_and_nothing_else() -> None:
    driver = CoreDriver(flow_of("late-worker"), 4)
    emit_all(driver, 9)
    while held(driver, "call"):
        fail_all(driver, TRANSIENT)
    driver.held = {}
    driver.tell(WorkerDown(1, "gone", expected=True))
    driver.tell(seconds=11)
    driver.emit(Order(n=9))
    driver.add_worker("call")
    assert ends(driver) == ["failed"] * 9
    assert [(died.attempts, died.kind) for died in driver.dead] == [(1, "timeout")] * 9
    assert {died.message for died in driver.dead} == {f"attempt 2 was held back {NOTE}"}
    assert [item[3] for _, item in held(driver, "call")] == [1]
    returns(driver, "call")
    assert ends(driver)[-1] == "completed"
    assert picture(driver.decider.state) == picture(driver.replayed())


def test_a_probe_goes_to_one_that_still_has_time() -> None:
    driver = CoreDriver(flow_of("probe"), 4)
    emit_all(driver, 3)
    fail_all(driver, TRANSIENT)
    driver.tell(Force("probe/call", True, "ann", 30.0))
    driver.tell(seconds=2)
    driver.emit(Order(n=3))
    driver.tell(seconds=31)
    assert ends(driver) == ["failed"] * 3
    assert [item[3] for _, item in held(driver, "call")] == [1]
    returns(driver, "call")
    assert ends(driver)[-1] == "completed"


def test_a_half_open_breaker_all_of_whose_deliveries_are_late_probes_with_the_next() -> None:
    driver = CoreDriver(flow_of("no-probe"), 4)
    emit_all(driver, 3)
    fail_all(driver, TRANSIENT)
    driver.tell(Force("no-probe/call", True, "ann", 30.0))
    driver.tell(seconds=31)
    assert (ends(driver), held(driver, "call")) == (["failed"] * 3, [])
    driver.emit(Order(n=3))
    assert len(held(driver, "call")) == 1


def test_after_a_resource_ran_out_what_is_late_gives_up_and_the_next_is_tried() -> None:
    flow = Pipeline("full")

    @flow.step(retry=Retry(attempts=9, wait=0.0, deadline=0.5))
    def call(event: Order) -> None: ...

    driver = CoreDriver(flow, 1)
    driver.emit(Order(n=0))
    driver.answer(*one(driver, "call"), CompletionKind.FAIL, *FULL)
    driver.emit(Order(n=1))
    driver.tell(seconds=1)
    assert ends(driver) == ["failed"]
    assert [item[3] for _, item in held(driver, "call")] == [1]


def test_the_next_of_a_key_goes_on_where_the_first_is_late() -> None:
    driver = CoreDriver(flow_of("keys"), 4)
    driver.emit(Order(n=0), key="k")
    driver.emit(Order(n=1), key="k")
    fail_all(driver, TRANSIENT)
    driver.tell(WorkerDown(1, "gone", expected=True))
    driver.held = {}
    driver.tell(seconds=11)
    driver.add_worker("call")
    assert ends(driver) == ["failed"]
    assert [item[3] for _, item in held(driver, "call")] == [1]
    assert picture(driver.decider.state) == picture(driver.replayed())


@pytest.mark.parametrize(("seconds", "ended"), [(9.0, []), (11.0, ["failed"])])
def test_an_attempt_that_an_engine_died_with_is_not_repeated_after_the_deadline(
    seconds: float, ended: list[str]
) -> None:
    driver = CoreDriver(flow_of("restarted"), 4)
    driver.emit(Order())
    driver.now_us += int(seconds * 1e6)
    driver.restart()
    assert ends(driver) == ended
    assert picture(driver.decider.state) == picture(driver.replayed())


def test_a_first_attempt_that_was_handed_back_begins_whenever_it_can() -> None:
    driver = CoreDriver(flow_of("handed-back"), 4)
    driver.emit(Order())
    driver.tell(seconds=11)
    driver.answer(*one(driver, "call"), CompletionKind.RELEASE)
    assert [item[3] for _, item in held(driver, "call")] == [1]


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [
        (Retry(attempts=4, wait=0.0, give_up_on=TimeoutError), 1),
        (Retry(attempts=4, wait=0.0, on=ConnectionError), 1),
        (Retry(attempts=4, wait=0.0, by_exception={TimeoutError: 2}), 2),
        (Retry(attempts=3, wait=0.0), 3),
    ],
)
def test_a_time_out_that_cost_the_process_is_tried_again_as_the_policy_says_of_time_outs(
    retry: Retry, attempts: int
) -> None:
    flow = Pipeline("timed-out")

    @flow.step(retry=retry)
    def call(event: Order) -> None: ...

    driver = CoreDriver(flow)
    driver.emit(Order())
    while held(driver, "call"):
        worker, item = one(driver, "call")
        driver.tell(Completed(worker, [[CompletionKind.STUCK, item[0]]]))
        del driver.held[worker]
        driver.tell(WorkerDown(worker, "killed", expected=True))
        driver.add_worker("call")
    [died] = driver.dead
    assert (died.attempts, died.error) == (attempts, "TimeoutError")
