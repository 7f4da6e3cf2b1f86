"""The intake: what `POST /hooks/...` and `POST /events` share. One event in, committed in time, and the answer.

Rules: nothing is taken in while the engine is not ready; an answer of 202 comes after the commit; where the commit
takes too long the answer is 503, and the sender's retry under the same id finds whatever landed.
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

__all__ = ["LONGEST_ID", "HttpAdmission", "Offer", "check_id", "media_type", "render"]

_audit = logging.getLogger("ensue.audit")


class Offer(NamedTuple):
    """A valid event, ready to be committed."""

    pipeline: str
    event: Event
    key: str | None
    source: str
    sender_id: str | None
    digest: bytes


class HttpAdmission:
    """The way into one engine."""

    def __init__(self, engine: EnginePort, settings: GatewaySettings) -> None:
        self.engine = engine
        self.settings = settings
        self.accepted: Counter[str] = Counter()
        """How many events each pipeline has accepted here, without duplicates."""
        self._deadlines = Deadlines()

    def check_ready(self) -> None:
        """Refuse while the engine takes nothing in."""
        state = self.engine.state()
        if not takes_events(state):
            raise refuse("not-ready", f"The engine is {state}: nothing is accepted now.")

    async def read(self, scope: Scope, receive: Receive, limit_bytes: int) -> tuple[Headers, bytes]:
        """The headers and the raw body."""
        headers = read_headers(scope["headers"])
        encoding = headers.get("content-encoding")
        if encoding is not None and encoding != ["identity"]:
            raise refuse("content-encoding", "Send the body as it is: nothing is decompressed here.")
        length = headers.get("content-length")
        within = self._deadlines.within(self.settings.read_timeout_seconds)
        announced = None if length is None else length[0]
        return headers, await read_body(receive, announced, limit_bytes, within)

    async def commit(self, offer: Offer) -> Accepted:
        """Accept an event durably, in time."""
        pipeline, event, key, source, sender_id, digest = offer
        try:
            with self._deadlines.within(self.settings.commit_timeout_seconds):
                accepted = await self.engine.accept(
                    pipeline, event, key=key, source=source, sender_id=sender_id, digest=digest
                )
        except DeliveryConflict:
            _audit.warning("refused: id %r of %s came before with another body", sender_id, source)
            raise
        self.accepted[pipeline] += not accepted.duplicate
        return accepted


def render(accepted: Accepted | None) -> bytes:
    """The answer to one event; None: accepted, of no interest."""
    if accepted is None:
        return b'{"event_id":null,"run_id":null,"duplicate":false}'
    event_id, run_id, duplicate = accepted
    return b'{"event_id":"%b","run_id":"%b","duplicate":%b}' % (
        format_id(event_id).encode(),
        format_id(run_id).encode(),
        b"true" if duplicate else b"false",
    )


def media_type(headers: Mapping[str, list[str]]) -> str:
    """The content type without its parameters; empty where there is none or more than one."""
    values = headers.get("content-type", [])
    return values[0].partition(";")[0].strip().lower() if len(values) == 1 else ""
