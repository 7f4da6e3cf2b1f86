"""Which delivery goes to which worker, and in what portions things travel and are written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensue import Event, Pipeline
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker.outbox import Outbox
from ensue.events.decide.decision_builder import DecisionBuilder
from ensue.events.decide.dispatch import MAX_WINDOW, StepQueue, WorkerSlot, plan_leases
from ensue.events.decide.inputs import CompletionKind
from ensue.events.model.codec import MAX_MESSAGE_BYTES
from ensue.events.pipelines.plan import compile_plan
from ensue.events.state.new_records import run_record
from ensue.events.state.records import MAX_ENTRY_BYTES, RunRecord, unpack_records
from ensue.events.state.state import Delivery, DeliveryStatus, Ref, Run

MIB = 1024 * 1024


class Order(Event):
    n: int = 0


flow = Pipeline("dispatch")


@flow.step
def work(event: Order) -> None:
    return None


PLAN = compile_plan(flow.declaration, "1")
STEP = PLAN.steps[0]


def delivery(number: int = 1, *, crashes: int = 0, size: int = 10) -> Delivery:
    run = Run(number.to_bytes(16, "big"), PLAN, 0, "Order")
    ref = Ref(bytes(16), "Order", 1, bytes(size), None, None)
    made = Delivery(run, number, number, STEP, (ref,), None, None)
    made.crashes = crashes
    return made


def queue(ready: int = 0, suspects: int = 0, *slots: WorkerSlot) -> StepQueue:
    made = StepQueue("dispatch", "work")
    made.workers.extend(slots)
    for number in range(1, ready + 1):
        made.add(delivery(number))
    for number in range(ready + 1, ready + suspects + 1):
        made.add(delivery(number, crashes=1))
    return made


def slot(number: int, window: int = 4) -> WorkerSlot:
    return WorkerSlot(number, window, window)


def planned(queue: StepQueue, now_us: int = 0) -> dict[int, list[int]]:
    """Carry the plan out; delivery numbers by worker."""
    given_out: dict[int, list[int]] = {}
    for worker, deliveries in plan_leases(queue, now_us):
        for one in deliveries:
            one.status = DeliveryStatus.LEASED
            worker.leases[one.number] = one
            given_out.setdefault(worker.worker, []).append(one.number)
    return given_out


def test_what_is_ready_is_shared_out_evenly_within_the_windows() -> None:
    assert {worker: len(numbers) for worker, numbers in planned(queue(6, 0, slot(1), slot(2))).items()} == {1: 3, 2: 3}


def test_no_worker_gets_more_than_its_window() -> None:
    many = queue(100, 0, slot(1), slot(2, window=7))
    assert {worker: len(numbers) for worker, numbers in planned(many).items()} == {1: 4, 2: 7}
    assert len(many.ready) == 89
    assert planned(many) == {}


def test_the_oldest_goes_first() -> None:
    assert planned(queue(3, 0, slot(1, window=2))) == {1: [1, 2]}


def test_a_worker_that_is_being_ended_gets_nothing() -> None:
    closed = slot(1)
    closed.closed = True
    assert planned(queue(3, 0, closed)) == {}


def test_what_is_ready_no_more_is_passed_over() -> None:
    waiting = queue(3, 0, slot(1))
    waiting.ready[1].status = DeliveryStatus.PARKED
    assert planned(waiting) == {1: [1, 3]}


def test_a_suspect_runs_alone_on_its_worker() -> None:
    mixed = queue(4, 1, slot(1))
    assert planned(mixed) == {1: [5]}
    assert planned(mixed) == {}


def test_suspects_wait_for_an_idle_worker_that_is_kept_back_for_them() -> None:
    busy, other = slot(1), slot(2)
    busy.leases[9] = delivery(9)
    other.leases[8] = delivery(8)
    mixed = queue(10, 1, busy, other)
    first = planned(mixed)
    assert len(first) == 1
    kept = {1: busy, 2: other}[({1, 2} - set(first)).pop()]
    kept.leases.clear()
    assert planned(mixed) == {kept.worker: [11]}


def test_nobody_is_kept_back_while_another_worker_is_on_its_way() -> None:
    busy = slot(2)
    busy.leases[2] = delivery(2)
    mixed = queue(9, 0, busy)
    mixed.worker_died([], 3, 1_000_000)
    mixed.add(delivery(99, crashes=1))
    assert planned(mixed, 5_999_999) == {2: [1, 2, 3]}
    busy.leases.popitem()
    assert planned(mixed, 6_000_000) == {}


def test_a_culprit_waits_behind_all_others_and_runs_alone_all_the_same() -> None:
    only = slot(1)
    mixed = queue(2, 0, only)
    mixed.add(delivery(9, crashes=2))
    mixed.add(delivery(3))
    assert planned(mixed) == {1: [1, 2, 3]}
    del only.leases[1], only.leases[2]
    assert planned(mixed) == {}
    only.leases.clear()
    assert planned(mixed) == {1: [9]}


def test_a_culprit_whose_turn_it_is_goes_at_once_to_a_worker_that_is_idle() -> None:
    mixed = queue(0, 0, slot(1))
    mixed.add(delivery(9, crashes=2))
    assert planned(mixed) == {1: [9]}


def test_with_two_workers_one_suspect_leaves_the_other_to_the_rest() -> None:
    assert planned(queue(2, 1, slot(1), slot(2))) == {2: [3], 1: [1, 2]}


def test_a_window_grows_with_quick_steps_and_shrinks_with_slow_ones() -> None:
    one = slot(1, window=4)
    one.learn(10)
    assert one.window == MAX_WINDOW
    for _ in range(40):
        one.learn(1_000_000)
    assert one.window == 4


def test_large_deliveries_travel_few_at_a_time() -> None:
    heavy = StepQueue("dispatch", "work", workers=[slot(1, window=100)])
    for number in range(1, 11):
        heavy.add(delivery(number, size=3 * MIB))
    assert planned(heavy) == {1: [1, 2, 3]}


@given(
    ready=st.integers(0, 50),
    suspects=st.integers(0, 5),
    windows=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    rounds=st.integers(1, 80),
)
def test_everything_is_given_out_once_and_suspects_always_alone(
    ready: int, suspects: int, windows: list[int], rounds: int
) -> None:
    slots = [slot(number, window) for number, window in enumerate(windows, 1)]
    mine = queue(ready, suspects, *slots)
    given_out: list[int] = []
    for turn in range(rounds):
        for numbers in planned(mine).values():
            given_out += numbers
        for one in slots:
            assert len(one.leases) <= one.window
            if any(d.crashes for d in one.leases.values()):
                assert len(one.leases) == 1
        done = slots[turn % len(slots)]
        if done.leases:
            del done.leases[next(iter(done.leases))]
    assert len(given_out) == len(set(given_out))
    if rounds >= 4 * (ready + suspects + 4):
        assert sorted(given_out) == list(range(1, ready + suspects + 1))


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 2000])
def test_completions_leave_in_portions_and_all_of_them(count: int) -> None:
    outbox = Outbox(lambda: None)
    for token in range(count):
        outbox.add([CompletionKind.DONE, token, 1, [], False])
    bodies = [unpack_message(message) for message in outbox.take()]
    assert all(tag == Tag.COMPLETIONS and len(items) <= 512 for tag, items in bodies)
    assert [item[1] for _, items in bodies for item in items] == list(range(count))


def test_no_message_of_large_completions_is_too_large_to_be_read() -> None:
    outbox = Outbox(lambda: None)
    data = bytes(4 * MIB)
    for token in range(40):
        outbox.add([CompletionKind.DONE, token, 1, [["Blob", 1, data, None]], False])
    messages = outbox.take()
    assert all(len(message) < MAX_MESSAGE_BYTES for message in messages)
    assert sum(len(unpack_message(message)[1]) for message in messages) == 40


def test_the_bell_rings_once_until_the_outbox_is_emptied() -> None:
    rings: list[Any] = []
    outbox = Outbox(lambda: rings.append(1))
    outbox.add([CompletionKind.RELEASE, 1])
    outbox.add([CompletionKind.RELEASE, 2])
    assert len(rings) == 1
    outbox.take()
    outbox.add([CompletionKind.RELEASE, 3])
    assert len(rings) == 2


def test_an_entry_of_the_log_that_could_not_be_read_back_is_written_as_several() -> None:
    builder = DecisionBuilder(10)
    run = Run(bytes(16), PLAN, 0, "Order")
    builder.open(0)
    for number in range(40):
        builder.record(run, run_record(bytes(3 * MIB), "flow", "1", str(number), None))
    entries = builder.close().entries
    assert len(entries) > 1
    assert all(len(entry.body) <= MAX_ENTRY_BYTES for entry in entries)
    assert [entry.run for entry in entries] == [10] * len(entries)
    records = [record for entry in entries for record in unpack_records(entry.body)]
    assert [record.source for record in records if isinstance(record, RunRecord)] == [str(n) for n in range(40)]
    assert [entry.offset for entry in entries[1:]] == [entry.offset + entry.count for entry in entries[:-1]]
    assert builder.next_offset == 50
