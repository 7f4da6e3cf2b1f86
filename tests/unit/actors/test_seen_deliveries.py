"""A worker takes no delivery twice, and reports the deliveries that it does not have."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ensue import Event, Pipeline
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker.async_executor import TaskExecutor
from ensue.actors.worker.outbox import Outbox
from ensue.actors.worker.seen_deliveries import SeenDeliveries
from ensue.actors.worker.worker import make_worker_core
from ensue.actors.worker.worker_core import WorkerCore
from ensue.events.decide.inputs import CompletionKind
from ensue.events.ids import derived_id
from ensue.events.model.codec import encode, pack

SECONDS = 20.0


def items(*tokens: int) -> list[list[Any]]:
    return [[token, "rest"] for token in tokens]


def done(*tokens: int) -> list[list[Any]]:
    return [[CompletionKind.DONE, token, 1, [], False] for token in tokens]


def test_deliveries_that_are_new_are_all_taken_as_they_came() -> None:
    batch = items(3, 1, 2)
    assert SeenDeliveries().fresh(batch) is batch


@pytest.mark.parametrize("answered", [False, True])
def test_a_delivery_that_comes_twice_is_taken_once(*, answered: bool) -> None:
    seen = SeenDeliveries()
    seen.fresh(items(1, 2))
    if answered:
        seen.mark_answered(done(1, 2))
    assert seen.fresh(items(2, 3, 1)) == items(3)


def test_a_delivery_that_stands_twice_in_one_message_is_taken_once() -> None:
    assert SeenDeliveries().fresh(items(1, 2, 1)) == items(1, 2)


def test_what_never_came_is_missing_and_refused_when_it_comes_late() -> None:
    seen = SeenDeliveries()
    seen.fresh(items(1))
    assert seen.missing([1, 2, 3]) == [2, 3]
    assert seen.fresh(items(1, 2, 3, 4)) == items(4)


def test_what_was_answered_is_missing_and_what_only_yielded_is_not() -> None:
    seen = SeenDeliveries()
    seen.fresh(items(1, 2, 3, 4, 5))
    seen.mark_answered(
        [
            [CompletionKind.STREAM, 1, 0, []],
            [CompletionKind.STUCK, 2],
            [CompletionKind.RELEASE, 3],
            [CompletionKind.FAIL, 4],
            *done(5),
        ]
    )
    assert seen.missing([1, 2, 3, 4, 5]) == [3, 4, 5]


@given(
    batches=st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=20), remembered=st.sampled_from([1, 4, 10**6])
)
def test_what_is_remembered_is_bounded_and_what_is_owed_is_never_forgotten(
    batches: list[list[int]], remembered: int
) -> None:
    seen, owed, taken = SeenDeliveries(remembered), set[int](), list[int]()
    for batch in batches:
        new = [item[0] for item in seen.fresh(items(*batch))]
        assert len(new) == len(set(new))
        assert not set(new) & set(taken[len(taken) - remembered :])
        owed |= set(new)
        taken += new
        for token in [token for token in owed if token % 3]:
            seen.mark_answered(done(token))
            owed.discard(token)
        assert set(seen.missing(range(100, 100))) == set()
    assert set(range(61)) - set(seen.missing(range(61))) == owed


class Lane(RuleBasedStateMachine):
    """A lane that loses, doubles and reorders deliveries, and whoever gives them out and inquires after them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = SeenDeliveries()
        self.tokens = itertools.count(1)
        self.under_way: list[int] = []
        self.leased: dict[int, str] = {}
        self.running: list[int] = []
        self.ran: list[str] = []

    @rule(name=st.uuids())
    def give_out(self, name: object) -> None:
        token = next(self.tokens)
        self.leased[token] = str(name)
        self.under_way.append(token)

    @rule(which=st.integers(0, 9), copies=st.integers(0, 2))
    def carry(self, which: int, copies: int) -> None:
        if self.under_way:
            token = self.under_way.pop(which % len(self.under_way))
            self.running += [item[0] for item in self.seen.fresh(items(*[token] * copies))]
            if copies == 2:
                self.under_way.append(token)

    @rule()
    def answer(self) -> None:
        if self.running:
            token = self.running.pop()
            self.seen.mark_answered(done(token))
            self.ran.append(self.leased.pop(token))

    @rule()
    def inquire(self) -> None:
        for token in self.seen.missing(list(self.leased)):
            again = next(self.tokens)
            self.leased[again] = self.leased.pop(token)
            self.under_way.append(again)

    @invariant()
    def nothing_runs_twice(self) -> None:
        names = [*self.ran, *(self.leased[token] for token in self.running)]
        assert len(names) == len(set(names))

    @invariant()
    def what_runs_is_leased_once(self) -> None:
        assert all(token in self.leased for token in self.running)


