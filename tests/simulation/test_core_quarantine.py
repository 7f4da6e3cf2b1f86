"""Suspects: who ended a process is found, and nobody is given up, or waits long, for having stood beside it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ensue import Pipeline, Retry
from ensue.events.decide.inputs import CompletionKind
from ensue.events.decide.limits import Limits
from ensue.events.state.records import CrashedRecord, unpack_records

from .answers import Order, emit_all, ends, held, returns
from .core_driver import CoreDriver


def one_step(attempts: int = 5, replicas: int = 1) -> Pipeline:
    flow = Pipeline("poisoned")

    @flow.step(retry=Retry(attempts=attempts, wait=0.05), replicas=replicas)
    def work(event: Order) -> None: ...

    return flow


def running(driver: CoreDriver) -> list[int]:
    """The numbers of the runs whose deliveries are with workers."""
    slots = [slot for slot, _ in driver.decider.workers.values()]
    return sorted(delivery.run.number for slot in slots for delivery in slot.leases.values())


def deaths(driver: CoreDriver) -> dict[int, int]:
    """How many attempts of each run ended with the process and are to be followed by another."""
    records = [(entry.run, record) for entry in driver.log for record in unpack_records(entry.body)]
    crashed = [run for run, record in records if isinstance(record, CrashedRecord)]
    return {run: crashed.count(run) for run in crashed}


def dies(driver: CoreDriver) -> None:
    """The worker that is there dies, another comes, and the waits of all it had are over."""
    driver.die(max(driver.steps))
    driver.tell(seconds=1)


def test_the_second_death_clears_the_others_and_the_culprit_waits_behind_all_that_wait() -> None:
    driver = CoreDriver(one_step())
    emit_all(driver, 4)
    first, second, third, culprit = running(driver)
    dies(driver)
    assert running(driver) == [culprit], "the newest is tried first, alone"
    fifth, sixth = (driver.number_of(driver.emit(Order())) for _ in range(2))
    dies(driver)
    assert running(driver) == [first, second, third, fifth], (
        "those that stood beside it wait no longer, and keep their places"
    )
    for _ in range(4):
        returns(driver, "work")
    assert running(driver) == [sixth], "it is its turn, and it waits until it can be alone"
    returns(driver, "work")
    assert running(driver) == [culprit]
    dies(driver)
    assert ends(driver) == ["completed"] * 5 + ["failed"]


def test_after_a_kill_from_outside_twice_as_many_are_tried_together_each_time_and_all_complete() -> None:
    driver = CoreDriver(one_step(), concurrency=20)
    emit_all(driver, 20)
    suspects = running(driver)
    dies(driver)
    emit_all(driver, 20)
    for together in (1, 2, 4, 8, 5):
        suspects, tried = suspects[:-together], suspects[-together:]
        for ended in range(together):
            assert len(running(driver)) == together - ended
            assert set(running(driver)) <= set(tried), "the newest, and nothing else, though much waits"
            returns(driver, "work")
    assert len(running(driver)) == 20
    for _ in range(20):
        returns(driver, "work")
    assert ends(driver) == ["completed"] * 40


def test_a_trial_that_ends_with_its_process_clears_the_others_and_has_each_of_its_own_run_alone() -> None:
    driver = CoreDriver(one_step(), concurrency=5)
    emit_all(driver, 5)
    first, second, third, fourth, fifth = running(driver)
    dies(driver)
    assert running(driver) == [fifth]
    returns(driver, "work")
    assert running(driver) == [third, fourth]
    dies(driver)
    assert running(driver) == [first, second], "cleared, and the two wait behind them"
    returns(driver, "work")
    returns(driver, "work")
    assert len(running(driver)) == 1
    returns(driver, "work")
    assert len(running(driver)) == 1
    dies(driver)
    assert sorted(ends(driver)) == ["completed"] * 4 + ["failed"], "one of the two did it all three times"


def test_suspects_that_could_bear_no_other_death_are_tried_one_by_one() -> None:
    driver = CoreDriver(one_step(attempts=2), concurrency=8)
    emit_all(driver, 8)
    dies(driver)
    for _ in range(8):
        assert len(running(driver)) == 1
        returns(driver, "work")
    assert ends(driver) == ["completed"] * 8


def test_nobody_is_cleared_who_could_not_bear_another_death() -> None:
    driver = CoreDriver(one_step(attempts=2))
    emit_all(driver, 3)
    dies(driver)
    dies(driver)
    assert ends(driver) == ["failed"]
    for _ in range(2):
        assert len(held(driver, "work")) == 1
        returns(driver, "work")
    assert ends(driver) == ["failed", "completed", "completed"]


def test_one_is_cleared_once_at_most() -> None:
    driver = CoreDriver(one_step(attempts=9))
    emit_all(driver, 2)
    dies(driver)
    dies(driver)
    innocent = running(driver)[0]
    emit_all(driver, 1)
    assert len(running(driver)) == 2, "cleared, and so in company again"
    dies(driver)
    assert len(running(driver)) == 1
    dies(driver)
    while running(driver) != [innocent]:
        returns(driver, "work")
    assert len(held(driver, "work")) == 1, "at two deaths in company: from now on alone"
    returns(driver, "work")
    assert "completed" in ends(driver)


@settings(deadline=None)
@given(
    orders=st.integers(1, 25),
    culprits=st.sets(st.integers(0, 24), max_size=4),
    workers=st.tuples(st.integers(1, 3), st.integers(1, 5)),
    attempts=st.integers(2, 5),
    late=st.lists(st.integers(0, 4), min_size=1),
)
def test_whoever_ends_no_process_completes_and_whoever_does_is_given_up(
    orders: int, culprits: set[int], workers: tuple[int, int], attempts: int, late: list[int]
) -> None:
    replicas, concurrency = workers
    driver = CoreDriver(one_step(attempts, replicas), concurrency)
    for _ in range(replicas - 1):
        driver.add_worker("work")
    numbers = [driver.number_of(driver.emit(Order(n=n))) for n in range(orders)]
    poison = {numbers[n] for n in culprits if n < orders}
    for turn in range(1_000):
        if not held(driver, "work"):
            driver.tell(seconds=1)
        if not held(driver, "work"):
            break
        worker, item = held(driver, "work")[late[turn % len(late)] % len(held(driver, "work"))]
        [slot] = [slot for slot, _ in driver.decider.workers.values() if slot.worker == worker]
        if any(delivery.run.number in poison for delivery in slot.leases.values()):
            driver.die(worker)
        else:
            driver.answer(worker, item, CompletionKind.DONE, 10, [], False)
        driver.tell(seconds=0.02)
    outcomes = {run.number: status for run, status in driver.ended}
    assert outcomes == {n: "failed" if n in poison else "completed" for n in numbers}
    most = min(attempts, Limits().crashes)
    assert all(count == most - 1 for run, count in deaths(driver).items() if run in poison)
