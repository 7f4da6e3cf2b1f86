"""The OpenAPI parts that FastAPI does not generate: /hooks, /events and the problems that all routes share."""

from typing import Any

from ..http.problems import MEDIA_TYPE
from ..ingest.cloudevents import BATCH, STRUCTURED
from ..schemas.runs import AcceptedOut, ProblemOut

__all__ = ["PROBLEM_RESPONSES", "add_event_paths"]

_REF = "#/components/schemas/"
_PROBLEM = {"content": {MEDIA_TYPE: {"schema": {"$ref": f"{_REF}ProblemOut"}}}}
_ACCEPTED: dict[str, Any] = {"$ref": f"{_REF}AcceptedOut"}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}
_CODES = {
    400: "The body is not JSON, or is nested too deeply",
    401: "The signature is missing, invalid or expired, or the endpoint is unknown",
    405: "The method is not POST",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The content type is not accepted, or the body is compressed",
    422: "The event is invalid, its type is unknown, or its id was used before with other content",
    431: "The request line and the headers are too large",
    500: "The function of the webhook failed",
    503: "The engine is not ready or overloaded, or the commit took too long; see Retry-After",
}

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem (RFC 9457)", **_PROBLEM},
}
"""The responses that every FastAPI route may give besides its own."""


def add_event_paths(document: dict[str, Any]) -> dict[str, Any]:
    """The document with /hooks/{endpoint} and /events added."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (AcceptedOut, ProblemOut):
        schema = model.model_json_schema(mode="serialization", ref_template=_REF + "{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    schemas["EventIn"] = _event_in()
    document["paths"] = {
        "/hooks/{endpoint}": {"post": _webhook_operation()},
        "/events": {"post": _events_operation()},
        **document["paths"],
    }
    return document


def _webhook_operation() -> dict[str, Any]:
    return {
        "tags": ["events"],
        "summary": "Deliver a webhook to an endpoint of a pipeline",
        "operationId": "deliver_webhook",
        "parameters": [{"name": "endpoint", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
        "responses": _responses(_ACCEPTED, set(_CODES)),
    }


def _events_operation() -> dict[str, Any]:
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"{_REF}EventIn"}},
        STRUCTURED: {"schema": {"type": "object"}},
        BATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
    }
    answer = {"oneOf": [_ACCEPTED, {"type": "array", "items": _ACCEPTED}]}
    verdicts = {"type": "array", "items": {"oneOf": [_ACCEPTED, {"$ref": f"{_REF}ProblemOut"}]}}
    mixed = {"description": "A verdict for each event of a batch, in order: some were refused"}
    return {
        "tags": ["events"],
        "summary": "Send one event, or a batch of CloudEvents",
        "operationId": "emit_event",
        "requestBody": {"required": True, "content": content},
        "responses": {
            **_responses(answer, set(_CODES) - {401}),
            "207": {**mixed, "content": {"application/json": {"schema": verdicts}}},
        },
    }


def _responses(answer: dict[str, Any], codes: set[int]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "202": {
            "description": "The event is committed, by this request or by an earlier one with the same id",
            "content": {"application/json": {"schema": answer}},
        }
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
            "data": {"description": "the fields of the event, as a JSON object"},
            **dict.fromkeys(("id", "source", "key", "pipeline"), optional),
        },
    }
