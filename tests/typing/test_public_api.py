"""The declarative interface as mypy and pyright see it: decorators hand back what they were given, types and all.

The type checkers are the test; that the file also runs is one more.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, assert_type

import pytest

from ensue import Backoff, Context, Event, GiveUp, Outcome, Pipeline, Retry, StepFailed, Webhook, run
from ensue import arun as ensue_arun
from ensue.events.pipelines.check import Finding
from ensue.events.pipelines.graph import Graph


class OrderPlaced(Event):
    order_id: str
    amount: float


class Charged(Event, type="orders.charged", version=2, key="order_id"):
    order_id: str


class Declined(Event):
    order_id: str
    reason: str


class Shipped(Event):
    order_id: str


class Trusting:
    """A verifier of the user."""

    scheme = "insecure"
    body_limit_bytes = 1_000

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        return None


orders = Pipeline("orders", description="From shop to door")


@orders.step
async def charge(event: OrderPlaced) -> Charged | Declined:
    if event.amount < 0:
        return Declined(order_id=event.order_id, reason="negative")
    return Charged(order_id=event.order_id)


@orders.step(
    retry=Retry(attempts=5, wait=Backoff(first_seconds=0.5), on=(OSError,)), timeout=30, replicas=2, num_cpus=1
)
def ship(event: Charged, ctx: Context) -> Shipped:
    assert_type(ctx.attempt, int)
    assert_type(ctx.idempotency_key, str)
    assert_type(ctx.events(OrderPlaced), list[OrderPlaced])
    return Shipped(order_id=event.order_id)


@orders.step(retry=3, name="split")
def split_up(event: OrderPlaced) -> Iterator[Shipped]:
    yield Shipped(order_id=event.order_id)


@orders.step
async def stream(event: Charged | Declined) -> AsyncIterator[Shipped]:
    yield Shipped(order_id=event.order_id)


@orders.step
def gather(events: list[Shipped], placed: OrderPlaced) -> None:
    assert_type(events[0].order_id, str)


@orders.step(num_gpus=0.5, concurrency=4, memory=2**30, resources={"tpu": 1})
class Model:
    def __init__(self) -> None:
        self.limit = 3.0

    def __call__(self, event: OrderPlaced) -> Declined | None:
        if event.amount > self.limit:
            raise GiveUp("too dear")
        return None

    def close(self) -> None: ...


@orders.step
class Plain:
    async def __call__(self, event: Declined) -> None: ...


@orders.on_error(charge, "ship", retry=1)
async def mend(failure: StepFailed) -> None:
    assert_type(failure.attempts, int)


@orders.on_error()
def mourn(failure: StepFailed) -> Declined:
    return Declined(order_id=str(failure.data.get("order_id")), reason=failure.message)


@orders.webhook("shop", verify=Trusting())
def from_shop(hook: Webhook) -> OrderPlaced | None:
    return OrderPlaced(order_id=hook.endpoint, amount=1) if hook.body else None


@Charged.upcaster(from_version=1)
def from_first(fields: dict[str, Any]) -> dict[str, Any]:
    return {"order_id": fields["id"]}


def test_a_decorated_step_is_what_it_was() -> None:
    shipping: Callable[[Charged, Context], Shipped] = ship
    splitting: Callable[[OrderPlaced], Iterator[Shipped]] = split_up
    streaming: Callable[[Charged | Declined], AsyncIterator[Shipped]] = stream
    assert_type(from_shop(Webhook("shop", b"{}", {})), OrderPlaced | None)
    assert_type(Model()(OrderPlaced(order_id="o-1", amount=1)), Declined | None)
    assert_type(Model().limit, float)
    assert [step.target for step in orders.steps.values()][1:4] == [shipping, splitting, streaming]


def test_run_and_arun_return_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome("", "completed", [], [])

    async def arun(*_: object, **__: object) -> Outcome:
        return outcome

    monkeypatch.setattr("ensue.actors.run_once.arun", arun)
    event = OrderPlaced(order_id="o-1", amount=1)
    assert_type(run(orders, event, store=Path("ensue.db"), timeout=5), Outcome)
    waiting: Callable[[], Coroutine[Any, Any, Outcome]] = partial(ensue_arun, orders, event, store="memory://")
    assert callable(waiting)


async def test_an_async_step_can_be_awaited_by_hand() -> None:
    outcome = await charge(OrderPlaced(order_id="o-1", amount=9.5))
    assert_type(outcome, Charged | Declined)
    assert outcome == Charged(order_id="o-1")


def test_a_pipeline_shows_its_findings_and_its_graph() -> None:
    assert_type(orders.check(), list[Finding])
    assert_type(orders.graph(), Graph)
    assert [finding.severity for finding in orders.check()] == ["warning"]
