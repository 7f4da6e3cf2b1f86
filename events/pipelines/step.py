"""Step: a typed function or class together with the policies it runs under.

Rules: a step is data; only the worker calls it. Every figure has its unit in its name or its docstring.
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
from ..supervision.policy import STEP_SUPERVISION, Supervision
from .signature import Emission, Parameter, Signature

__all__ = ["DEFAULT_TIMEOUT_SECONDS", "CallStyle", "Resources", "Step", "mistake_in"]

DEFAULT_TIMEOUT_SECONDS = 60.0
_LEAST_CLAIM = 0.0001
_CLAIMED_BY: Mapping[object, str] = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
"""Resources with an argument of their own; Ray refuses them among `resources`."""
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

    cpus, gpus: may be fractions.
    memory_bytes: claimed, and enforced on the worker.
    custom: amounts of other resources, by Ray's names.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    memory_bytes: int | None = None
    custom: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pipeline: its code, its signature and its policies.

    name: its name in the pipeline.
    target: the function or class.
    signature: what it receives and may emit.
    style: how the worker calls it.
    retry: when and how often it is tried again.
    timeout_seconds: the limit of one attempt.
    replicas: the number of workers.
    concurrency: how many events one worker works on at once.
    resources: what each worker claims from Ray.
    failed_steps: for an error handler, the steps whose failures it handles; empty for those of all other steps.
    breaker: its circuit breaker; None if only an operator can open it.
    pivot: after it has succeeded, its run is not compensated any more.
    compensates: the name of the step that it compensates.
    supervision: how its workers are restarted.
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
        """Whether it takes exactly one event, not a list."""
        return len(self.parameters) == 1 and not self.parameters[0].is_list

    @property
    def emission(self) -> Emission:
        """What the step may emit."""
        return self.signature.emission

    @property
    def is_class(self) -> bool:
        """Whether the step is a class, of which each worker makes one instance."""
        return isinstance(self.target, type)

    @property
    def description(self) -> str:
        """The first line of the step's docstring."""
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    def __post_init__(self) -> None:
        for name, least in (("timeout_seconds", 0.001), ("replicas", 1), ("concurrency", 1)):
            _check_number(f"step {self.name}", name, getattr(self, name), whole=name != "timeout_seconds")
            if not least <= getattr(self, name) < inf:
                raise PipelineInvalid(f"step {self.name}: {name} is {getattr(self, name)}; at least {least} is needed")
        if mistake := mistake_in(self.resources):
            raise PipelineInvalid(f"step {self.name}: {mistake}")


def _check_number(owner: str, name: str, value: object, *, whole: bool) -> None:
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not fits:
        wanted = "a whole number" if whole else "a number of seconds"
        raise PipelineInvalid(f"{owner}: {name} is {value!r}: write {wanted}")


def mistake_in(claims: Resources) -> str:
    """What Ray would refuse at every start of a worker; empty if there is nothing."""
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
    return f"num_gpus is {gpus}: more than one GPU must be a whole number" if gpus > 1 and gpus % 1 else ""


def _mistake_in_memory(memory_bytes: int | None) -> str:
    if memory_bytes is None:
        return ""
    whole = isinstance(memory_bytes, int)
    return _mistake_in_amount("memory", memory_bytes) if whole else f"memory is {memory_bytes!r}: write whole bytes"


def _mistake_in_name(name: Any, amount: Any) -> str:
    if not isinstance(name, str) or not name or not name.isascii():
        return f"{name!r} is not the name of a resource: write ASCII characters"
    if name in _CLAIMED_BY:
        return f"write {_CLAIMED_BY[name]}={amount} instead of resources={{{name!r}: {amount}}}"
    return f"Ray reserves the name {name!r}: choose another" if name in _RAYS_OWN else ""
