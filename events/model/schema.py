"""The JSON schema of an event type."""

from typing import Any

from pydantic.errors import PydanticUserError

from .event import Event

__all__ = ["schema_of"]


def schema_of(model: type[Event]) -> dict[str, Any] | None:
    """The JSON schema of an event type; None if the type of one of its fields has no schema."""
    try:
        return model.model_json_schema()
    except PydanticUserError:
        return None
