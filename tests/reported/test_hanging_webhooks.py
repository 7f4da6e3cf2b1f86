"""Reported: a webhook function has no time limit, and on SIGTERM a hanging one answers 500."""

import asyncio

import pytest

from ensue import Event, Pipeline, Webhook, hooks

from ..acceptance.stand_in import StandInEngine
from .door import post, served


class Ping(Event): ...


class Hanging:
    """An engine with the webhook /hooks/slow, which waits until `go` is set, and fails as `failure` says."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.entered, self.go = asyncio.Event(), asyncio.Event()
        pings = Pipeline("pings")

        @pings.step
        def hear(event: Ping) -> None: ...

        @pings.webhook("slow", verify=hooks.Insecure())
        async def from_slow(hook: Webhook) -> Ping:
            self.entered.set()
            if failure is not None:
                raise failure
            await self.go.wait()
            return Ping()

        self.engine = StandInEngine([pings])


async def test_a_function_that_hangs_is_stopped_and_the_sender_may_try_again() -> None:
    hanging = Hanging()
    async with served(hanging.engine, webhook_timeout_seconds=0.05) as door:
        (answer,) = await door.talk(post(b"/hooks/slow"))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert b"webhook-timeout" in answer.body
        hanging.go.set()
        (answer,) = await door.talk(post(b"/hooks/slow"))
        assert answer.status == 202


async def test_a_timeout_of_the_function_itself_is_an_error_of_the_function() -> None:
    async with served(Hanging(TimeoutError("its own")).engine) as door:
        (answer,) = await door.talk(post(b"/hooks/slow"))
    assert answer.status == 500


async def test_a_function_that_hangs_while_the_server_stops_answers_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensue.gateway.api.server._LAST_ANSWERS_SECONDS", 0.05)
    hanging = Hanging()
    async with served(hanging.engine, webhook_timeout_seconds=60) as door:
        asking = asyncio.create_task(door.talk(post(b"/hooks/slow")))
        await hanging.entered.wait()
    (answer,) = await asking
    assert (answer.status, hanging.engine.accepted) == (503, [])
    assert "retry-after" in answer.headers


async def test_a_function_that_ends_after_the_engine_answers_503() -> None:
    hanging = Hanging()
    async with served(hanging.engine) as door:
        asking = asyncio.create_task(door.talk(post(b"/hooks/slow")))
        await hanging.entered.wait()
        hanging.engine.said = "draining"
        hanging.go.set()
        (answer,) = await asking
    assert (answer.status, hanging.engine.accepted) == (503, [])
