"""Invoker: turns a packed delivery into a call of the user's code, and its result into a completion.

Rules: bytes become pydantic models here and nowhere earlier. What a step emits is checked against its annotation here,
so that nothing undeclared reaches the log.
"""

import time
from collections.abc import Callable
from contextvars import Context as Variables
from typing import Any, NamedTuple, Protocol, cast

from ...events.decide.inputs import Completion, CompletionKind
from ...events.errors import CodecError
from ...events.ids import format_id, idempotency_key
from ...events.model.codec import MAX_MESSAGE_BYTES, encode
from ...events.model.context import Context, Host
from ...events.model.event import Event, key_of
from ...events.model.failure import StepError
from ...events.model.registry import Registry
from ...events.pipelines.step import CallStyle, Step
from .call_form import adapted, listed, settled
from .retry_decision import UndeclaredEvent, feeds_breaker, judge
from .step_logger import BoundLog, LogSink

__all__ = ["Call", "Invoker", "Item"]

Item = list[Any]
_MAX_RESULT_BYTES = MAX_MESSAGE_BYTES // 4
"""A completion has to fit into a message, and its events into an entry of the log."""
_USUAL = (list, tuple, Event, type(None))
"""What a step usually returns; anything else is an iterable, a coroutine, or a mistake."""
_TOKEN, _RUN, _NUMBER, _ATTEMPT, _FIRST_US, _EMITTED, _INPUTS, _ERRORS, _EDITED = range(9)


