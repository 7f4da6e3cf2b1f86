"""Pipeline: a named set of steps with their policies. No order is declared: it ensues from the signatures.

Rules: everything that can be known to be wrong is an error at the line that declares it; what needs the whole graph
is found by `check()`, before anything runs.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..errors import PipelineInvalid
from ..model.event import Event
from ..model.failure import StepFailed
from ..model.registry import Registry
from ..model.webhook import Endpoint, Verifier, Webhook
from ..policies.breaker import Breaker, declared_breakers
from ..policies.retry import NO_RETRY, UNTIL_DONE, Retry
from ..supervision.supervisor import PIPELINE_SUPERVISION, STEP_SUPERVISION, Supervision
from .signature import Signature, read_emission, read_hints, read_signature
from .step import DEFAULT_TIMEOUT_SECONDS, CallStyle, Resources, Step, call_style

if TYPE_CHECKING:
    from .check import Finding
    from .graph import Graph

__all__ = ["Pipeline"]

F = TypeVar("F", bound=Callable[..., Any])
W = TypeVar("W", bound=Callable[[Webhook], Any])
_NAME_LENGTH = 100


class Pipeline:
    """A named set of steps. `@pipeline.step` adds one; its signature is its subscription."""

    def __init__(self, name: str, *, description: str = "", supervision: Supervision = PIPELINE_SUPERVISION) -> None:
        """supervision: how its steps are looked after, where one restarts too often."""
        _check_name("pipeline", name)
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
        """Add a function or a class with `__call__` as a step; it is returned as it was.

        timeout: seconds from start to end of one attempt. retry: a `Retry`, or a number of attempts.
        breaker: the step's circuit breaker: a `Breaker`, the name of the dependency that it guards together with other
        steps, True for the defaults, False for one that only an operator opens. pivot: once this step is done its run
        is not compensated any more. supervision: how its workers are restarted.
        replicas: workers. concurrency: events at once in one worker (by default 1 where the step claims whole CPUs or
        GPUs, 16 for a sync function, 256 for an async one). num_cpus, num_gpus, memory (bytes), resources: Ray's.
        """
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - resolves annotations of classes local to a function
        claims = Resources(num_cpus, num_gpus, memory, dict(resources or {}))

        def add(code: F) -> F:
            self._add(
                code,
                local_names,
                name=name,
                retry=_retry(retry),
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
        """Add a step that hears `StepFailed` of the given steps (of all others, where none is given)."""
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - as in `step`
        names = frozenset(name for step in steps for name in self._failing(step))

        def add(code: F) -> F:
            self._add(code, local_names, retry=_retry(retry), timeout=timeout, failed_steps=names, breaker=Breaker())
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
        """Add what undoes a step: it takes the same events, and runs when its run fails or is cancelled.

        It has to accept that what it undoes never happened. By default it is tried again until it succeeds; one that
        gives up (`GiveUp`, or the end of its own `retry`) waits for an operator, and is never skipped.
        """
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - as in `step`
        undone = self._undone(step)

        def add(code: F) -> F:
            policy = UNTIL_DONE if retry is None else _retry(retry)
            self._add(code, local_names, name=name, retry=policy, timeout=timeout, compensates=undone)
            return code

        return add

    def webhook(
        self, name: str, *, verify: Verifier, content_types: Iterable[str] = ("application/json",)
    ) -> Callable[[W], W]:
        """Declare POST /hooks/{name}: a function from a verified `Webhook` to the event it stands for, or None.

        The function runs in the gateway and must be quick; raise `EventInvalid` to refuse a body.
        """
        _check_name("webhook", name)
        local_names = sys._getframe(1).f_locals  # noqa: SLF001 - as in `step`

        def add(function: W) -> W:
            if name in self.endpoints:
                raise PipelineInvalid(f"pipeline {self.name} has two webhooks named {name!r}: rename one")
            models = _endpoint_models(function, name, local_names)
            self._register(models)
            self.endpoints[name] = Endpoint(name, self.name, function, verify, models, tuple(content_types))
            return function

        return add

    def check(self) -> "list[Finding]":
        """All that is wrong or doubtful in the graph; errors stop a start, warnings are shown."""
        from .check import check  # noqa: PLC0415 - the checks look at pipelines, so they import this module

        return check(self)

    def graph(self) -> "Graph":
        """The graph of steps and event types."""
        from .graph import graph_of  # noqa: PLC0415 - as above

        return graph_of(self)

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
        title = name if name is not None else str(getattr(code, "__name__", type(code).__name__))
        self._check_title(title)
        function = _body(code, title)
        signature = read_signature(function, title, local_names)
        if failed_steps is not None and not any(StepFailed in p.models for p in signature.parameters):
            raise PipelineInvalid(f"error handler {title}: annotate a parameter with StepFailed")
        _check_failures(title, signature)
        style = call_style(function)
        _check_stream(title, style, signature)
        resources = claims or Resources()
        at_once = concurrency if concurrency is not None else _default_concurrency(resources, style)
        if compensates is not None:
            _check_compensation(title, signature, self.steps[compensates])
        step = Step(
            title,
            code,
            signature,
            style,
            retry,
            timeout,
            replicas,
            at_once,
            resources,
            failed_steps,
            breaker,
            pivot,
            compensates,
            supervision,
        )
        for models in (*(parameter.models for parameter in signature.parameters), signature.emission.models):
            self._register(models)
        self.steps[title] = step

    def _check_title(self, title: str) -> None:
        if not 0 < len(title) <= _NAME_LENGTH or not title.isprintable():
            raise PipelineInvalid(f"step name {title[:80]!r}: use 1 to {_NAME_LENGTH} printable characters")
        if title in self.steps:
            raise PipelineInvalid(f"pipeline {self.name} has two steps named {title!r}: rename one, or pass name=")

    def _names_of(self, step: Callable[..., Any] | str, asked: str = "on_error") -> list[str]:
        """The names that a step was added under (it may have been given another than its own, or several)."""
        names = [name for name, known in self.steps.items() if step in (name, known.target)]
        if not names:
            shown = step if isinstance(step, str) else getattr(step, "__name__", repr(step))
            msg = f"{asked}({shown}): pipeline {self.name} has no such step (known: {', '.join(self.steps) or 'none'})"
            hint = f"; write @{self.name}.on_error() for the failures of all steps" if asked == "on_error" else ""
            raise PipelineInvalid(f"{msg}{hint}")
        return names

    def _failing(self, step: Callable[..., Any] | str) -> list[str]:
        """The steps whose failures a handler hears. That of a compensation is for the operator, so none would come."""
        names = self._names_of(step)
        undoing = next((name for name in names if self.steps[name].compensates is not None), None)
        if undoing is not None:
            raise PipelineInvalid(
                f"on_error({undoing}): that is a compensation, and its failure waits for an operator instead of being "
                "handled: to be told of it, add a step with a parameter of CompensationBlocked"
            )
        return names

    def _undone(self, step: Callable[..., Any] | str) -> str:
        """The one step that a compensation undoes."""
        names = self._names_of(step, "compensate")
        if len(names) > 1:
            raise PipelineInvalid(f"compensate: {', '.join(names)} are one function: name the step, as a text")
        undone = names[0]
        if self.steps[undone].compensates is not None:
            raise PipelineInvalid(f"compensate({undone}): that is a compensation itself; it is tried until it succeeds")
        other = next((known.name for known in self.steps.values() if known.compensates == undone), None)
        if other is not None:
            raise PipelineInvalid(f"compensate({undone}): {other} undoes it already; do both in one")
        return undone

    def _breaker(self, breaker: Breaker | str | bool) -> Breaker | None:  # noqa: FBT001 - what `step` was given
        """A step's breaker; steps that name the same dependency share one, and so have to agree on it."""
        if isinstance(breaker, bool):
            return Breaker() if breaker else None
        made = Breaker(name=breaker) if isinstance(breaker, str) else breaker
        declared_breakers([*(step.breaker for step in self.steps.values()), made])
        return made

    def sharing(self, breakers: Mapping[str, Breaker]) -> "Pipeline":
        """This pipeline with these settings for the dependencies that its steps name; itself where it has them already."""
        made = copy(self)
        made.steps = {name: _agreed(step, breakers) for name, step in self.steps.items()}
        return self if made.steps == self.steps else made

    def _register(self, models: Iterable[type[Event]]) -> None:
        for model in models:
            self.registry.add(model)


