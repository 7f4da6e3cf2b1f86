"""Symptom: a step that returns 380,000 events, or gathers them, is called again and again as attempt 1."""

import pytest

from ensue import Event, Pipeline
from ensue.actors.worker import outbox
from ensue.events.decide import leasing
from ensue.testing import LocalEngine

pytestmark = pytest.mark.timeout(60)
_LONG_NAME = "n" * 90


class Order(Event):
    n: int = 0


class Item(Event, type=_LONG_NAME):
    n: int


class Total(Event):
    n: int


def _flow(calls: list[str]) -> Pipeline:
    flow = Pipeline("large")

    @flow.step
    def fan(event: Order) -> list[Item]:
        calls.append("fan")
        return [Item(n=n) for n in range(event.n)]

    @flow.step
    def gather(items: list[Item]) -> Total:
        calls.append("gather")
        return Total(n=len(items))

    return flow


async def _error(flow: Pipeline) -> tuple[str, str, str]:
    async with LocalEngine(flow) as engine:
        outcome = await (await engine.emit(Order(n=1_000))).result(20)
        assert outcome.status == "failed"
        small = await (await engine.emit(Order(n=10))).result(20)
        assert small.events == [Total(n=10)]
    return outcome.errors[0].step, outcome.errors[0].kind, outcome.errors[0].message


async def test_a_result_whose_message_is_over_the_limit_fails_its_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_MESSAGE_BYTES", 50_000)
    monkeypatch.setattr(outbox, "_MAX_BYTES", 25_000)
    calls: list[str] = []
    step, kind, message = await _error(_flow(calls))
    assert (step, kind) == ("fan", "permanent")
    assert "over the limit of 50,000: yield the events instead of returning a list" in message
    assert calls == ["fan", "fan", "gather"]


async def test_a_delivery_counts_the_names_of_its_events_and_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "_MOST_DELIVERED_BYTES", 50_000)
    calls: list[str] = []
    step, kind, message = await _error(_flow(calls))
    assert (step, kind) == ("gather", "permanent")
    assert "over the limit of 50,000: gather less" in message
    assert calls == ["fan", "fan", "gather"]
