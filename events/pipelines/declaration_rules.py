"""The rules of what may be declared: each is checked at the line that breaks it.

Rules: a rule looks at one declaration and what it refers to; what needs the whole graph is in `check`.
"""

from collections.abc import Mapping

from ..errors import PipelineInvalid
from ..model.failure import StepFailed
from ..policies.breaker import Breaker
from ..policies.retry import NO_RETRY, Retry
from ..supervision.policy import Supervision
from .signature import Signature
from .step import CallStyle, Resources, Step, mistake_in

__all__ = [
    "check_compensation",
    "check_failures",
    "check_name",
    "check_options",
    "check_step_name",
    "check_stream",
    "check_supervision",
    "default_concurrency",
    "retry_policy",
]

_MOST_CHARACTERS = 100
_CONCURRENCY_OF_SYNC = 16
_CONCURRENCY_OF_ASYNC = 256


def check_name(what: str, name: object) -> None:
    """A name that stands in an address: a pipeline's or a webhook's."""
    if not isinstance(name, str):
        raise PipelineInvalid(f"{what} name {name!r}: write text")
    fits = 0 < len(name) <= _MOST_CHARACTERS
    if not fits or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise PipelineInvalid(f"{what} name {name!r}: use letters, digits, '-', '_' and '.', 1 to 100 of them")


def check_step_name(name: object) -> None:
    """The name of a step, which only has to be printable."""
    if not isinstance(name, str):
        raise PipelineInvalid(f"step name {name!r}: write text")
    if not 0 < len(name) <= _MOST_CHARACTERS or not name.isprintable():
        raise PipelineInvalid(f"step name {name[:80]!r}: use 1 to {_MOST_CHARACTERS} printable characters")


def check_stream(name: str, style: CallStyle, signature: Signature) -> None:
    """A generator's return annotation says what it yields."""
    emission = signature.emission
    if style in (CallStyle.SYNC_STREAM, CallStyle.ASYNC_STREAM) and emission.single:
        stream = "AsyncIterator" if style is CallStyle.ASYNC_STREAM else "Iterator"
        event = emission.single[0].__name__
        raise PipelineInvalid(f"step {name} yields: annotate what it yields, e.g. -> {stream}[{event}]")


def check_failures(name: str, signature: Signature) -> None:
    """A failure counts as handled when a step receives it, so it must not wait for an event that may never come.

    A step whose parameters are all lists is called in any case, after the last event that can reach it.
    """
    parameters = signature.parameters
    handler = next((p for p in parameters if StepFailed in p.models), None)
    if handler is not None and len(parameters) > 1 and not all(p.is_list for p in parameters):
        raise PipelineInvalid(
            f"step {name}: {handler.name!r} receives failures beside another event, and a failure is lost if that "
            "event never comes: receive StepFailed alone, emit an event of your own, and join that"
        )


def check_compensation(name: str, signature: Signature, compensated: Step) -> None:
    """A compensation takes the events that the step took which it compensates."""
    wanted = [(set(p.models), p.is_list) for p in compensated.parameters]
    if [(set(p.models), p.is_list) for p in signature.parameters] != wanted:
        text = ", ".join(f"{p.name}: {' | '.join(m.__name__ for m in p.models)}" for p in compensated.parameters)
        raise PipelineInvalid(
            f"compensation {name}: it takes the same events as {compensated.name}, in the same order ({text})"
        )


def retry_policy(retry: object) -> Retry:
    """The policy that a decorator was given as a number of attempts, as a `Retry`, or not at all."""
    if retry is None:
        return Retry()
    if isinstance(retry, Retry):
        return retry
    if isinstance(retry, int) and not isinstance(retry, bool):
        return NO_RETRY if retry == 1 else Retry(attempts=retry)
    raise PipelineInvalid(f"retry={retry!r}: write a Retry, or a number of attempts")


def check_supervision(owner: str, supervision: object) -> None:
    """What restarts workers is a `Supervision`; leaving the argument out gives the default."""
    if not isinstance(supervision, Supervision):
        raise PipelineInvalid(f"{owner}: supervision={supervision!r}: write a Supervision, or leave it out")


def check_options(owner: str, breaker: object, pivot: object, resources: object) -> None:
    """The other options of a step have the types that their annotations say."""
    if not isinstance(breaker, Breaker | str | bool):
        raise PipelineInvalid(f"{owner}: breaker={breaker!r}: write a Breaker, the name of a dependency, True or False")
    if not isinstance(pivot, bool):
        raise PipelineInvalid(f"{owner}: pivot={pivot!r}: write True or False")
    if resources is not None and not isinstance(resources, Mapping):
        raise PipelineInvalid(f"{owner}: resources={resources!r}: write a dict of amounts by name")


def default_concurrency(claims: Resources, style: CallStyle) -> int:
    """How many events one worker works on at once if the step does not say."""
    if mistake := mistake_in(claims):
        raise PipelineInvalid(mistake)
    if claims.cpus >= 1 or claims.gpus > 0:
        return 1
    return _CONCURRENCY_OF_SYNC if style in (CallStyle.SYNC, CallStyle.SYNC_STREAM) else _CONCURRENCY_OF_ASYNC
