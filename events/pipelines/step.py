"""Step: a typed function or class together with the policies it runs under.

Rules: a step is data; calling it is the worker's business. Every figure has its unit in its name or its docstring.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any

from ..errors import PipelineInvalid
from ..policies.breaker import Breaker
from ..policies.retry import Retry
from ..supervision.supervisor import STEP_SUPERVISION, Supervision
from .signature import Emission, Parameter, Signature

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "CallStyle", "Resources", "Step", "call_style"]

DEFAULT_TIMEOUT_SECONDS = 60.0
_LEAST_CLAIM = 0.0001
_CLAIMED_BY: Mapping[object, str] = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
"""What has an argument of its own, and which; Ray refuses it among `resources`."""
_RAYS_OWN = frozenset({"object_store_memory", "bundle"})


class CallStyle(StrEnum):
    """How the worker calls a step."""

    SYNC = "sync"
    ASYNC = "async"
    SYNC_STREAM = "sync_stream"
    ASYNC_STREAM = "async_stream"


@dataclass(frozen=True, slots=True)
class Resources:
    """What each worker of a step claims from Ray.

    cpus and gpus may be fractions; memory_bytes is claimed and enforced on the worker; custom are Ray's own names.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    memory_bytes: int | None = None
    custom: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pipeline: its code, its signature and its policies.

    failed_steps: for an error handler, the steps whose failure it hears (empty: not a filter).
    concurrency: how many events one worker works on at once. replicas: how many workers. breaker: None where only an
    operator can open it. pivot: once it is done the run only goes forward. compensates: the step that it undoes.
    supervision: how its workers are looked after.
    """

    name: str
    target: Callable[..., Any]
    signature: Signature
    style: CallStyle
    retry: Retry
    timeout_seconds: float
    replicas: int
    concurrency: int
    resources: Resources
    failed_steps: frozenset[str] | None = None
    breaker: Breaker | None = None
    pivot: bool = False
    compensates: str | None = None
    supervision: Supervision = STEP_SUPERVISION

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The event parameters."""
        return self.signature.parameters

    @property
    def is_single(self) -> bool:
        """Whether it takes one event, and no list."""
        return len(self.parameters) == 1 and not self.parameters[0].is_list

    @property
    def emission(self) -> Emission:
        """What the step may emit."""
        return self.signature.emission

    @property
    def is_class(self) -> bool:
        """Whether the step is a class, constructed once a worker."""
        return isinstance(self.target, type)

    @property
    def description(self) -> str:
        """The first line of the step's docstring."""
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    def __post_init__(self) -> None:
        for name, least in (("timeout_seconds", 0.001), ("replicas", 1), ("concurrency", 1)):
            if not least <= getattr(self, name) < inf:
                raise PipelineInvalid(f"step {self.name}: {name} is {getattr(self, name)}; at least {least} is needed")
        if mistake := _mistake_in(self.resources):
            raise PipelineInvalid(f"step {self.name}: {mistake}")


def call_style(function: Callable[..., Any]) -> CallStyle:
    """How a step's function has to be called."""
    if inspect.isasyncgenfunction(function):
        return CallStyle.ASYNC_STREAM
    if inspect.isgeneratorfunction(function):
        return CallStyle.SYNC_STREAM
    return CallStyle.ASYNC if inspect.iscoroutinefunction(function) else CallStyle.SYNC


def _mistake_in(claims: Resources) -> str:
    """What Ray would refuse of these claims at every start of a worker; empty where there is nothing."""
    mistakes = [
        _mistake_in_amount("num_cpus", claims.cpus),
        _mistake_in_amount("num_gpus", claims.gpus) or _mistake_in_gpus(claims.gpus),
        _mistake_in_memory(claims.memory_bytes),
        *(_mistake_in_name(name, amount) or _mistake_in_amount(name, amount) for name, amount in claims.custom.items()),
    ]
    return next(filter(None, mistakes), "")


def _mistake_in_amount(name: str, amount: Any) -> str:
    if not isinstance(amount, int | float):
        return f"{name} is {amount!r}: write a number"
    if not 0 <= amount < inf:
        return f"{name} is {amount}; a worker claims at least 0 of it"
    return f"{name} is {amount}: the least that Ray counts is {_LEAST_CLAIM}" if 0 < amount < _LEAST_CLAIM else ""


def _mistake_in_gpus(gpus: float) -> str:
    return f"num_gpus is {gpus}: more than one are whole" if gpus > 1 and gpus % 1 else ""


def _mistake_in_memory(memory_bytes: int | None) -> str:
    if memory_bytes is None:
        return ""
    whole = isinstance(memory_bytes, int)
    return _mistake_in_amount("memory", memory_bytes) if whole else f"memory is {memory_bytes!r}: write whole bytes"


def _mistake_in_name(name: Any, amount: Any) -> str:
    if not isinstance(name, str) or not name or not name.isascii():
        return f"{name!r} is no name of a resource: write ASCII characters"
    if name in _CLAIMED_BY:
        return f"write {_CLAIMED_BY[name]}={amount} instead of resources={{{name!r}: {amount}}}"
    return f"Ray keeps the name {name!r} to itself: give the resource another" if name in _RAYS_OWN else ""
