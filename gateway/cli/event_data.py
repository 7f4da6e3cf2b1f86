"""The options --event and --data: the event that they describe, validated against its model.

Rules: only an event that a step takes can start a run. It is named by its type, or by its class if no other has that
name. Data is strict JSON. An error names the field, what was expected and what was given, or the line and the column
if the text is not JSON.
"""

import json
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...events.model.event import Event
    from ...events.pipelines.pipeline import Pipeline

__all__ = ["read_event", "read_object"]

_KINDS = {"list": "a list", "str": "a string", "bool": "true or false", "NoneType": "null"}


def read_event(pipeline: "Pipeline", name: str | None, data: str | None) -> "Event":
    """The event of --event and --data. Raises `EventInvalid` or `EventTypeUnknown`."""
    from ...events.model.event import parse_event

    model = _model(pipeline, name)
    text = _text(data, f"{model.__event_type__} {{...}}")
    _check_json(text, "--data")
    return parse_event(model, text, json=True)


def read_object(data: str) -> "dict[str, Any]":
    """The fields of --data, not yet validated against a model. Raises `EventInvalid`."""
    text = _text(data, "the event")
    _check_json(text, "--data")
    fields: dict[str, Any] = json.loads(text)
    return fields


def _model(pipeline: "Pipeline", name: str | None) -> "type[Event]":
    from ...events.errors import EventTypeUnknown

    known = _triggers(pipeline)
    if name is None:
        raise EventTypeUnknown(f"--event is missing: pipeline {pipeline.name} takes {', '.join(known) or 'nothing'}")
    by_class = [type_ for type_ in known if pipeline.registry[type_].__name__ == name]
    if name in known:
        return pipeline.registry[name]
    if len(by_class) == 1 and name not in pipeline.registry:
        return pipeline.registry[by_class[0]]
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    if name in pipeline.registry:
        message = f"--event {name}: no step of pipeline {pipeline.name} takes it"
    else:
        message = f"--event {name[:80]}: pipeline {pipeline.name} has no such event type"
    raise EventTypeUnknown(f"{message}{hint}; it takes {', '.join(known) or 'nothing'}")


def _triggers(pipeline: "Pipeline") -> list[str]:
    """The event types that can start a run: those that steps take; first those that no step emits."""
    from ...events.model.failure import StepFailed

    steps = pipeline.steps.values()
    heard = [m.__event_type__ for step in steps for parameter in step.parameters for m in parameter.models]
    emitted = {m.__event_type__ for step in steps for m in step.emission.models}
    names = [name for name in dict.fromkeys(heard) if name != StepFailed.__event_type__]
    return sorted(names, key=lambda name: name in emitted)


def _text(data: str | None, example: str) -> str:
    from ...events.errors import EventInvalid

    if data is None:
        return "{}"
    if data == "-":
        if sys.stdin.isatty():
            sys.stderr.write(f"reading the data of {example} from the terminal; press Ctrl-D to end it\n")
        return _decoded(sys.stdin.buffer.read(), "stdin")
    if data.startswith("@"):
        try:
            return _decoded(Path(data[1:]).expanduser().read_bytes(), data)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise EventInvalid(f"--data {data}: the file cannot be read: {reason}") from None
    return data


def _decoded(raw: bytes, source: str) -> str:
    from ...events.errors import EventInvalid

    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EventInvalid(f"--data {source}: not UTF-8 text, at byte {error.start}") from None


def _check_json(text: str, option: str) -> None:
    from ...events.errors import EventInvalid

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        excerpt = text[error.pos : error.pos + 20].split("\n", maxsplit=1)[0]
        shown = f", at {excerpt!r}" if excerpt else ", at the end"
        raise EventInvalid(f"{option} is not JSON: {error.msg} ({position}{shown})") from None
    except RecursionError:
        raise EventInvalid(f"{option} is nested too deeply") from None
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value).__name__, "a number")
        raise EventInvalid(f'{option}: expected a JSON object such as {{"order_id": "o-1"}}, got {kind}')
