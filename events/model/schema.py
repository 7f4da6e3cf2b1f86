"""The JSON schema of an event type."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import DecimalSchema, WithDefaultSchema

from .event import Event

__all__ = ["schema_of"]


def schema_of(model: type[Event], generator: type[GenerateJsonSchema] | None = None) -> dict[str, Any] | None:
    """The JSON schema of an event type; None if the type of one of its fields has no schema.

    generator: by default one whose schema is the same in every process and for every release of pydantic.
    """
    try:
        return model.model_json_schema(schema_generator=generator or _StableSchema)
    except PydanticUserError:
        return None


class _StableSchema(GenerateJsonSchema):
    """A schema whose defaults are the same in every process: the items of a set have no order of their own."""

    def get_default_value(self, schema: WithDefaultSchema) -> Any:
        default = super().get_default_value(schema)
        if _is(default, set, frozenset) and any(_is(item, frozenset) for item in default):
            return sorted(
                default, key=lambda item: _text(self.encode_default(item))
            )  # pydantic's < is no order of sets
        return default

    def decimal_schema(self, schema: DecimalSchema) -> JsonSchemaValue:
        made = super().decimal_schema(schema)
        for form in made.get("anyOf", [made]):
            form.pop("pattern", None)  # some releases of pydantic have one, others have none
        return made

    def encode_default(self, dft: Any) -> Any:
        return _sorted_sets(dft, super().encode_default(dft))


def _sorted_sets(value: Any, encoded: Any) -> Any:
    """The encoded form of a default, with the items of each set in it in the order of their text."""
    if encoded.__class__ is dict:
        return _sorted_in_map(value, encoded)
    if encoded.__class__ is not list or not _is(value, Iterable):
        return encoded
    items = [_sorted_sets(item, form) for item, form in zip(value, encoded, strict=False)]
    return sorted(items, key=_text) if _is_unordered(value) else items


def _sorted_in_map(value: Any, encoded: dict[str, Any]) -> dict[str, Any]:
    if _is(value, Mapping) and len(value) == len(encoded):
        return {
            name: _sorted_sets(item, form) for item, (name, form) in zip(value.values(), encoded.items(), strict=True)
        }
    named = _fields(value)
    return {name: _sorted_sets(named[name], form) if name in named else form for name, form in encoded.items()}


def _fields(value: Any) -> dict[str, Any]:
    """The values of the fields of a model or a dataclass, by their names and by their aliases."""
    if isinstance(value, BaseModel):
        named = {name: getattr(value, name) for name in type(value).model_fields}
        aliases = {name: info.serialization_alias or info.alias for name, info in type(value).model_fields.items()}
        return {**named, **{alias: named[name] for name, alias in aliases.items() if alias}}
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return {}


def _is_unordered(value: Any) -> bool:
    """Whether it is a set whose order differs between processes; that of numbers does not."""
    return _is(value, set, frozenset) and not all(_is(item, int, float) for item in value)


def _is(value: object, *kinds: type) -> bool:
    """As `isinstance`; a type checker learns nothing from it of what the value holds."""
    return isinstance(value, kinds)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
