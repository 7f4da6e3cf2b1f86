"""Step: a typed function or class together with the policies it runs under.

Rules: a step is data; calling it is the worker's business. Every figure has its unit in its name or its docstring.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any

from .breaker import Breaker
from .errors import PipelineInvalid
from .retry import Retry
from .signature import Emission, Parameter, Signature
from .supervision import STEP_SUPERVISION, Supervision

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "CallStyle", "Resources", "Step", "call_style"]

DEFAULT_TIMEOUT_SECONDS = 60.0


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
        claims = {
            "num_cpus": self.resources.cpus,
            "num_gpus": self.resources.gpus,
            "memory": self.resources.memory_bytes,
        }
        for name, amount in (*claims.items(), *self.resources.custom.items()):
            if amount is not None and not 0 <= amount < inf:
                raise PipelineInvalid(f"step {self.name}: {name} is {amount}; a worker claims at least 0 of it")


def call_style(function: Callable[..., Any]) -> CallStyle:
    """How a step's function has to be called."""
    if inspect.isasyncgenfunction(function):
        return CallStyle.ASYNC_STREAM
    if inspect.isgeneratorfunction(function):
        return CallStyle.SYNC_STREAM
    return CallStyle.ASYNC if inspect.iscoroutinefunction(function) else CallStyle.SYNC