def _agreed(step: Step, breakers: Mapping[str, Breaker]) -> Step:
    named = step.breaker.name if step.breaker is not None else None
    return step if named is None else replace(step, breaker=breakers.get(named, step.breaker))


def _check_name(what: str, name: str) -> None:
    if not name or len(name) > _NAME_LENGTH or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise PipelineInvalid(f"{what} name {name!r}: use letters, digits, '-', '_' and '.', 1 to 100 of them")


def _check_stream(name: str, style: CallStyle, signature: Signature) -> None:
    emission = signature.emission
    if style in (CallStyle.SYNC_STREAM, CallStyle.ASYNC_STREAM) and emission.single:
        stream = "AsyncIterator" if style is CallStyle.ASYNC_STREAM else "Iterator"
        event = emission.single[0].__name__
        raise PipelineInvalid(f"step {name} yields: annotate what it yields, e.g. -> {stream}[{event}]")


def _check_failures(name: str, signature: Signature) -> None:
    """A failure counts as handled when a step hears it, so it must not wait for an event that may never come.

    Lists alone are called in any case, once nothing more can come.
    """
    parameters = signature.parameters
    hearing = next((p for p in parameters if StepFailed in p.models), None)
    if hearing is not None and len(parameters) > 1 and not all(p.is_list for p in parameters):
        raise PipelineInvalid(
            f"step {name}: {hearing.name!r} hears failures beside another event, and where that never comes a failure "
            "would be lost: hear StepFailed alone, emit an event of your own, and join that"
        )


