"""What becomes of dead letters when their run is retried, cancelled or undone; workers answer as they are told."""

import pytest

from ensue import Pipeline
from ensue.events.decide.commands import Decision
from ensue.events.decide.dead_letters import letter_id
from ensue.events.decide.inputs import Cancel, CompletionKind, Revive
from ensue.events.errors import RunCancelled, RunFinished
from ensue.events.ids import format_id

from .answers import Item, Order, ends, fails, held, one, returns
from .core_driver import CoreDriver, picture, reloaded
from .test_core_operators import answer, redrive, settled, two_letters


def retry(driver: CoreDriver, run_id: bytes, *, discarded: frozenset[int] = frozenset()) -> object:
    """An operator retries a run, these of whose letters were discarded; the answer."""
    revive = Revive(run_id, driver.number_of(run_id), driver.entries_of(run_id), object())
    revive.as_of, revive.letters, revive.discarded = driver.decider.next_offset, frozenset(), discarded
    return answer(driver.tell(revive))


def test_what_was_discarded_is_not_run_again_when_its_run_is_retried() -> None:
    driver, run_id = two_letters()
    redrive(driver, run_id, 2, discard=True)
    assert retry(driver, run_id, discarded=frozenset({2})) is None
    assert (len(held(driver, "first")), len(held(driver, "second"))) == (1, 0)
    assert picture(driver.replayed()) == picture(reloaded(driver.decider.state, driver.plans))
    returns(driver, "first", Item(n=1), many=True)
    returns(driver, "third")
    assert ends(driver) == ["failed", "failed"]
    assert [died.delivery for died in driver.dead] == [1, 2]


def test_the_error_of_what_was_discarded_stands_after_a_retry() -> None:
    driver, run_id = two_letters()
    redrive(driver, run_id, 2, discard=True)
    retry(driver, run_id, discarded=frozenset({2}))
    returns(driver, "first", many=True)
    run, _ = driver.ended[-1]
    assert [fault.step for fault in run.errors or ()] == ["second"]


def test_a_run_of_which_all_was_discarded_has_nothing_to_retry() -> None:
    driver, run_id = two_letters()
    for delivery in (1, 2):
        redrive(driver, run_id, delivery, discard=True)
    found = retry(driver, run_id, discarded=frozenset({1, 2}))
    assert isinstance(found, RunFinished)
    assert "discarded" in str(found)
    assert driver.decider.state.runs == {}


def test_what_was_discarded_stays_so_over_a_restart_and_another_retry() -> None:
    driver, run_id = two_letters()
    redrive(driver, run_id, 2, discard=True)
    retry(driver, run_id, discarded=frozenset({2}))
    driver.restart()
    fails(driver, "first")
    assert retry(driver, run_id, discarded=frozenset({2})) is None
    assert (len(held(driver, "first")), len(held(driver, "second"))) == (1, 0)


def test_a_letter_of_a_cancelled_run_is_not_run_again_by_itself() -> None:
    driver, run_id = two_letters()
    redrive(driver, run_id, 1)
    driver.tell(Cancel(run_id))
    driver.answer(*one(driver, "first"), CompletionKind.RELEASE)
    decision = redrive(driver, run_id, 2)
    found = answer(decision)
    assert isinstance(found, RunCancelled)
    assert f"ensue runs retry {format_id(run_id)}" in str(found)
    assert (decision.settled, decision.audit, driver.decider.state.runs) == ([], [], {})
    assert retry(driver, run_id) is None
    assert (len(held(driver, "first")), len(held(driver, "second"))) == (1, 1)


def test_a_letter_of_a_run_that_is_being_cancelled_is_not_run_again() -> None:
    flow = Pipeline("keyed")

    @flow.step
    def first(event: Order) -> None: ...

    @flow.step
    def second(event: Order) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order(), key="a")
    fails(driver, "first")
    fails(driver, "second")
    redrive(driver, run_id, 1)
    driver.tell(Cancel(run_id))
    found = answer(redrive(driver, run_id, 2))
    assert isinstance(found, RunCancelled)
    assert "once it is over" in str(found)
    driver.answer(*one(driver, "first"), CompletionKind.RELEASE)
    assert ends(driver) == ["failed", "cancelled"]
    assert "was cancelled" in str(answer(redrive(driver, run_id, 2)))


def undoing() -> Pipeline:
    """Two steps that hear an order; a third that hears of the first, and can be undone."""
    flow = Pipeline("undone")

    @flow.step
    def first(event: Order) -> Item: ...  # type: ignore[empty-body]

    @flow.step
    def second(event: Order) -> None: ...

    @flow.step
    def third(event: Item) -> None: ...

    @flow.compensate(third)
    def undo(event: Item) -> None: ...

    return flow


def undone(*, discard: bool = False, restart: bool = False) -> tuple[CoreDriver, bytes, Decision]:
    """A run with the letters 1 and 2; 1 is redriven, and what ensues fails and is undone. The last decision.

    discard: letter 2 was discarded while the run went on.
    """
    driver = CoreDriver(undoing())
    run_id = driver.emit(Order())
    fails(driver, "first")
    fails(driver, "second")
    redrive(driver, run_id, 1)
    if discard:
        redrive(driver, run_id, 2, discard=True)
    returns(driver, "first", Item())
    fails(driver, "third")
    if restart:
        driver.restart()
    decision = returns(driver, "undo")
    assert ends(driver) == ["failed", "compensated"]
    return driver, run_id, decision


@pytest.mark.parametrize("restart", [False, True])
def test_the_open_letters_of_a_run_that_was_undone_are_discarded_with_its_end(restart: bool) -> None:
    driver, run_id, decision = undone(restart=restart)
    assert settled(decision) == [(letter_id(run_id, 2), "discarded")]
    assert [(row.who, row.action, row.subject, row.detail) for row in decision.audit] == [
        ("engine", "letter discard", format_id(letter_id(run_id, 2)), "its run was undone")
    ]
    driver.restart()
    assert settled(driver.tell()) == []


@pytest.mark.parametrize("restart", [False, True])
def test_a_letter_that_was_discarded_before_its_run_was_undone_is_not_discarded_again(restart: bool) -> None:
    _, _, decision = undone(discard=True, restart=restart)
    assert (settled(decision), decision.audit) == ([], [])


def test_a_letter_that_was_discarded_before_its_run_came_back_is_not_discarded_again() -> None:
    driver = CoreDriver(undoing())
    run_id = driver.emit(Order())
    fails(driver, "first")
    fails(driver, "second")
    redrive(driver, run_id, 2, discard=True)
    redrive(driver, run_id, 1, discarded=frozenset({2}))
    assert picture(driver.replayed()) == picture(reloaded(driver.decider.state, driver.plans))
    returns(driver, "first", Item())
    fails(driver, "third")
    decision = returns(driver, "undo")
    assert ends(driver) == ["failed", "compensated"]
    assert (settled(decision), decision.audit) == ([], [])
