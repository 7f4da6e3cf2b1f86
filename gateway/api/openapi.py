"""OpenAPI of the two plain ASGI endpoints, which the framework does not see, and of the problems that all routes share."""

from typing import Any

from ..http.problems import MEDIA_TYPE
from ..ingest.cloudevents import BATCH, STRUCTURED
from ..schemas.runs import AcceptedOut, ProblemOut

__all__ = ["PROBLEM_RESPONSES", "add_intake"]

_REF = "#/components/schemas/"
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}ProblemOut"}}}}
_ACCEPTED: dict[str, Any] = {"$ref": f"{_REF}AcceptedOut"}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_CODES = {
    400: "Malformed: not JSON, too deep",
    401: "The signature is missing, wrong or stale, or the endpoint is unknown",
    405: "Not POST",
    408: "The body did not arrive in time",
    413: "The body is over the limit",
    415: "The content type is not declared, or the body is compressed",
    422: "The event is invalid, its type unknown, or the id was used before for something else",
    500: "The webhook's function failed",
    503: "Not ready, overloaded or not committed in time; with Retry-After",
}

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem (RFC 9457)", **_PROBLEM},
}
"""What every route of the framework may answer besides its own."""


def add_intake(document: dict[str, Any]) -> dict[str, Any]:
    """The document with /hooks/{endpoint} and /events in it."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (AcceptedOut, ProblemOut):
        schema = model.model_json_schema(mode="serialization", ref_template=_REF + "{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    schemas["EventIn"] = _event_in()
    document["paths"] = {"/hooks/{endpoint}": {"post": _hook()}, "/events": {"post": _events()}, **document["paths"]}
    return document


def _hook() -> dict[str, Any]:
    return {
        "tags": ["intake"],
        "summary": "A webhook, as its endpoint declares it",
        "operationId": "deliver_webhook",
        "parameters": [{"name": "endpoint", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
        "responses": _responses(_ACCEPTED, set(_CODES)),
    }


def _events() -> dict[str, Any]:
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"{_REF}EventIn"}},
        STRUCTURED: {"schema": {"type": "object"}},
        BATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
    }
    answer = {"oneOf": [_ACCEPTED, {"type": "array", "items": _ACCEPTED}]}
    return {
        "tags": ["intake"],
        "summary": "One event, or a batch of CloudEvents",
        "operationId": "emit_event",
        "requestBody": {"required": True, "content": content},
        "responses": _responses(answer, set(_CODES) - {401}),
    }


def _responses(answer: dict[str, Any], codes: set[int]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "202": {"description": "Committed, now or before", "content": {"application/json": {"schema": answer}}}
    }
    for code in sorted(codes):
        responses[str(code)] = {"description": _CODES[code], **_PROBLEM}
    return responses


def _event_in() -> dict[str, Any]:
    optional = {"anyOf": [_TEXT, {"type": "null"}]}
    return {
        "title": "EventIn",
        "type": "object",
        "required": ["type"],
        "additionalProperties": False,
        "properties": {
            "type": _TEXT,
            "data": {"description": "the fields of the event"},
            **dict.fromkeys(("id", "source", "key", "pipeline"), optional),
        },
    }