def _check_compensation(name: str, signature: Signature, undone: Step) -> None:
    wanted = [(set(p.models), p.is_list) for p in undone.parameters]
    if [(set(p.models), p.is_list) for p in signature.parameters] != wanted:
        text = ", ".join(f"{p.name}: {' | '.join(m.__name__ for m in p.models)}" for p in undone.parameters)
        raise PipelineInvalid(
            f"compensation {name}: it takes the same events as {undone.name}, in the same order ({text})"
        )


def _retry(retry: Retry | int | None) -> Retry:
    if retry is None:
        return Retry()
    if isinstance(retry, int):
        return NO_RETRY if retry == 1 else Retry(attempts=retry)
    return retry


def _body(code: Callable[..., Any], name: str) -> Callable[..., Any]:
    if not isinstance(code, type):
        return code
    if "__call__" not in code.__dict__ and not any("__call__" in base.__dict__ for base in code.__mro__[:-1]):
        raise PipelineInvalid(f"step class {name} has no __call__: write `def __call__(self, event: ...) -> ...`")
    return code.__call__


def _default_concurrency(claims: Resources, style: CallStyle) -> int:
    if claims.cpus >= 1 or claims.gpus > 0:
        return 1
    return 16 if style in (CallStyle.SYNC, CallStyle.SYNC_STREAM) else 256


def _endpoint_models(
    function: Callable[..., Any], name: str, local_names: Mapping[str, Any]
) -> tuple[type[Event], ...]:
    hints = read_hints(function, f"webhook {name}", local_names)
    if "return" not in hints:
        raise PipelineInvalid(f"webhook {name} has no return annotation: write e.g. -> PullRequestOpened | None")
    return read_emission(hints["return"], f"webhook {name}").models
