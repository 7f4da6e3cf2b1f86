"""What a review found wrong in the core about the decisions of operators, and about what is undone; one test each.

Each provokes its defect in the smallest pipeline that shows it; workers answer as they are told.
"""

from collections.abc import Iterator
from typing import Any

from ensue import Pipeline, StepFailed
from ensue.events.decide.commands import Decision
from ensue.events.decide.dead_letters import letter_id
from ensue.events.decide.inputs import Cancel, CompletionKind, Redrive, Revive, StepBroken, WorkerDown
from ensue.events.errors import CodecError, RunFinished, RunPastPivot
from ensue.events.state.records import AttemptRecord, DoneRecord, Record, UnknownRecord

from .answers import TRANSIENT, Excused, Item, Order, Paid, ends, fails, held, one, returns
from .core_driver import CoreDriver, picture


def redrive(driver: CoreDriver, run_id: bytes, delivery: int, **changes: Any) -> Decision:
    """An operator decides on a dead letter, on what the log says now unless told otherwise."""
    known: dict[str, Any] = {
        "entries": driver.entries_of(run_id),
        "as_of": driver.decider.next_offset,
        "reply": object(),
    }
    return driver.tell(Redrive(run_id, driver.number_of(run_id), delivery, "ann", **(known | changes)))


def answer(decision: Decision) -> object:
    """What the operator hears."""
    [found] = decision.answers
    return found.value


def settled(decision: Decision) -> list[tuple[bytes, str]]:
    return [(letter.letter_id, letter.state) for letter in decision.settled]


def test_a_redriven_letter_whose_step_is_broken_is_open_again_in_the_same_batch() -> None:
    flow = Pipeline("broken")

    @flow.step
    def work(event: Order) -> None: ...

    driver = CoreDriver(flow)
    driver.tell(WorkerDown(1, "gone", True))
    del driver.steps[1]
    run_id = driver.emit(Order())
    driver.tell(StepBroken("broken", "work", "cannot import"))
    decision = redrive(driver, run_id, 1)
    assert answer(decision) is None
    assert decision.settled == []
    assert [died.letter_id for died in decision.dead] == [letter_id(run_id, 1)]
    assert ends(driver) == ["failed", "failed"]


def test_a_pivot_that_gave_up_and_is_handled_leaves_what_was_done_to_be_undone() -> None:
    flow = Pipeline("pivot")

    @flow.step
    def reserve(event: Order) -> Item: ...  # type: ignore[empty-body]

    @flow.step(pivot=True)
    def pay(event: Item) -> Paid: ...  # type: ignore[empty-body]

    @flow.on_error(pay)
    def sorry(event: StepFailed) -> Excused: ...  # type: ignore[empty-body]

    @flow.step
    def tell(event: Excused) -> None: ...

    @flow.compensate(reserve)
    def release(event: Order) -> None: ...

    driver = CoreDriver(flow)
    driver.emit(Order())
    returns(driver, "reserve", Item())
    fails(driver, "pay")
    returns(driver, "sorry", Excused())
    fails(driver, "tell")
    assert len(held(driver, "release")) == 1
    returns(driver, "release")
    assert ends(driver) == ["compensated"]


def test_a_step_that_finishes_although_its_run_was_cancelled_is_in_the_log_and_undone() -> None:
    flow = Pipeline("late")

    @flow.step
    def reserve(event: Order) -> Item: ...  # type: ignore[empty-body]

    @flow.step
    def ship(event: Item) -> None: ...

    @flow.compensate(reserve)
    def release(event: Order) -> None: ...

    @flow.compensate(ship)
    def recall(event: Item) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order())
    returns(driver, "reserve", Item())
    driver.tell(Cancel(run_id))
    assert (held(driver, "release"), held(driver, "recall")) == ([], [])
    returns(driver, "ship")
    returns(driver, "recall")
    returns(driver, "release")
    assert ends(driver) == ["compensated"]
    records = [record for entry in driver.entries_of(run_id) for record in entry]
    shipped = next(n for n, record in enumerate(records) if isinstance(record, DoneRecord) and record.delivery == 2)
    attempted = {record.step: n for n, record in enumerate(records) if isinstance(record, AttemptRecord)}
    assert shipped < min(attempted["recall"], attempted["release"])


