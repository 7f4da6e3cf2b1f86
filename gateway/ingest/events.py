"""Events in: `POST /events`, one CloudEvent (binary or structured), ensue's own JSON, or a batch of CloudEvents.

1. The whole request is validated before any of it is accepted: one invalid event refuses a batch.
2. A batch is accepted in its order. Where the log fails in the middle the answer is a problem although some events may
   have landed: a CloudEvent has an id, so sending the batch again adds what is missing and nothing twice.
3. An id counts within its source and pipeline. What was sent is compared as JSON, so spaces make no difference.
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
from .admission import HttpAdmission, Offer, media_type, render
from .cloudevents import BATCH, STRUCTURED, Sent, is_binary, read_binary, read_plain, read_structured
from .event_routing import EventRouter

__all__ = ["EventsEndpoint"]

_log = logging.getLogger("ensue.gateway")


class EventsEndpoint:
    """The endpoint /events of an engine."""

    def __init__(self, intake: HttpAdmission) -> None:
        self._intake = intake
        self._hearing = EventRouter(intake.engine.pipelines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to /events."""
        try:
            answer = await self._answer(scope, receive)
        except Exception as error:  # noqa: BLE001 - whatever it was, the sender gets an answer
            problem = problem_of(error)
            if problem is None:
                _log.exception("POST /events failed")
            await send_problem(send, problem or INTERNAL)
        else:
            await send_json(send, 202, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise refuse("method-not-allowed", "Events are sent with POST.")
        self._intake.check_ready()
        headers, body = await self._intake.read(scope, receive, self._intake.settings.body_limit_bytes)
        content_type = media_type(headers)
        if content_type == BATCH:
            return await self._batch(parse_json(body))
        offer = self._offer(_read(content_type, headers, body))
        return render(await self._intake.commit(offer))

    async def _batch(self, values: Any) -> bytes:
        kind: Any = values.__class__
        if kind is not list:
            raise EventInvalid("A batch is a JSON list of CloudEvents.")
        offers = [self._item(index, value) for index, value in enumerate(values)]
        commits = [asyncio.ensure_future(self._intake.commit(offer)) for offer in offers]
        results = await asyncio.gather(*commits, return_exceptions=True)
        answers: list[bytes] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            answers.append(render(result))
        return b"[%b]" % b",".join(answers)

    def _item(self, index: int, value: Any) -> Offer:
        try:
            return self._offer(read_structured(value))
        except EventInvalid as error:
            faults = [{**fault, "field": f"[{index}].{fault['field']}"} for fault in error.problems]
            raise type(error)(f"Event {index} of the batch: {error}", faults) from None

    def _offer(self, sent: Sent) -> Offer:
        """The event that was sent, valid and addressed."""
        pipeline, model = self._hearing.find(sent.type, sent.pipeline)
        data = to_json(sent.data, inf_nan_mode="constants")
        event = parse_event(model, data, json=True)
        digest = b"" if sent.id is None else blake2b(b"%b\x00%b" % (sent.type.encode(), data), digest_size=16).digest()
        return Offer(pipeline, event, sent.key, f"events/{pipeline}/{sent.source}", sent.id, digest)


def _read(content_type: str, headers: Headers, body: bytes) -> Sent:
    if content_type == STRUCTURED:
        return read_structured(parse_json(body))
    if content_type == "application/json" or (is_binary(headers) and content_type.endswith("+json")):
        value = parse_json(body)
        return read_binary(headers, value) if is_binary(headers) else read_plain(value)
    raise refuse("content-type", f"Events are application/json, {STRUCTURED} or {BATCH}.")
