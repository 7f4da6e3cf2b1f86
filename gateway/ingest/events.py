"""The endpoint `POST /events`: one CloudEvent (binary or structured), ensue's own JSON, or a batch of CloudEvents.

Rules: the whole request is validated before any event of it is accepted; one invalid event refuses a batch, and so does
an id that the batch gives to two contents. Then the events are accepted in their order, and each has its verdict: what
was accepted, or a problem. The answer is 202 if all were accepted and 207 if some were. If none was, for one reason,
the answer is that problem. An id counts within its source and pipeline; contents are compared as JSON, so white space
makes no difference.
"""

import asyncio
import logging
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from pydantic_core import to_json

from ...events.decide.inputs import Accepted
from ...events.errors import EventInvalid
from ...events.model.event import parse_event
from ..http.asgi import Headers, Receive, Scope, Send, send_json, send_problem
from ..http.body import parse_json
from ..http.problems import INTERNAL, Problem, problem_of, refuse
from .admission import HttpAdmission, ValidatedEvent, media_type, render
from .cloudevents import BATCH, STRUCTURED, IncomingEvent, is_binary, read_binary, read_plain, read_structured
from .event_routing import EventRouter

__all__ = ["EventsEndpoint"]

_ACCEPTED, _MIXED = 202, 207
_log = logging.getLogger("ensue.gateway")


class EventsEndpoint:
    """The ASGI endpoint /events of an engine."""

    def __init__(self, admission: HttpAdmission) -> None:
        self._admission = admission
        self._router = EventRouter(admission.engine.pipelines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to /events."""
        try:
            status, answer = await self._answer(scope, receive)
        except Exception as error:  # noqa: BLE001 - every error gets an answer
            await send_problem(send, self._note(error))
        else:
            await send_json(send, status, answer)

    def _note(self, error: Exception) -> Problem:
        """Count a refusal; returns its problem."""
        problem = problem_of(error)
        if problem is None:
            _log.error("POST /events failed with an unexpected error", exc_info=error)
        problem = problem or INTERNAL
        self._admission.refusals.add("events", problem.kind.name)
        return problem

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        if scope["method"] != "POST":
            raise refuse("method-not-allowed", "Send events with POST.")
        self._admission.check_ready()
        headers, body = await self._admission.read(scope, receive, self._admission.settings.body_limit_bytes)
        content_type = media_type(headers)
        if content_type == BATCH:
            return await self._batch(parse_json(body))
        event = self._validate(_read(content_type, headers, body))
        return _ACCEPTED, render(await self._admission.commit(event))

    async def _batch(self, values: Any) -> tuple[int, bytes]:
        kind: Any = values.__class__
        if kind is not list:
            raise EventInvalid("A batch must be a JSON list of CloudEvents.")
        events = [self._batch_item(index, value) for index, value in enumerate(values)]
        _check_ids(events)
        commits = [asyncio.ensure_future(self._admission.commit(event)) for event in events]
        results = await asyncio.gather(*commits, return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        if failures and len(failures) == len(results) and len({_reason(failure) for failure in failures}) == 1:
            raise failures[0]
        verdicts = b",".join(map(self._verdict, results))
        return (_MIXED if failures else _ACCEPTED), b"[%b]" % verdicts

    def _verdict(self, result: Accepted | BaseException) -> bytes:
        if isinstance(result, Exception):
            return self._note(result).body()
        if isinstance(result, BaseException):
            raise result
        return render(result)

    def _batch_item(self, index: int, value: Any) -> ValidatedEvent:
        try:
            return self._validate(read_structured(value))
        except EventInvalid as error:
            faults = [{**fault, "field": f"[{index}].{fault['field']}"} for fault in error.problems]
            raise type(error)(f"Event {index} of the batch: {error}", faults) from None

    def _validate(self, incoming: IncomingEvent) -> ValidatedEvent:
        """The event with its pipeline, validated against its model. Raises `EventInvalid`."""
        pipeline, model = self._router.find(incoming.type, incoming.pipeline)
        data = to_json(incoming.data, inf_nan_mode="constants")
        event = parse_event(model, data, json=True)
        digest = (
            b""
            if incoming.id is None
            else blake2b(b"%b\x00%b" % (incoming.type.encode(), data), digest_size=16).digest()
        )
        return ValidatedEvent(
            pipeline, event, incoming.key, f"events/{pipeline}/{incoming.source}", incoming.id, digest
        )


def _check_ids(events: Sequence[ValidatedEvent]) -> None:
    """Refuse (`delivery-conflict`) if two events of a batch have the same id and different contents."""
    first: dict[tuple[str, str | None], tuple[int, bytes]] = {}
    for index, event in enumerate(events):
        before, content = first.setdefault((event.source, event.sender_id), (index, event.digest))
        if content != event.digest:
            detail = f"Events {before} and {index} of the batch have the id {event.sender_id!r} and different contents."
            fault = {
                "field": f"[{index}].id",
                "expected": "another id, or the same content",
                "got": str(event.sender_id),
            }
            raise refuse("delivery-conflict", detail, fault)


def _is_json_or_absent(content_type: str, headers: Headers) -> bool:
    """Whether the data of a binary CloudEvent is JSON: the SDKs send no content type if the sender names none."""
    is_json = content_type == "application/json" or content_type.endswith("+json")
    return is_json or "content-type" not in headers


def _reason(failure: Exception) -> str:
    return (problem_of(failure) or INTERNAL).kind.name


def _read(content_type: str, headers: Headers, body: bytes) -> IncomingEvent:
    if content_type == STRUCTURED:
        return read_structured(parse_json(body))
    if is_binary(headers) and _is_json_or_absent(content_type, headers):
        return read_binary(headers, parse_json(body) if body else None)
    if content_type == "application/json":
        return read_plain(parse_json(body))
    raise refuse("content-type", f"The content type must be application/json, {STRUCTURED} or {BATCH}.")