def test_a_decision_on_what_the_log_said_before_the_run_came_back_is_refused() -> None:
    flow = Pipeline("stale")

    @flow.step
    def work(event: Order) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order())
    fails(driver, "work")
    stale: dict[str, Any] = {"entries": driver.entries_of(run_id), "as_of": driver.decider.next_offset}
    redrive(driver, run_id, 1)
    returns(driver, "work")
    assert ends(driver) == ["failed", "completed"]
    decision = redrive(driver, run_id, 1, **stale)
    assert isinstance(answer(decision), RunFinished)
    assert (decision.settled, decision.entries, held(driver, "work")) == ([], [], [])
    driver.replayed()


def test_a_retry_on_what_the_log_said_before_the_run_came_back_is_refused() -> None:
    flow = Pipeline("stale-retry")

    @flow.step
    def work(event: Order) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order())
    fails(driver, "work")
    stale, as_of = driver.entries_of(run_id), driver.decider.next_offset
    redrive(driver, run_id, 1)
    fails(driver, "work")
    number = driver.number_of(run_id)
    assert isinstance(answer(driver.tell(Revive(run_id, number, stale, object(), as_of=as_of))), RunFinished)
    fresh = Revive(run_id, number, driver.entries_of(run_id), object(), as_of=driver.decider.next_offset)
    assert answer(driver.tell(fresh)) is None
    assert len(held(driver, "work")) == 1


def two_letters() -> tuple[CoreDriver, bytes]:
    """A run that failed with the letters 1, of `first`, and 2, of `second`."""
    flow = Pipeline("letters")

    @flow.step
    def first(event: Order) -> list[Item]: ...  # type: ignore[empty-body]

    @flow.step
    def second(event: Order) -> None: ...

    @flow.step
    def third(event: Item) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order())
    fails(driver, "first")
    fails(driver, "second")
    assert [died.delivery for died in driver.dead] == [1, 2]
    return driver, run_id


def test_a_letter_can_be_decided_on_after_its_run_was_cancelled() -> None:
    driver, run_id = two_letters()
    redrive(driver, run_id, 1)
    driver.tell(Cancel(run_id))
    driver.answer(*one(driver, "first"), CompletionKind.RELEASE)
    assert ends(driver) == ["failed", "cancelled"]
    decision = redrive(driver, run_id, 2, discard=True, entries=[])
    assert answer(decision) is None
    assert settled(decision) == [(letter_id(run_id, 2), "discarded")]


def test_a_letter_of_a_run_that_is_over_is_discarded_without_its_records() -> None:
    driver, run_id = two_letters()
    decision = redrive(driver, run_id, 2, discard=True, entries=[])
    assert answer(decision) is None
    assert settled(decision) == [(letter_id(run_id, 2), "discarded")]
    assert [(row.who, row.action) for row in decision.audit] == [("ann", "letter discard")]
    assert decision.entries == []


def test_a_retry_settles_only_the_letters_that_the_store_has() -> None:
    driver, run_id = two_letters()
    revive = Revive(run_id, driver.number_of(run_id), driver.entries_of(run_id), object())
    revive.as_of, revive.letters = driver.decider.next_offset, frozenset({2})
    decision = driver.tell(revive)
    assert answer(decision) is None
    assert settled(decision) == [(letter_id(run_id, 2), "redriven")]
    assert (len(held(driver, "first")), len(held(driver, "second"))) == (1, 1)


def test_a_retry_of_a_run_that_a_newer_version_wrote_is_refused() -> None:
    driver, run_id = two_letters()
    newer: list[Record] = [UnknownRecord(99, ())]
    entries = [*driver.entries_of(run_id), newer]
    decision = driver.tell(Revive(run_id, driver.number_of(run_id), entries, object()))
    assert isinstance(answer(decision), CodecError)
    assert decision.entries == []