class Call(NamedTuple):
    """A call of the user's code: the function and its arguments by name."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


class Streamed(Protocol):
    """A generator that ended."""

    @property
    def item(self) -> Item:
        """The delivery."""
        ...

    @property
    def emitted(self) -> int:
        """How many events."""
        ...


class Invoker:
    """One step's code in one worker."""

    def __init__(self, step: Step, registry: Registry, host: Host, sink: LogSink) -> None:
        self.step = step
        self.code: Callable[..., Any] = Variables().run(step.target) if step.is_class else step.target
        """The function, or the instance of a class."""
        function = self.code.__call__ if step.is_class else self.code  # type: ignore[operator]
        self.function = adapted(function, step.style)
        self._registry = registry
        self._host = host
        self._sink = sink
        self._single = step.parameters[0].name if len(step.parameters) == 1 and not step.parameters[0].is_list else None
        self._context = step.signature.context
        self._counts = step.breaker.counts if step.breaker is not None else None
        self._alone = frozenset(step.emission.single)
        self._among_many = frozenset(step.emission.many)

    def call(self, item: Item, now_seconds: float) -> Call:
        """The call for a delivery. Raises what decoding its events raises."""
        inputs = item[_INPUTS]
        decode = self._registry.decode
        if self._single is not None:
            _, name, version, data = inputs[0]
            arguments: dict[str, Any] = {self._single: decode(name, version, data)}
        else:
            arguments = {}
            for parameter, value in zip(self.step.parameters, inputs, strict=True):
                arguments[parameter.name] = (
                    [decode(name, version, data) for _, name, version, data in value]
                    if parameter.is_list
                    else decode(*value[1:])
                )
        if self._context is not None:
            arguments[self._context] = self._make_context(item, now_seconds)
        return Call(self.function, arguments)

    def done(self, item: Item, result: Any, duration_us: int) -> Completion:
        """The completion of a call that returned. Raises `UndeclaredEvent`, `CodecError`."""
        if type(result) in self._alone:
            return [CompletionKind.DONE, item[_TOKEN], duration_us, [self.output(result, many=False)], False]
        if not isinstance(result, _USUAL):
            began = time.monotonic()
            result = settled(result) if self.step.style is CallStyle.SYNC else listed(result)
            duration_us += int((time.monotonic() - began) * 1e6)
        if result is None:
            self._check_nothing()
            return [CompletionKind.DONE, item[_TOKEN], duration_us, [], False]
        if isinstance(result, list | tuple):
            return [CompletionKind.DONE, item[_TOKEN], duration_us, self._outputs(cast("list[Any]", result)), True]
        return [CompletionKind.DONE, item[_TOKEN], duration_us, [self.output(result, many=False)], False]

    def log(self, message: str) -> None:
        """Log what concerns the step but no attempt of it."""
        self._sink(["error", message, {}, self.step.name, "", 0])

    def streamed(self, ended: "Streamed", duration_us: int) -> Completion:
        """The completion of a generator that ended; its events were sent before, and are counted here."""
        return [CompletionKind.DONE, ended.item[_TOKEN], duration_us, [], True, ended.emitted]

    def output(self, event: Any, *, many: bool) -> list[Any]:
        """An emitted event, packed. Raises `UndeclaredEvent`, `CodecError`."""
        model = cast("type[Event]", type(event))
        if model not in (self._among_many if many else self._alone):
            raise UndeclaredEvent(self._undeclared(event, many=many))
        return [model.__event_type__, model.__event_version__, encode(event), key_of(event)]

    def failed(self, item: Item, error: BaseException, now_us: int) -> Completion:
        """The completion of a call that raised: with the wait before a retry, and whether a breaker counts it."""
        elapsed = max(0.0, (now_us - item[_FIRST_US]) / 1e6)
        failure, wait = judge(self.step.retry, error, item[_ATTEMPT], elapsed, item[_RUN], now_seconds=now_us / 1e6)
        return [CompletionKind.FAIL, item[_TOKEN], *failure, wait, feeds_breaker(error, self._counts)]

    def _outputs(self, events: list[Any] | tuple[Any, ...]) -> list[list[Any]]:
        outputs = [self.output(event, many=True) for event in events]
        size = sum(len(output[2]) for output in outputs)
        if size > _MAX_RESULT_BYTES:
            msg = f"step {self.step.name} returned {len(outputs):,} events of {size:,} bytes at once, over the limit"
            raise CodecError(f"{msg} of {_MAX_RESULT_BYTES:,}: yield them instead of returning a list")
        return outputs

    def _check_nothing(self) -> None:
        emission = self.step.emission
        if emission.models and not emission.optional:
            names = " | ".join(m.__name__ for m in emission.models)
            msg = f"step {self.step.name} returned nothing, but its annotation promises {names}"
            raise UndeclaredEvent(f"{msg}: add `| None` to the return annotation, or return one")

    def _undeclared(self, event: Any, *, many: bool) -> str:
        name = self.step.name
        if not isinstance(event, Event):
            kind = type(event).__name__
            return f"step {name} returned {kind}, which is not an event: return an event, a list of events or None"
        kind = type(event).__name__
        form = f"list[{kind}]" if many else kind
        return f"step {name} emitted {kind}, which its return annotation does not name: add `{form}` to it"

    def _make_context(self, item: Item, now_seconds: float) -> Context:
        run_id, number = item[_RUN], item[_NUMBER]
        edited = item[_EDITED] if len(item) > _EDITED else b""  # an edited event is another call to the outside
        last = item[_INPUTS][-1]
        event_id = (last[-1][0] if last else b"") if self.step.parameters[-1].is_list else last[0]
        return Context(
            run_id=format_id(run_id),
            event_id=format_id(event_id) if event_id else "",
            step=self.step.name,
            attempt=item[_ATTEMPT],
            deadline=now_seconds + self.step.timeout_seconds,
            idempotency_key=idempotency_key(run_id, self.step.name, number.to_bytes(8, "big") + edited),
            log=BoundLog(self._sink, self.step.name, format_id(run_id), item[_ATTEMPT]),
            host=self._host,
            token=item[_TOKEN],
            raw_run_id=run_id,
            errors=tuple(_error_of(packed) for packed in item[_ERRORS]) if len(item) > _ERRORS else (),
        )


def _error_of(packed: list[Any]) -> StepError:
    step, (kind, error, message, trace), attempts, event_id, handled = packed
    return StepError(
        step,
        kind,
        error,
        message,
        trace,
        attempts=attempts,
        event_id=format_id(event_id) if event_id else "",
        handled=handled,
    )
