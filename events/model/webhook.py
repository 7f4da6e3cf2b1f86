"""Webhook: a delivery from outside as a pipeline's author sees it, and the endpoint that turns it into events."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .event import Event

__all__ = ["Endpoint", "Verifier", "Webhook"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """One verified delivery: raw body, headers (lower-case names), the sender's delivery id, the endpoint's name."""

    endpoint: str
    body: bytes
    headers: Mapping[str, str]
    delivery_id: str | None = None

    def json(self) -> Any:
        """The body as JSON (it was checked on arrival)."""
        return json.loads(self.body)

    @property
    def event(self) -> str | None:
        """The sender's name for what happened (`X-GitHub-Event` and its like), if it sends one in a header."""
        return self.headers.get("x-github-event") or self.headers.get("x-gitlab-event")


class Verifier(Protocol):
    """Checks that a delivery is who it says it is; the schemes are in `ensue.hooks`."""

    @property
    def scheme(self) -> str:
        """The name of the scheme, as shown to operators."""
        ...

    @property
    def body_limit_bytes(self) -> int:
        """The largest body that the scheme's senders make."""
        ...

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        """The sender's delivery id (None where it sends none); raises where the delivery is not genuine."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook endpoint of a pipeline: POST /hooks/{name}.

    models are the events that it may emit; invalid says what happens to a body that the function refuses
    ("reject": 422, "dead_letter": 202 and kept).
    """

    name: str
    pipeline: str
    function: Callable[[Webhook], Any]
    verify: Verifier
    models: tuple[type[Event], ...]
    content_types: tuple[str, ...] = ("application/json",)
    method: str = "POST"
