"""The version of a pipeline: a digest of what a run depends on.

Rules: the version changes with the steps and their code, the events that they receive and emit, and the schemas of
those events. It never changes with a policy or a docstring, since those may change while a run is under way.
"""

import json
import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, cast

from pydantic.json_schema import GenerateJsonSchema

from ..model.event import Event
from ..model.failure import StepFailed
from ..model.schema import schema_of
from .declaration import Declaration
from .step import Step

__all__ = ["code_id", "earlier_versions", "version_of"]

_PROSE = frozenset({"title", "description", "examples", "deprecated"})
_NAMED = frozenset({"properties", "$defs", "patternProperties"})
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""Where an object is in memory, which differs in each process."""
_LATER = frozenset({"data_omitted"})
"""Fields that `StepFailed` got later, with a default: pipelines that handle it keep their version."""


def version_of(declaration: Declaration) -> str:
    """The version that a run is pinned to: 16 hexadecimal digits, the same in every process for the same structure."""
    return _digest(declaration, None)


def earlier_versions(declaration: Declaration) -> frozenset[str]:
    """What earlier releases called this version: they took pydantic's own schema, in this process at least."""
    return frozenset({_digest(declaration, GenerateJsonSchema)}) - {version_of(declaration)}


def _digest(declaration: Declaration, generator: type[GenerateJsonSchema] | None) -> str:
    structure = {
        "pipeline": declaration.name,
        "order": "by name",  # of the steps in a plan: another order would number the deliveries of a log differently
        "steps": {name: _step_structure(step) for name, step in declaration.steps.items()},
        "events": {
            model.__event_type__: _event_structure(model, generator)
            for model in declaration.events
            if _is_used_by_a_step(declaration, model)
        },
    }
    text = json.dumps(structure, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def code_id(step: Step) -> str:
    """The module-qualified name of a step's code."""
    return f"{step.target.__module__}.{step.target.__qualname__}"


def _step_structure(step: Step) -> dict[str, Any]:
    emission = step.emission
    return {
        "code": code_id(step),
        "parameters": [[p.name, sorted(m.__event_type__ for m in p.models), p.is_list] for p in step.parameters],
        "emits": sorted(model.__event_type__ for model in emission.single),
        "many": sorted(model.__event_type__ for model in emission.many),
        "optional": emission.optional,
        "handles": None if step.failed_steps is None else sorted(step.failed_steps),
        **({"compensates": step.compensates} if step.compensates else {}),
        **({"pivot": True} if step.pivot else {}),
    }


def _event_structure(model: type[Event], generator: type[GenerateJsonSchema] | None) -> dict[str, Any]:
    schema = schema_of(model, generator)
    fields = {name: _ADDRESS.sub("", repr(field.annotation)) for name, field in model.model_fields.items()}
    if schema is not None and model is StepFailed:
        schema["properties"] = {name: field for name, field in schema["properties"].items() if name not in _LATER}
    return {"version": model.__event_version__, "schema": fields if schema is None else _without_prose(schema)}


def _is_used_by_a_step(declaration: Declaration, model: type[Event]) -> bool:
    """Whether a step receives or emits it; an event that only a webhook names is not part of what a run does."""
    return any(
        model in step.emission.models or any(model in parameter.models for parameter in step.parameters)
        for step in declaration.steps.values()
    )


def _without_prose(schema: Any) -> Any:
    """A schema without its titles and descriptions; a property that happens to have such a name stays."""
    if isinstance(schema, list):
        return [_without_prose(item) for item in cast("Iterable[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    kept = ((key, value) for key, value in cast("dict[str, Any]", schema).items() if key not in _PROSE)
    return {key: _named(value) if key in _NAMED else _without_prose(value) for key, value in kept}


def _named(schemas: dict[str, Any]) -> dict[str, Any]:
    return {name: _without_prose(schema) for name, schema in schemas.items()}
