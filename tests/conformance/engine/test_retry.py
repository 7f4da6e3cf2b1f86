"""Deadlines, settings for each exception, requested waits and heartbeats are the same on every engine."""

import asyncio
import errno
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from ensue import Breaker, Context, Event, Pipeline, Retry
from ensue.actors.local import LocalEngine, ManualClock
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker.local_runtime import LocalRuntime
from ensue.events.errors import Overloaded
from ensue.events.model.codec import pack

from ...child_process import run_program
from ..engines import Rig, Trace

pytestmark = pytest.mark.timeout(90)
TIMEOUT_SECONDS = 0.7
PAUSE_SECONDS = 0.05


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Refused(ConnectionError):
    """An exception of a step's own."""


class Busy(ConnectionError):
    """What a client raises that keeps the headers of the answer."""

    def __init__(self, retry_after: str) -> None:
        super().__init__(retry_after)
        self.headers = {"Retry-After": retry_after}


async def test_no_attempt_begins_after_the_deadline_and_the_failure_says_so(local: Rig, trace: Trace) -> None:
    flow = Pipeline("deadline")

    @flow.step(retry=Retry(attempts=99, wait=10.0, deadline=35.0))
    def fail(event: Order, ctx: Context) -> None:
        trace.note(ctx.attempt)
        raise ConnectionError("refused")

    outcome = await local.run(flow, Order())
    assert (outcome.status, trace.lines) == ("failed", ["1", "2", "3", "4"])
    assert outcome.errors[0].message == "refused (given up: the deadline of 35 s leaves no time for another attempt)"


async def test_an_attempt_that_a_breaker_held_back_beyond_the_deadline_never_begins() -> None:
    flow = Pipeline("held-back")
    clock = ManualClock()
    began: list[float] = []

    @flow.step(
        retry=Retry(attempts=10, wait=1.0, deadline=10.0),
        breaker=Breaker(failures_in_row=2, open_seconds=100.0, jitter=0.0),
    )
    def fail(event: Order) -> None:
        began.append(clock.now_us() / 1e6)
        raise ConnectionError("refused")

    async with LocalEngine(flow, clock=clock) as engine:
        outcome = await (await engine.emit(Order())).result(20)
    assert (outcome.status, [at - began[0] for at in began]) == ("failed", [0.0, 1.0])
    [error] = outcome.errors
    assert (error.attempts, error.kind) == (2, "timeout")
    assert error.message.endswith("(given up: the deadline of 10 s leaves no time for another attempt)")


async def test_if_no_time_is_left_for_a_wait_the_step_gives_up_at_once(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("no-time")

    @flow.step(retry=Retry(deadline=5.0))
    def fail(event: Order, ctx: Context) -> None:
        trace.note(ctx.attempt)
        raise Overloaded("full", retry_after_seconds=60.0)

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors[0].kind, trace.lines) == ("failed", "transient", ["1"])
    assert "full (given up: the deadline of 5 s" in outcome.errors[0].message


async def test_an_error_that_says_when_to_come_back_is_waited_for(local: Rig) -> None:
    flow = Pipeline("come-back")

    @flow.step(retry=Retry(attempts=2, wait=0.0))
    def call(event: Order, ctx: Context) -> Item:
        if ctx.attempt == 1:
            raise Overloaded("full", retry_after_seconds=3600.0)
        return Item(n=ctx.attempt)

    engine = await local.start(flow)
    run = await engine.emit(Order())
    assert (await run.result(20)).events == [Item(n=2)]
    row = engine.reader().run(run.raw_id)
    assert row is not None
    assert row.finished_us is not None
    assert row.finished_us - row.started_us >= 3_600_000_000


async def test_a_retry_after_that_is_a_date_is_a_date_on_the_clock_of_the_engine() -> None:
    flow = Pipeline("come-back-at")
    clock = ManualClock()
    began: list[float] = []

    @flow.step(retry=Retry(attempts=2, wait=0.0))
    def call(event: Order) -> None:
        began.append(clock.now_us() / 1e6)
        if len(began) == 1:
            raise Busy(formatdate(began[0] + 90, usegmt=True))

    async with LocalEngine(flow, clock=clock) as engine:
        assert (await (await engine.emit(Order())).result(20)).status == "completed"
    assert began[1] - began[0] == pytest.approx(90, abs=1)


