"""The endpoint `POST /events`: one CloudEvent (binary or structured), ensue's own JSON, or a batch of CloudEvents.

Rules: the whole request is validated before any event of it is accepted; one invalid event refuses a batch. A batch is
accepted in its order. If the log fails in the middle, the answer is a problem, and some events may be committed; every
CloudEvent has an id, so sending the batch again commits the others once. An id counts within its source and pipeline;
contents are compared as JSON, so white space makes no difference.
"""

import asyncio
import logging
from hashlib import blake2b
from typing import Any

from pydantic_core import to_json

from ...events.errors import EventInvalid
from ...events.model.event import parse_event
from ..http.asgi import Headers, Receive, Scope, Send, send_json, send_problem
from ..http.body import parse_json
from ..http.problems import INTERNAL, problem_of, refuse
from .admission import HttpAdmission, ValidatedEvent, media_type, render
from .cloudevents import BATCH, STRUCTURED, IncomingEvent, is_binary, read_binary, read_plain, read_structured
from .event_routing import EventRouter

__all__ = ["EventsEndpoint"]

_log = logging.getLogger("ensue.gateway")


class EventsEndpoint:
    """The ASGI endpoint /events of an engine."""

    def __init__(self, admission: HttpAdmission) -> None:
        self._admission = admission
        self._router = EventRouter(admission.engine.pipelines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to /events."""
        try:
            answer = await self._answer(scope, receive)
        except Exception as error:  # noqa: BLE001 - every error gets an answer
            problem = problem_of(error)
            if problem is None:
                _log.exception("POST /events failed with an unexpected error")
            self._admission.refusals.add("events", (problem or INTERNAL).kind.name)
            await send_problem(send, problem or INTERNAL)
        else:
            await send_json(send, 202, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise refuse("method-not-allowed", "Send events with POST.")
        self._admission.check_ready()
        headers, body = await self._admission.read(scope, receive, self._admission.settings.body_limit_bytes)
        content_type = media_type(headers)
        if content_type == BATCH:
            return await self._batch(parse_json(body))
        event = self._validate(_read(content_type, headers, body))
        return render(await self._admission.commit(event))

    async def _batch(self, values: Any) -> bytes:
        kind: Any = values.__class__
        if kind is not list:
            raise EventInvalid("A batch must be a JSON list of CloudEvents.")
        events = [self._batch_item(index, value) for index, value in enumerate(values)]
        commits = [asyncio.ensure_future(self._admission.commit(event)) for event in events]
        results = await asyncio.gather(*commits, return_exceptions=True)
        answers: list[bytes] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            answers.append(render(result))
        return b"[%b]" % b",".join(answers)

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


def _read(content_type: str, headers: Headers, body: bytes) -> IncomingEvent:
    if content_type == STRUCTURED:
        return read_structured(parse_json(body))
    if content_type == "application/json" or (is_binary(headers) and content_type.endswith("+json")):
        value = parse_json(body)
        return read_binary(headers, value) if is_binary(headers) else read_plain(value)
    raise refuse("content-type", f"The content type must be application/json, {STRUCTURED} or {BATCH}.")
