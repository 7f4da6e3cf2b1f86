"""The same engine started again: handles of runs, time-outs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ensue import EnsueError, Event, Pipeline, Retry
from ensue.actors.local import LocalEngine

SECONDS = 10.0


class Order(Event):
    pass


class Shipped(Event):
    pass


class Shop:
    """An engine whose carrier answers once a test says so."""

    def __init__(self, folder: Path) -> None:
        self.answers = False
        self.flow = flow = Pipeline("flow")
        self.store = f"sqlite:///{folder}/ensue.db"

        @flow.step(retry=Retry(attempts=5))
        def ship(order: Order) -> Shipped:
            if not self.answers:
                raise ConnectionError("the carrier does not answer")
            return Shipped()

        self.engine = LocalEngine(flow, store=self.store, skip_time=False)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path)
    await shop.engine.start()
    yield shop
    await shop.engine.stop()


async def test_a_run_that_continues_at_the_next_start_has_a_result_although_its_handle_failed(shop: Shop) -> None:
    engine = shop.engine
    before = await engine.emit(Order())
    await engine.idle()
    await engine.stop()
    with pytest.raises(EnsueError, match="the engine has stopped"):
        await before.result(SECONDS)
    shop.answers = True
    await engine.start()
    again = await engine.run(before.id)
    engine.advance(3600.0)
    assert (await again.result(SECONDS)).event == Shipped()


async def test_a_retry_at_the_next_start_has_a_result_although_the_handle_of_the_run_failed(shop: Shop) -> None:
    engine = shop.engine
    before = await engine.emit(Order())
    await engine.idle()
    await engine.stop()
    async with LocalEngine(shop.flow, store=shop.store, skip_time=False) as other:
        await other.cancel(before.id)
    await engine.start()
    shop.answers = True
    again = await engine.retry(before.id)
    assert (await again.result(SECONDS)).event == Shipped()


async def test_an_attempt_that_hangs_after_the_next_start_still_times_out(tmp_path: Path) -> None:
    hangs = False
    flow = Pipeline("flow")

    @flow.step(retry=Retry(attempts=1), timeout=0.05)
    async def ship(order: Order) -> Shipped:
        if hangs:
            await asyncio.Event().wait()
        return Shipped()

    engine = LocalEngine(flow, store=f"sqlite:///{tmp_path}/ensue.db")
    async with engine:
        assert (await (await engine.emit(Order())).result(SECONDS)).ok
    hangs = True
    async with engine:
        (error,) = (await (await engine.emit(Order())).result(SECONDS)).errors
    assert error.error == "TimeoutError"
