"""Pipeline: a named set of steps with their policies. No order is declared: it ensues from the signatures.

Rules: what can be known to be wrong is an error at the line that declares it; what needs the whole graph is found by
`check()`, before anything runs.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar, overload

from ..errors import PipelineInvalid
from ..model.event import Event
from ..model.failure import StepFailed
from ..model.registry import Registry
from ..model.webhook import Endpoint, Verifier, Webhook
from ..policies.breaker import Breaker, declared_breakers
from ..policies.retry import UNTIL_DONE, Retry
from ..supervision.policy import PIPELINE_SUPERVISION, STEP_SUPERVISION, Supervision
from .check import Finding, check
from .code_form import call_style, function_of
from .declaration import Declaration
from .declaration_rules import (
    check_compensation,
    check_failures,
    check_name,
    check_options,
    check_step_name,
    check_stream,
    check_supervision,
    default_concurrency,
    retry_policy,
)
from .graph import Graph
from .graph_builder import graph_of
from .signature import read_hints, read_signature
from .step import DEFAULT_TIMEOUT_SECONDS, Resources, Step
from .step_references import compensated_step, handled_steps
from .webhook_rules import check_verifier, content_types_of, endpoint_models

__all__ = ["Pipeline"]

F = TypeVar("F", bound=Callable[..., Any])
W = TypeVar("W", bound=Callable[[Webhook], Any])


class Pipeline:
    """A named set of steps. `@pipeline.step` adds one; its signature is its subscription.

    name: letters, digits, '-', '_' and '.', at most 100 of them.
    description: one line for the reader of a graph.
    supervision: how often a step's supervisor may be restarted before the pipeline is given up.

    Raises: `PipelineInvalid` if the name does not fit into an address.
    """

    def __init__(self, name: str, *, description: str = "", supervision: Supervision = PIPELINE_SUPERVISION) -> None:
        check_name("pipeline", name)
        check_supervision(f"pipeline {name}", supervision)
        self.name = name
        self.description = description
        self.supervision = supervision
        self.steps: dict[str, Step] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.registry = Registry([StepFailed])

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, steps={list(self.steps)})"

    @overload
    def step(self, target: F, /) -> F: ...
    @overload
    def step(
        self,
        /,
        *,
        name: str | None = None,
        retry: Retry | int | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        breaker: Breaker | str | bool = True,
        pivot: bool = False,
        supervision: Supervision = STEP_SUPERVISION,
        replicas: int = 1,
        concurrency: int | None = None,
        num_cpus: float = 0.0,
        num_gpus: float = 0.0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> Callable[[F], F]: ...
    def step(
        self,
        target: F | None = None,
        /,
        *,
        name: str | None = None,
        retry: Retry | int | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        breaker: Breaker | str | bool = True,
        pivot: bool = False,
        supervision: Supervision = STEP_SUPERVISION,
        replicas: int = 1,
        concurrency: int | None = None,
        num_cpus: float = 0.0,
        num_gpus: float = 0.0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> F | Callable[[F], F]:
        """Add a function, or a class with `__call__`, as a step; it is returned unchanged.

        name: the step's name; by default that of the function or class.
        retry: a `Retry`, or a number of attempts.
        timeout: the limit of one attempt, in seconds.
        breaker: the step's circuit breaker: a `Breaker`; the name of a dependency, whose breaker all steps that name
            it share; True for a breaker with the defaults; False for one that only an operator opens.
        pivot: after this step has succeeded, its run is not compensated any more.
        supervision: how its workers are restarted.
        replicas: the number of workers.
        concurrency: how many events one worker works on at once. By default 1 if the step claims whole CPUs or any
            GPU, 16 for a sync function, 256 for an async one.
        num_cpus, num_gpus: what each worker claims from Ray; fractions are allowed.
        memory: what each worker claims from Ray and must not exceed, in bytes.
        resources: other resources that each worker claims, by Ray's names.

        Raises: `PipelineInvalid` if the signature or an option is invalid; the message says what to write instead.
        """
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - resolves annotations of classes local to a function
        check_options(f"pipeline {self.name}", breaker, pivot, resources)
        claims = Resources(num_cpus, num_gpus, memory, dict(resources or {}))

        def add(code: F) -> F:
            self._add(
                code,
                local_names,
                name=name,
                retry=retry_policy(retry),
                timeout=timeout,
                replicas=replicas,
                concurrency=concurrency,
                claims=claims,
                breaker=self._breaker(breaker),
                pivot=pivot,
                supervision=supervision,
            )
            return code

        return add if target is None else add(target)

    def on_error(
        self,
        *steps: Callable[..., Any] | str,
        retry: Retry | int | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Callable[[F], F]:
        """Add a step that handles the failures of the given steps, or of all other steps if none is given.

        One of its parameters is a `StepFailed`.

        steps: functions, classes or names of steps of this pipeline.
        retry: a `Retry`, or a number of attempts.
        timeout: the limit of one attempt, in seconds.

        Raises: `PipelineInvalid` if a step is unknown, or if the signature is invalid.
        """
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - as in `step`
        names = frozenset(name for step in steps for name in handled_steps(self.name, self.steps, step))

        def add(code: F) -> F:
            self._add(
                code, local_names, retry=retry_policy(retry), timeout=timeout, failed_steps=names, breaker=Breaker()
            )
            return code

        return add

    def compensate(
        self,
        step: Callable[..., Any] | str,
        *,
        name: str | None = None,
        retry: Retry | int | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Callable[[F], F]:
        """Add the compensation of a step: it takes the same events, and runs if their run fails or is cancelled.

        It must accept that the step's effect never happened. By default it is retried until it succeeds. If it gives
        up (`GiveUp`, or the end of its own `retry`), its run waits for an operator; it is never skipped.

        step: the function, class or name of the step to compensate.
        name: the compensation's own name; by default that of its function.
        retry: a `Retry`, or a number of attempts; by default it is retried until it succeeds.
        timeout: the limit of one attempt, in seconds.

        Raises: `PipelineInvalid` if the step is unknown or has a compensation, or if the signature differs.
        """
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - as in `step`
        compensated = compensated_step(self.name, self.steps, step)

        def add(code: F) -> F:
            policy = UNTIL_DONE if retry is None else retry_policy(retry)
            self._add(code, local_names, name=name, retry=policy, timeout=timeout, compensates=compensated)
            return code

        return add

    def webhook(
        self, name: str, *, verify: Verifier, content_types: Iterable[str] | str = ("application/json",)
    ) -> Callable[[W], W]:
        """Declare POST /hooks/{name}: a function from a verified `Webhook` to the event that it stands for, or None.

        It may also return a list: then each event starts a run of its own.

        The function runs in the gateway and must be quick. It refuses a body with `EventInvalid`.

        name: letters, digits, '-', '_' and '.', at most 100 of them.
        verify: the scheme that verifies deliveries, from `ensue.hooks`.
        content_types: the content type that it accepts, or several.

        Raises: `PipelineInvalid` if the name is taken, or if an argument or the function's signature is invalid.
        """
        check_name("webhook", name)
        check_verifier(verify, name)
        accepted_types = content_types_of(content_types, name)
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - as in `step`

        def add(function: W) -> W:
            if name in self.endpoints:
                raise PipelineInvalid(f"pipeline {self.name} has two webhooks named {name!r}: rename one")
            models = endpoint_models(function, name, local_names)
            self._register(models)
            self.endpoints[name] = Endpoint(name, self.name, function, verify, models, accepted_types)
            return function

        return add

    @property
    def declaration(self) -> Declaration:
        """What has been declared so far, as frozen data."""
        return Declaration(
            self.name,
            self.description,
            self.supervision,
            MappingProxyType(dict(self.steps)),
            MappingProxyType(dict(self.endpoints)),
            tuple(self.registry),
        )

    def check(self) -> list[Finding]:
        """What is wrong or doubtful in the graph: errors refuse a start, warnings are shown."""
        return check(self.declaration)

    def graph(self) -> Graph:
        """The graph of steps and event types."""
        return graph_of(self.declaration)

    def _add(
        self,
        code: Callable[..., Any],
        local_names: Mapping[str, Any],
        *,
        retry: Retry,
        timeout: float,
        name: str | None = None,
        replicas: int = 1,
        concurrency: int | None = None,
        claims: Resources | None = None,
        failed_steps: frozenset[str] | None = None,
        breaker: Breaker | None = None,
        pivot: bool = False,
        compensates: str | None = None,
        supervision: Supervision = STEP_SUPERVISION,
    ) -> None:
        step_name = name if name is not None else str(getattr(code, "__name__", type(code).__name__))
        check_step_name(step_name)
        if step_name in self.steps:
            raise PipelineInvalid(f"pipeline {self.name} has two steps named {step_name!r}: rename one, or pass name=")
        function = function_of(code, step_name)
        signature = read_signature(function, step_name, local_names)
        if failed_steps is not None and not any(StepFailed in p.models for p in signature.parameters):
            raise PipelineInvalid(f"error handler {step_name}: annotate a parameter with StepFailed")
        check_failures(step_name, signature)
        check_supervision(f"step {step_name}", supervision)
        style = call_style(function, read_hints(function, step_name, local_names)["return"], step_name)
        check_stream(step_name, style, signature)
        if compensates is not None:
            check_compensation(step_name, signature, self.steps[compensates])
        resources = claims or Resources()
        step = Step(
            step_name,
            code,
            signature,
            style,
            retry,
            timeout,
            replicas,
            concurrency if concurrency is not None else default_concurrency(resources, style),
            resources,
            failed_steps,
            breaker,
            pivot,
            compensates,
            supervision,
        )
        for models in (*(parameter.models for parameter in signature.parameters), signature.emission.models):
            self._register(models)
        self.steps[step_name] = step

    def _breaker(self, breaker: Breaker | str | bool) -> Breaker | None:  # noqa: FBT001 - what `step` was given
        """A step's breaker; steps that name the same dependency share one, so they must agree on its settings."""
        if isinstance(breaker, bool):
            return Breaker() if breaker else None
        made = Breaker(name=breaker) if isinstance(breaker, str) else breaker
        declared_breakers([*(step.breaker for step in self.steps.values()), made])
        return made

    def with_breakers(self, breakers: Mapping[str, Breaker]) -> "Pipeline":
        """This pipeline with these settings of the breakers that its steps name; itself if they are the same."""
        made = copy(self)
        made.steps = {name: _with_breaker(step, breakers) for name, step in self.steps.items()}
        return self if made.steps == self.steps else made

    def _register(self, models: Iterable[type[Event]]) -> None:
        for model in models:
            self.registry.add(model)


def _with_breaker(step: Step, breakers: Mapping[str, Breaker]) -> Step:
    named = step.breaker.name if step.breaker is not None else None
    return step if named is None else replace(step, breaker=breakers.get(named, step.breaker))