def test_a_letter_is_not_run_again_while_its_run_is_coming_to_its_end() -> None:
    driver, run_id = two_letters()
    redrive(driver, run_id, 1)
    returns(driver, "first", Item(n=1), Item(n=2), many=True)
    fails(driver, "third")
    assert len(held(driver, "third")) == 1
    decision = redrive(driver, run_id, 2)
    assert isinstance(answer(decision), RunFinished)
    assert (decision.settled, decision.audit, held(driver, "second")) == ([], [], [])
    returns(driver, "third")
    assert ends(driver) == ["failed", "failed"]
    assert answer(redrive(driver, run_id, 2)) is None
    assert len(held(driver, "second")) == 1


def test_a_failing_run_that_owes_compensations_can_be_cancelled_while_it_halts() -> None:
    flow = Pipeline("halting")

    @flow.step
    def reserve(event: Order) -> None: ...

    @flow.compensate(reserve)
    def release(event: Order) -> None: ...

    @flow.step
    def endless(event: Order) -> Iterator[Item]:
        yield Item()

    @flow.step
    def bad(event: Order) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order())
    returns(driver, "reserve")
    fails(driver, "bad")
    worker, item = one(driver, "endless")
    decision = driver.tell(Cancel(run_id, object(), "ann"))
    assert answer(decision) is None
    assert [(stop.worker, stop.tokens) for stop in decision.cancel] == [(worker, [item[0]])]
    assert held(driver, "release") == []
    driver.answer(worker, item, CompletionKind.RELEASE)
    returns(driver, "release")
    assert ends(driver) == ["compensated"]
    assert picture(driver.decider.state) == picture(driver.replayed())


def pivot_alone() -> tuple[CoreDriver, bytes]:
    """A run that owes nothing and is at its pivot; another of its steps waits for a worker."""
    flow = Pipeline("pivot-alone")

    @flow.step(pivot=True)
    def pay(event: Order) -> Paid: ...  # type: ignore[empty-body]

    @flow.step
    def pack(event: Order) -> None: ...

    @flow.step
    def send(event: Paid) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order())
    decision = driver.tell(Cancel(run_id, object(), "ann"))
    assert answer(decision) is None
    assert [stop.worker for stop in decision.cancel] == [one(driver, "pack")[0]]
    assert ends(driver) == []
    return driver, run_id


def test_a_pivot_is_not_interrupted_by_a_cancel_and_where_it_is_done_its_run_goes_forward() -> None:
    driver, run_id = pivot_alone()
    driver.answer(*one(driver, "pack"), CompletionKind.RELEASE)
    assert held(driver, "pack") == []
    returns(driver, "pay", Paid())
    assert isinstance(answer(driver.tell(Cancel(run_id, object(), "ann"))), RunPastPivot)
    assert picture(driver.decider.state) == picture(driver.replayed())
    returns(driver, "pack")
    returns(driver, "send")
    assert ends(driver) == ["completed"]


def test_a_pivot_that_fails_although_it_was_let_end_ends_its_run_as_cancelled() -> None:
    driver, _ = pivot_alone()
    driver.answer(*one(driver, "pack"), CompletionKind.RELEASE)
    driver.answer(*one(driver, "pay"), CompletionKind.FAIL, *TRANSIENT)
    assert ends(driver) == ["cancelled"]
    driver.tell(seconds=60)
    assert held(driver, "pay") == []


def test_a_pivot_that_waits_for_its_next_attempt_is_cancelled_at_once() -> None:
    flow = Pipeline("pivot-waits")

    @flow.step(pivot=True)
    def pay(event: Order) -> None: ...

    driver = CoreDriver(flow)
    run_id = driver.emit(Order())
    driver.answer(*one(driver, "pay"), CompletionKind.FAIL, *TRANSIENT)
    driver.tell(Cancel(run_id))
    assert ends(driver) == ["cancelled"]