TestLane = Lane.TestCase


class Order(Event):
    n: int


def delivery(token: int) -> list[Any]:
    run = derived_id(bytes(16), "run", token)
    return [token, run, 1, 1, 0, 0, [[derived_id(run, "event", 0), "Order", 1, encode(Order(n=token))]]]


def worker(pipeline: Pipeline, ring: Callable[[], None]) -> WorkerCore:
    return make_worker_core(pipeline.steps["work"], list(pipeline.registry), ring)


def said(outbox: Outbox) -> list[tuple[int, Any]]:
    return [unpack_message(message) for message in outbox.take()]


@pytest.mark.parametrize("style", ["thread", "coroutine"])
def test_what_is_queued_running_or_about_to_be_sent_is_not_missing(style: str) -> None:
    flow, begun, go = Pipeline("held"), threading.Event(), threading.Event()

    if style == "thread":

        @flow.step(name="work", concurrency=1)
        def work(event: Order) -> None:
            begun.set()
            go.wait(SECONDS)

    else:

        @flow.step(name="work", concurrency=1)
        async def work_async(event: Order) -> None:
            begun.set()
            go.wait(SECONDS)

    rung = threading.Semaphore(0)
    core = worker(flow, rung.release)
    core.handle(pack([int(Tag.DELIVER), [delivery(1), delivery(2)]]))
    assert begun.wait(SECONDS)
    core.handle(pack([int(Tag.INQUIRE), [1, 2]]))
    assert said(core.outbox) == []
    go.set()
    core.executor.close(SECONDS)
    core.handle(pack([int(Tag.INQUIRE), [1, 2]]))
    messages = said(core.outbox)
    assert [tag for tag, _ in messages] == [Tag.COMPLETIONS]
    assert sorted(item[1] for item in messages[0][1]) == [1, 2]
    core.handle(pack([int(Tag.INQUIRE), [1, 2]]))
    assert said(core.outbox) == [(Tag.MISSING, [1, 2])]
    if isinstance(core.executor, TaskExecutor):
        core.executor.loop.close()


def test_under_constant_inquiry_no_delivery_is_called_missing_before_its_answer_was_sent() -> None:
    flow, rung = Pipeline("busy"), threading.Semaphore(0)

    @flow.step(concurrency=4)
    def work(event: Order) -> None:
        pass

    core = worker(flow, rung.release)
    sent: list[bytes] = []
    core.outbox.send = sent.extend
    count = 4_000
    for first in range(1, count, 8):
        tokens = range(first, first + 8)
        core.handle(pack([int(Tag.DELIVER), [delivery(token) for token in tokens]]))
        core.executor.nudge()
        core.handle(pack([int(Tag.INQUIRE), list(range(max(1, first - 64), first + 8))]))
        core.outbox.flush()
    core.executor.close(SECONDS)
    core.outbox.flush()
    answered: set[int] = set()
    for tag, body in map(unpack_message, sent):
        if tag == Tag.COMPLETIONS:
            answered |= {item[1] for item in body}
        else:
            assert set(body) <= answered
    assert answered == set(range(1, count + 1))
