"""The admission of events over HTTP, shared by `POST /hooks/...` and `POST /events`: read, commit, answer.

Rules: no event is accepted while the engine is not ready. The answer 202 is sent after the commit. If the commit takes
too long the answer is 503; if it lands later, a retry with the same id is a duplicate.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ...events.decide.inputs import Accepted
from ...events.errors import DeliveryConflict
from ...events.ids import LONGEST_ID, check_id, format_id
from ...events.model.event import Event
from ..engine_port import EnginePort, takes_events
from ..http.asgi import Headers, Receive, Scope, read_headers
from ..http.body import read_body
from ..http.deadlines import Deadlines
from ..http.problems import refuse
from ..settings import GatewaySettings
from .refusals import Refusals

__all__ = [
    "LONGEST_ID",
    "HttpAdmission",
    "ValidatedEvent",
    "check_id",
    "media_type",
    "render",
]

_audit = logging.getLogger("ensue.audit")


class ValidatedEvent(NamedTuple):
    """A valid event with its pipeline and its deduplication key, ready to be committed."""

    pipeline: str
    event: Event
    key: str | None
    source: str
    sender_id: str | None
    digest: bytes


class HttpAdmission:
    """The admission of events to one engine."""

    def __init__(self, engine: EnginePort, settings: GatewaySettings) -> None:
        self.engine = engine
        self.settings = settings
        self.accepted: Counter[str] = Counter()
        """The number of events accepted for each pipeline by this process, without duplicates."""
        self.refusals = Refusals()
        self.deadlines = Deadlines()

    def check_ready(self) -> None:
        """Refuse with `not-ready` while the engine accepts no events."""
        state = self.engine.state()
        if not takes_events(state):
            raise refuse("not-ready", f"The engine is {state} and accepts no events now.")

    async def read(self, scope: Scope, receive: Receive, limit_bytes: int) -> tuple[Headers, bytes]:
        """The headers and the raw body of a request."""
        headers = read_headers(scope["headers"])
        encoding = headers.get("content-encoding")
        if encoding is not None and encoding != ["identity"]:
            raise refuse("content-encoding", "Send the body uncompressed.")
        length = headers.get("content-length")
        within = self.deadlines.within(self.settings.read_timeout_seconds)
        announced = None if length is None else length[0]
        return headers, await read_body(receive, announced, limit_bytes, within)

    async def commit(self, validated: ValidatedEvent) -> Accepted:
        """Commit an event, within the commit timeout. Raises what `EnginePort.accept` raises, and TimeoutError."""
        pipeline, event, key, source, sender_id, digest = validated
        try:
            with self.deadlines.within(self.settings.commit_timeout_seconds):
                accepted = await self.engine.accept(
                    pipeline, event, key=key, source=source, sender_id=sender_id, digest=digest
                )
        except DeliveryConflict:
            _audit.warning("refused a delivery: id %r of %s was used before with another body", sender_id, source)
            raise
        self.accepted[pipeline] += not accepted.duplicate
        return accepted


def render(accepted: Accepted | None) -> bytes:
    """The JSON answer to one event. None stands for a webhook that its function ignored."""
    if accepted is None:
        return b'{"event_id":null,"run_id":null,"duplicate":false}'
    event_id, run_id, duplicate = accepted
    return b'{"event_id":"%b","run_id":"%b","duplicate":%b}' % (
        format_id(event_id).encode(),
        format_id(run_id).encode(),
        b"true" if duplicate else b"false",
    )


def media_type(headers: Mapping[str, list[str]]) -> str:
    """The content type without its parameters; empty if the header is missing or repeated."""
    values = headers.get("content-type", [])
    return values[0].partition(";")[0].strip().lower() if len(values) == 1 else ""
