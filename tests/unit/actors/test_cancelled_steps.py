"""A step in a thread cannot be interrupted: if it finishes after its run was cancelled, its result is reported.

And what is handed back may be taken by a thread at the same moment.
"""

import asyncio
import threading
from collections import deque
from contextlib import closing
from typing import Any

import pytest

from ensue import Event, GiveUp, Pipeline
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker.async_executor import TaskExecutor
from ensue.actors.worker.worker import make_worker_core
from ensue.events.decide.inputs import CompletionKind
from ensue.events.ids import derived_id
from ensue.events.model.codec import encode, pack

pytestmark = pytest.mark.timeout(60)
SECONDS = 30.0


class Order(Event):
    n: int


class Paid(Event):
    n: int


def deliver(*tokens: int) -> bytes:
    run = derived_id(bytes(16), "run", 1)
    items = [
        [token, run, token, 1, 0, 0, [[derived_id(run, "event", token), "Order", 1, encode(Order(n=token))]]]
        for token in tokens
    ]
    return pack([int(Tag.DELIVER), items])


def cancelled(*, gives_up: bool) -> list[list[Any]]:
    """What a worker says of a step that is cancelled while it runs, with another behind it in the queue."""
    flow, began, go = Pipeline("late"), threading.Event(), threading.Event()

    @flow.step(concurrency=1)
    def pay(event: Order) -> Paid:
        began.set()
        go.wait(SECONDS)
        if gives_up:
            raise GiveUp("no")
        return Paid(n=event.n)

    core = make_worker_core(flow.steps["pay"], list(flow.registry), lambda: None)
    core.handle(deliver(1, 2))
    assert began.wait(SECONDS)
    core.handle(pack([int(Tag.CANCEL), [1, 2]]))
    go.set()
    core.executor.close(SECONDS)
    said = [unpack_message(message) for message in core.outbox.take()]
    return sorted((item for tag, body in said if tag == Tag.COMPLETIONS for item in body), key=lambda item: item[1])


def test_a_step_that_returns_although_it_was_cancelled_says_what_it_did() -> None:
    first, second = cancelled(gives_up=False)
    assert first[:2] == [CompletionKind.DONE, 1]
    assert [(output[0], output[2]) for output in first[3]] == [("Paid", encode(Paid(n=1)))]
    assert second == [CompletionKind.RELEASE, 2]


def test_a_step_that_fails_after_it_was_cancelled_is_handed_back() -> None:
    assert cancelled(gives_up=True) == [[CompletionKind.RELEASE, 1], [CompletionKind.RELEASE, 2]]


class Contested(deque[Any]):
    """A queue whose last item another thread takes just after it was seen."""

    def __bool__(self) -> bool:
        return True


def test_a_delivery_that_another_thread_takes_at_this_moment_fails_nothing() -> None:
    flow = Pipeline("contested")

    @flow.step
    def pay(event: Order) -> Paid:
        return Paid(n=event.n)

    core = make_worker_core(flow.steps["pay"], list(flow.registry), lambda: None)
    with closing(asyncio.new_event_loop()) as loop:
        tasks = TaskExecutor(core.executor.invoker, core.outbox, loop)
        tasks.queue = Contested()
        tasks.hand_back()
        tasks._start_tasks()
    assert core.outbox.take() == []
