"""An exception that is no ordinary one ended its worker, lost its trace, or hid the GiveUp that was in a group."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, NoReturn

import pytest

from ensue import Event, GiveUp, Outcome, Pipeline, Retry
from ensue.actors.local import LocalEngine
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker.executor import Executor
from ensue.actors.worker.retry_decision import classify, feeds_breaker, judge
from ensue.actors.worker.worker import make_worker_core
from ensue.events.decide.inputs import CompletionKind
from ensue.events.ids import derived_id
from ensue.events.model.codec import encode, pack
from ensue.events.model.failure import FailureKind

pytestmark = pytest.mark.timeout(60)


class A(Event):
    n: int = 0


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class ExitsToo(BaseException):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class LooksLikeHttp(Exception):
    @property
    def response(self) -> NoReturn:
        raise SystemExit(4)


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def the_place() -> NoReturn:
        raise error

    return the_place


def _pipeline(error: BaseException, *, is_async: bool) -> Pipeline:
    pipeline, place = Pipeline("traces"), raising(error)

    def work(event: A) -> None:
        place()

    async def async_work(event: A) -> None:
        place()

    pipeline.step(name="work", retry=1, concurrency=1)(async_work if is_async else work)
    return pipeline


async def _outcome(error: BaseException, *, is_async: bool) -> Outcome:
    async with LocalEngine(_pipeline(error, is_async=is_async)) as engine:
        return await (await engine.emit(A())).result()


ERRORS = [
    Exits(),
    ExitsToo(),
    LooksLikeHttp("x"),
    SystemExit(2),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError("mine"),
    ExceptionGroup("several", [ValueError("one"), Exits()]),
    BaseExceptionGroup("several", [SystemExit(1), ValueError("two")]),
]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_the_failure_keeps_its_name_and_its_place(error: BaseException, is_async: bool) -> None:
    outcome = await _outcome(error, is_async=is_async)
    (failure,) = outcome.errors
    assert outcome.status == "failed"
    assert type(error).__name__ in failure.error + failure.message
    assert "the_place" in failure.trace


def items(*tokens: int) -> bytes:
    run = derived_id(bytes(16), "run", 1)
    rows = [[t, run, t, 1, 0, 0, [[derived_id(run, "event", t), "A", 1, encode(A(n=t))]]] for t in tokens]
    return pack([int(Tag.DELIVER), rows])


def completions(messages: Iterable[bytes]) -> list[list[Any]]:
    told = [unpack_message(message) for message in messages]
    return [item for tag, body in told if tag == Tag.COMPLETIONS for item in body]


@pytest.mark.parametrize("error", [Exits(), ExitsToo(), SystemExit(2)], ids=lambda error: type(error).__name__)
def test_a_thread_of_a_worker_reports_it_and_goes_on(error: BaseException) -> None:
    pipeline = _pipeline(error, is_async=False)
    core = make_worker_core(pipeline.steps["work"], list(pipeline.registry), lambda: None)
    core.handle(items(1, 2))
    said: list[list[Any]] = []
    while len(said) < 2:
        said += completions(core.outbox.take())
    core.executor.close(30.0)
    assert [(item[0], item[1]) for item in said] == [(CompletionKind.FAIL, 1), (CompletionKind.FAIL, 2)]


def _wait(retry: Retry, error: BaseException) -> float | None:
    return judge(retry, error, 1, 0.0, bytes(16), now_seconds=0.0).wait_seconds


def test_what_is_in_a_group_decides() -> None:
    lost, given_up = ConnectionError("lost"), GiveUp("no")
    group = ExceptionGroup("tasks", [lost, ExceptionGroup("inner", [given_up])])
    assert classify(group) is FailureKind.PERMANENT
    assert _wait(Retry(wait=1), group) is None
    both = ExceptionGroup("tasks", [lost, ValueError("x")])
    only = ExceptionGroup("tasks", [lost, ExceptionGroup("inner", [ConnectionResetError()])])
    assert _wait(Retry(wait=1, on=ConnectionError), only) == 1
    assert _wait(Retry(wait=1, on=ConnectionError), both) is None
    assert _wait(Retry(wait=1, give_up_on=ValueError), both) is None
    assert _wait(Retry(wait=1, give_up_on=ValueError), only) == 1
    assert _wait(Retry(wait=1, by_exception={ConnectionError: Retry(wait=7)}), only) == 7
    assert feeds_breaker(both, (ValueError,))
    assert not feeds_breaker(only, (ValueError,))


def test_a_cancelled_sleeper_is_reported_as_stuck_unless_a_neighbour_would_pay() -> None:
    pipeline, go, began = Pipeline("sleepers"), threading.Event(), threading.Semaphore(0)

    @pipeline.step(concurrency=2, timeout=3600)
    def sleep(event: A) -> None:
        began.release()
        go.wait(30)

    core = make_worker_core(pipeline.steps["sleep"], list(pipeline.registry), lambda: None)
    executor = core.executor
    later = 0.0
    executor.monotonic = lambda: time.monotonic() + later
    with closing(_Released(go)):
        core.handle(items(1, 2))
        executor.nudge()
        assert began.acquire(timeout=30)
        assert began.acquire(timeout=30)
        core.handle(pack([int(Tag.CANCEL), [1]]))
        later = 60.0
        executor.watch()
        assert not _is_stuck(executor)
        core.handle(pack([int(Tag.CANCEL), [2]]))
        executor.watch()
        later = 120.0
        executor.watch()
        assert _is_stuck(executor)
        assert {item[1] for item in completions(core.outbox.take())} >= {1}
    executor.close(30.0)


def _is_stuck(executor: Executor) -> bool:
    return executor.is_stuck


class _Released:
    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def close(self) -> None:
        self._event.set()
