"""The signature of a step: which events it receives and may emit, read from its annotations.

Rules: every parameter is an event, a union of events, a list of events, or the `Context`; the return annotation says
what may be emitted. Anything else is a `PipelineInvalid` that names the step, the parameter and what to write.
"""

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import PipelineInvalid
from ..model.context import Context
from ..model.event import Event

__all__ = ["Emission", "Parameter", "Signature", "read_emission", "read_hints", "read_signature"]

_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)
_EXAMPLE = "write e.g. `def step(event: OrderPlaced) -> Shipped | None`"


class Parameter(NamedTuple):
    """One event parameter: its name, the models it accepts, and whether it takes all of a fan-out as a list."""

    name: str
    models: tuple[type[Event], ...]
    is_list: bool


class Emission(NamedTuple):
    """What a step may emit: the models that come alone, and those that come as a list or stream (a fan-out)."""

    single: tuple[type[Event], ...]
    many: tuple[type[Event], ...]
    optional: bool

    @property
    def models(self) -> tuple[type[Event], ...]:
        """Every model that may be emitted."""
        return tuple(dict.fromkeys(self.single + self.many))


class Signature(NamedTuple):
    """A step's subscription and emissions."""

    parameters: tuple[Parameter, ...]
    context: str | None
    emission: Emission


def read_signature(function: Callable[..., Any], name: str, local_names: Mapping[str, Any]) -> Signature:
    """The signature of a step; `local_names` resolves annotations of classes defined inside a function.

    Raises: `PipelineInvalid` if a parameter is not an event, or an annotation is missing or cannot be resolved.
    """
    hints = read_hints(function, f"step {name}", local_names)
    parameters: list[Parameter] = []
    context: str | None = None
    for parameter in _parameters(function):
        if parameter.name not in hints:
            raise PipelineInvalid(f"step {name}: parameter {parameter.name!r} has no annotation; {_EXAMPLE}")
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PipelineInvalid(f"step {name}: *{parameter.name} cannot be a subscription; {_EXAMPLE}")
        if hints[parameter.name] is Context:
            if context is not None:
                raise PipelineInvalid(f"step {name}: {context!r} and {parameter.name!r} are both a Context: keep one")
            context = parameter.name
        else:
            parameters.append(_read_parameter(parameter.name, hints[parameter.name], f"step {name}"))
    if not parameters:
        raise PipelineInvalid(f"step {name} receives no event: give it a parameter annotated with one; {_EXAMPLE}")
    if "return" not in hints:
        raise PipelineInvalid(f"step {name} has no return annotation (-> None for a sink); {_EXAMPLE}")
    return Signature(tuple(parameters), context, read_emission(hints["return"], f"step {name}"))


def read_hints(function: Callable[..., Any], owner: str, local_names: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of a function, resolved.

    Raises: `PipelineInvalid` if it is not a function, or if an annotation cannot be resolved.
    """
    if not inspect.isroutine(function):
        msg = f"{owner} is a {type(function).__name__}: a step is a function, or a class with __call__"
        raise PipelineInvalid(f"{msg}; wrap it in a function with annotations")
    try:
        return typing.get_type_hints(function, localns=dict(local_names))
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise PipelineInvalid(f"{owner}: an annotation cannot be resolved ({error}); import it") from None


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())
    return parameters[1:] if parameters and parameters[0].name == "self" else parameters


def _read_parameter(name: str, hint: Any, owner: str) -> Parameter:
    if typing.get_origin(hint) is list and typing.get_args(hint):
        inner = typing.get_args(hint)[0]
        return Parameter(name, _models(inner, owner, f"parameter {name!r}"), is_list=True)
    return Parameter(name, _models(hint, owner, f"parameter {name!r}"), is_list=False)


def _models(hint: Any, owner: str, where: str) -> tuple[type[Event], ...]:
    models = _alternatives(hint)
    for model in models:
        if not _is_event(model):
            raise PipelineInvalid(f"{owner}: {where} is annotated {_show(model)}, which {_why_not(model)}; {_EXAMPLE}")
    return models


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(part for inner in typing.get_args(hint) for part in _alternatives(inner))
    return (hint,)


def _is_event(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Event) and hint is not Event


def read_emission(hint: Any, owner: str) -> Emission:
    """What a return annotation allows a step to emit.

    Raises: `PipelineInvalid` if it names anything but events.
    """
    single: list[type[Event]] = []
    many: list[type[Event]] = []
    optional = False
    for alternative in _alternatives(hint):
        origin = typing.get_origin(alternative)
        if alternative is None or alternative is types.NoneType:
            optional = True
        elif (origin is list or origin in _STREAMS) and typing.get_args(alternative):
            inner = [a for a in _alternatives(typing.get_args(alternative)[0]) if a is not types.NoneType]
            many += [model for part in inner for model in _models(part, owner, "the return")]
        elif _is_event(alternative):
            single.append(alternative)
        else:
            msg = f"{owner}: the return is annotated {_show(alternative)}, which {_why_not(alternative)}"
            raise PipelineInvalid(f"{msg}; {_EXAMPLE}")
    return Emission(tuple(dict.fromkeys(single)), tuple(dict.fromkeys(many)), optional)


def _why_not(hint: Any) -> str:
    if hint is Event:
        return "is the base of all events: name the events that you mean"
    if hint is list or typing.get_origin(hint) is list or hint in _STREAMS or typing.get_origin(hint) in _STREAMS:
        return "does not say what it contains: write list[OrderPlaced]"
    return "is not an Event"


def _show(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint)
