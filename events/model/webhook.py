"""Webhooks: one delivery as a pipeline's author sees it, and the endpoint that turns deliveries into events."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .event import Event

__all__ = ["Endpoint", "Verifier", "Webhook"]


@dataclass(frozen=True, slots=True)
class Webhook:
    """One verified delivery.

    endpoint: the name of the endpoint.
    body: the body, as bytes.
    headers: the headers, by lower-case name.
    delivery_id: the sender's id of the delivery; None if it sends none.
    """

    endpoint: str
    body: bytes
    headers: Mapping[str, str]
    delivery_id: str | None = None

    def json(self) -> Any:
        """The body as JSON; that it is JSON was checked on arrival."""
        return json.loads(self.body)

    @property
    def event(self) -> str | None:
        """The sender's name of the event, from `X-GitHub-Event` or `X-GitLab-Event`; None if it sends neither."""
        return self.headers.get("x-github-event") or self.headers.get("x-gitlab-event")


class Verifier(Protocol):
    """Checks that a delivery is genuine; the schemes are in `ensue.hooks`."""

    @property
    def scheme(self) -> str:
        """The name of the scheme, as shown to operators."""
        ...

    @property
    def body_limit_bytes(self) -> int:
        """The largest body that senders of this scheme send, in bytes."""
        ...

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        """The sender's delivery id; None if it sends none.

        headers: the values of each header, by lower-case name.
        now_seconds: the time, in seconds since the epoch.

        Raises: `SignatureInvalid` if the delivery is not genuine.
        """
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook endpoint of a pipeline: POST /hooks/{name}.

    name: its name.
    pipeline: the name of its pipeline.
    function: turns a delivery into an event, several, or None.
    verify: the scheme that verifies deliveries.
    models: the events that it may emit.
    content_types: the content types that it accepts.
    method: the HTTP method.
    """

    name: str
    pipeline: str
    function: Callable[[Webhook], Any]
    verify: Verifier
    models: tuple[type[Event], ...]
    content_types: tuple[str, ...] = ("application/json",)
    method: str = "POST"
