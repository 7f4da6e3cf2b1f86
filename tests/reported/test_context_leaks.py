"""What one run set in a context variable (as the precision of decimal is) was still set in the next run."""

import decimal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from ensue import Event, Pipeline
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker.async_executor import TaskExecutor
from ensue.actors.worker.worker import make_worker_core
from ensue.events.ids import derived_id
from ensue.events.model.codec import decode, encode, pack

from ..conformance.engines import Rig, by_value

by_value(__name__)
pytestmark = pytest.mark.timeout(60)


class Asked(Event):
    n: int


class Seen(Event):
    precision: int


def look(event: Asked) -> Seen:
    seen = Seen(precision=decimal.getcontext().prec)
    decimal.getcontext().prec = event.n + 100
    return seen


def plain(event: Asked) -> Seen:
    return look(event)


def stream(event: Asked) -> Iterator[Seen]:
    yield look(event)


async def coroutine(event: Asked) -> Seen:
    return look(event)


async def async_stream(event: Asked) -> AsyncIterator[Seen]:
    yield look(event)


CODES = [plain, stream, coroutine, async_stream]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.__name__)
async def test_no_attempt_sees_what_another_one_set(rig: Rig, code: Callable[..., Any]) -> None:
    pipeline = Pipeline("contexts")
    pipeline.step(name="look", concurrency=1)(code)
    with decimal.localcontext(prec=5):  # a step does not see its caller's context either: it may run elsewhere
        engine = await rig.start(pipeline)
        handles = await engine.emit_many([Asked(n=n) for n in range(1, 6)])
        outcomes = [await handle.result(30) for handle in handles]
        assert decimal.getcontext().prec == 5
    assert [outcome.events for outcome in outcomes] == [[Seen(precision=28)]] * 5


class Setting:
    """A step that sets a variable when its worker starts."""

    def __init__(self) -> None:
        decimal.getcontext().prec = 77

    def __call__(self, event: Asked) -> Seen:
        return look(event)


async def test_what_a_class_set_when_it_was_made_is_seen_by_nobody(rig: Rig) -> None:
    pipeline = Pipeline("contexts")
    pipeline.step(name="look", concurrency=1)(Setting)
    engine = await rig.start(pipeline)
    handles = await engine.emit_many([Asked(n=n) for n in range(1, 4)])
    outcomes = [await handle.result(30) for handle in handles]
    assert [outcome.events for outcome in outcomes] == [[Seen(precision=28)]] * 3
    assert decimal.getcontext().prec == 28


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.__name__)
def test_the_same_in_the_threads_and_tasks_of_one_worker(code: Callable[..., Any]) -> None:
    pipeline = Pipeline("contexts")
    pipeline.step(name="look", concurrency=1)(code)
    core = make_worker_core(pipeline.steps["look"], list(pipeline.registry), lambda: None)
    run = derived_id(bytes(16), "run", 1)
    items = [[n, run, n, 1, 0, 0, [[derived_id(run, "event", n), "Asked", 1, encode(Asked(n=n))]]] for n in range(1, 6)]
    messages: list[bytes] = []
    core.handle(pack([int(Tag.DELIVER), items]))
    ended: set[int] = set()
    seen: list[Event] = []
    while len(ended) < len(items):
        messages = core.outbox.take()
        for tag, body in map(unpack_message, messages):
            for completion in body if tag == Tag.COMPLETIONS else ():
                seen += [decode(Seen, output[2], 1) for output in completion[3]]
                ended.update([completion[1]] if completion[0] == 0 else [])
    core.executor.close(30.0)
    if isinstance(core.executor, TaskExecutor):
        core.executor.loop.close()
    assert seen == [Seen(precision=28)] * 5