async def test_each_exception_is_tried_as_often_as_its_own_settings_say(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("by-exception")
    errors = [ValueError, ConnectionError, Refused, TimeoutError]

    @flow.step(
        breaker=False,
        retry=Retry(
            attempts=2,
            wait=0.01,
            by_exception={ConnectionError: 3, Refused: Retry(attempts=4, wait=0.02), TimeoutError: 1},
        ),
    )
    def fail(event: Order) -> None:
        trace.note(errors[event.n].__name__)
        raise errors[event.n]("no")

    engine = await rig.start(flow)
    for run in await engine.emit_many([Order(n=n) for n in range(4)]):
        await run.result(20)
    counts = {error.__name__: trace.lines.count(error.__name__) for error in errors}
    assert counts == {"ValueError": 2, "ConnectionError": 3, "Refused": 4, "TimeoutError": 1}


async def test_a_full_disk_is_tried_twice_in_all(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("full-disk")

    @flow.step(retry=Retry(attempts=9, wait=0.01))
    def write(event: Order, ctx: Context) -> None:
        trace.note(ctx.attempt)
        raise OSError(errno.ENOSPC, "no space left")

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors[0].kind, trace.lines) == ("failed", "resource", ["1", "2"])


async def test_a_step_that_says_that_it_is_alive_may_work_longer_than_its_timeout(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("alive")

    def beat(ctx: Context) -> None:
        for n in range(int(2 * TIMEOUT_SECONDS / PAUSE_SECONDS)):
            time.sleep(PAUSE_SECONDS)  # the work
            if n % 2:
                ctx.heartbeat()
            else:
                ctx.progress(n, 42)

    @flow.step(timeout=TIMEOUT_SECONDS, retry=1)
    def by_itself(event: Order, ctx: Context) -> Item:
        beat(ctx)
        trace.note(f"by itself {ctx.attempt}")
        return Item(n=1)

    @flow.step(timeout=TIMEOUT_SECONDS, retry=1)
    def from_a_thread(event: Order, ctx: Context) -> Item:
        helper = threading.Thread(target=beat, args=(ctx,))
        helper.start()
        helper.join(60)
        trace.note(f"from a thread {ctx.attempt}")
        return Item(n=2)

    @flow.step(timeout=TIMEOUT_SECONDS, retry=1)
    async def from_a_thread_of_async_code(event: Order, ctx: Context) -> Item:
        await asyncio.to_thread(beat, ctx)
        trace.note(f"async {ctx.attempt}")
        return Item(n=3)

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors) == ("completed", [])
    assert sorted(trace.lines) == ["async 1", "by itself 1", "from a thread 1"]


async def test_a_lane_that_doubles_every_message_runs_no_step_twice(
    local: Rig, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("doubled")
    send = LocalRuntime.send

    def send_twice(runtime: LocalRuntime, worker: int, message: bytes) -> None:
        send(runtime, worker, message)
        send(runtime, worker, message)

    monkeypatch.setattr(LocalRuntime, "send", send_twice)

    @flow.step
    def first(event: Order) -> Item:
        trace.note(f"first {event.n}")
        return Item(n=event.n)

    @flow.step(retry=Retry(attempts=3, wait=0.01))
    async def second(event: Item, ctx: Context) -> None:
        trace.note(f"second {event.n} {ctx.attempt}")
        if ctx.attempt == 1:
            raise ConnectionError("once")

    engine = await local.start(flow)
    for run in await engine.emit_many([Order(n=n) for n in range(20)]):
        assert (await run.result(20)).status == "completed"
    each = [[f"first {n}", f"second {n} 1", f"second {n} 2"] for n in range(20)]
    assert sorted(trace.lines) == sorted(line for lines in each for line in lines)


async def test_a_worker_in_one_process_reports_what_never_arrived(local: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Pipeline("inquired")
    heard: list[bytes] = []
    take = LocalRuntime.take

    def overhear(runtime: LocalRuntime, worker: int, messages: list[bytes]) -> None:
        heard.extend(messages)
        take(runtime, worker, messages)

    monkeypatch.setattr(LocalRuntime, "take", overhear)

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await local.start(flow)
    assert isinstance(engine, LocalEngine)
    await (await engine.emit(Order(n=1))).result(20)
    engine._runtime.send(1, pack([int(Tag.INQUIRE), [10**9]]))
    assert (await (await engine.emit(Order(n=2))).result(20)).events == [Item(n=2)]
    assert [body for tag, body in map(unpack_message, heard) if tag == Tag.MISSING] == [[10**9]]


def test_the_example_of_the_page_on_failures_prints_what_the_page_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "failures.md").read_text(encoding="utf-8")
    code, text = (page.split(f"```{fence}\n")[1].split("```")[0] for fence in ("python", "text"))
    program = tmp_path / "pages.py"
    program.write_text(code)
    done = run_program([sys.executable, program])
    assert (done.stdout, done.stderr) == (text, "")
