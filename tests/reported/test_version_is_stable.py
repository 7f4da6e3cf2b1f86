"""Symptom: an unchanged file strands its runs as needs_migration, since its version differs in every process."""

import asyncio
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic.json_schema import GenerateJsonSchema

from ensue import Context, Event, Pipeline
from ensue.events.pipelines.version import earlier_versions, version_of
from ensue.testing import LocalEngine

from ..child_process import run_program

pytestmark = pytest.mark.timeout(60)
_PROGRAM = """
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any
from pydantic import AfterValidator, BaseModel, Field
from ensue import Event, Pipeline
from ensue.events.pipelines.version import version_of

class Kind(enum.Enum):
    A = "a"
    B = "b"
    C = "c"

@dataclass
class Plain:
    names: frozenset[str] = frozenset({"ada", "bob", "cyd", "dan"})

class Inner(BaseModel):
    tags: set[str] = Field({"x", "y", "z", "w"}, alias="Tags")

class Outer(BaseModel):
    inner: Inner = Inner()
    plain: Plain = Plain()
    many: dict[str, set[str]] = {"b": {"k", "l", "m"}, "a": {"n", "o", "p"}}

class Order(Event):
    outer: Outer = Outer()
    kinds: set[Kind] = {Kind.A, Kind.B, Kind.C}
    groups: list[set[str]] = [{"q", "r", "s"}, {"t", "u", "v"}]
    pairs: frozenset[frozenset[str]] = frozenset({frozenset({"a", "b", "c"}), frozenset({"d", "e", "f"})})
    maybe: set[str] | None = {"one", "two", "three"}
    mixed: Any = {1, "two", 3.0, "four"}

def check(value: Any) -> Any:
    return value

class Odd(Event):
    call: list[Annotated[Callable[[], int], AfterValidator(check)]]

flow = Pipeline("stable")

@flow.step
def work(event: Order) -> None: ...

@flow.step
def call(event: Odd) -> None: ...

print(version_of(flow.declaration))
"""


def _version(seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM]
    return run_program(command, env=environment, check=True).stdout.strip()


def test_equal_code_has_an_equal_version_in_every_process() -> None:
    assert len({_version(seed) for seed in range(1, 8)}) == 1


class Bill(Event):
    amount: Decimal
    sizes: frozenset[int] = frozenset({10, 2, 33})


def _pattern(*_: object) -> str:
    return "[0-9]+"


def _constant(value: str) -> Callable[[object], str]:
    return lambda _: value


def _bills() -> Pipeline:
    flow = Pipeline("bills")

    @flow.step
    async def pay(event: Bill, ctx: Context) -> None:
        if ctx.attempt == 1:
            await asyncio.sleep(60)

    return flow


def test_a_pattern_that_some_releases_of_pydantic_add_does_not_change_the_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = version_of(_bills().declaration)
    assert earlier_versions(_bills().declaration) == frozenset()
    monkeypatch.setattr(GenerateJsonSchema, "get_decimal_pattern", _pattern)
    assert version_of(_bills().declaration) == plain
    assert len(earlier_versions(_bills().declaration) - {plain}) == 1


async def test_a_run_of_a_store_that_an_earlier_release_wrote_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/log.db"
    monkeypatch.setattr(GenerateJsonSchema, "get_decimal_pattern", _pattern)
    (earlier,) = earlier_versions(_bills().declaration)
    with monkeypatch.context() as patch:
        patch.setattr("ensue.actors.client.served_pipelines.version_of", _constant(earlier))
        engine = LocalEngine(_bills(), store=store)
        await engine.start()
        raw = (await engine.emit(Bill(amount=Decimal(1)))).raw_id
        engine.crash()
    async with LocalEngine(_bills(), store=store) as engine:
        assert engine.versions()["bills"] != earlier
        outcome = await (await engine.run(raw)).result()
        assert outcome.status == "completed"
