"""Webhooks in: `POST /hooks/{endpoint}`, the hot path, without any of the framework's request machinery.

The order is the law: ready, bounded raw read, signature over the raw bytes, content type, JSON, the pipeline's
function, commit, 202. Nothing before the signature depends on the endpoint's name, but for the body's limit, and an
unknown endpoint is refused by a decoy that does the same work: its answer is that of a wrong signature.

What identifies a delivery: under a signed id the id alone, and another body under it is a conflict (422). An unsigned
id (GitHub's) counts only together with the body's digest: whoever replays an old body under a new id can then hold
up no genuine delivery, and a redelivery (same id, same body) is still a duplicate.
"""

import inspect
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from ...events.decide.inputs import Accepted
from ...events.errors import EventInvalid, PipelineInvalid, SignatureInvalid
from ...events.model.event import Event
from ...events.model.webhook import Endpoint, Webhook
from ...events.pipelines.pipeline import Pipeline
from ..http.asgi import Headers, HeaderView, Receive, Scope, Send, send_json, send_problem
from ..http.body import parse_json
from ..http.problems import INTERNAL, UNAUTHORIZED, Refused, problem_of, refuse
from .admission import HttpAdmission, Offer, check_id, media_type, render
from .signing import GitHub, id_is_signed, load_secrets

__all__ = ["WebhooksEndpoint", "endpoints_of"]

_log = logging.getLogger("ensue.gateway")
_DECOY_ENV = "decoy"


@dataclass(frozen=True, slots=True)
class CheckedWebhook(Webhook):
    """A webhook whose JSON was parsed on arrival, once."""

    parsed: Any = field(default=None, repr=False, compare=False)

    def json(self) -> Any:
        return self.parsed


class Hook:
    """An endpoint with all that can be known before a delivery comes."""

    __slots__ = ("endpoint", "id_is_signed", "is_async", "limit_bytes", "source", "verify")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.verify = endpoint.verify.verify
        self.limit_bytes = endpoint.verify.body_limit_bytes
        self.id_is_signed = id_is_signed(endpoint.verify)
        self.is_async = inspect.iscoroutinefunction(endpoint.function)
        self.source = f"hooks/{endpoint.name}"


class WebhooksEndpoint:
    """The webhook endpoints of an engine. Secrets are read here, so a missing one stops the start."""

    def __init__(
        self,
        intake: HttpAdmission,
        *,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        endpoints = endpoints_of(intake.engine.pipelines.values())
        load_secrets([endpoint.verify for endpoint in endpoints.values()], environment)
        self._hooks = {name: Hook(endpoint) for name, endpoint in endpoints.items()}
        self._decoy = _decoy(intake.settings.body_limit_bytes)
        self._intake = intake
        self._clock = clock

    async def __call__(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to /hooks/{name}."""
        try:
            accepted = await self._deliver(name, scope, receive)
        except Exception as error:  # noqa: BLE001 - whatever it was, the sender gets an answer
            problem = problem_of(error)
            if problem is None:
                _log.exception("POST /hooks/%s failed", name[:100])
            await send_problem(send, problem or INTERNAL)
        else:
            await send_json(send, 202, render(accepted))

    async def _deliver(self, name: str, scope: Scope, receive: Receive) -> Accepted | None:
        if scope["method"] != "POST":
            raise refuse("method-not-allowed", "Webhooks are sent with POST.")
        self._intake.check_ready()
        hook = self._hooks.get(name, self._decoy)
        headers, body = await self._intake.read(scope, receive, hook.limit_bytes)
        sent_id = _verify(hook, headers, body, self._clock())
        if sent_id is not None:
            check_id(sent_id, "delivery id")
        event = await _event(hook, _webhook(hook, headers, body, sent_id))
        if event is None:
            return None
        digest = blake2b(body, digest_size=16).digest()
        sender_id = sent_id if sent_id is None or hook.id_is_signed else f"{sent_id}.{digest.hex()}"
        return await self._intake.commit(
            Offer(hook.endpoint.pipeline, event, None, hook.source, sender_id, digest),
        )


def endpoints_of(pipelines: Iterable[Pipeline]) -> dict[str, Endpoint]:
    """The webhook endpoints by name; `PipelineInvalid` where two pipelines share one."""
    found: dict[str, Endpoint] = {}
    for pipeline in pipelines:
        for name, endpoint in pipeline.endpoints.items():
            if name in found:
                msg = f"pipelines {found[name].pipeline} and {pipeline.name} both have a webhook {name!r}"
                raise PipelineInvalid(f"{msg}: /hooks/{name} can lead to one only, rename the other.")
            found[name] = endpoint
    return found


def _verify(hook: Hook, headers: Headers, body: bytes, now_seconds: float) -> str | None:
    try:
        return hook.verify(headers, body, now_seconds)
    except SignatureInvalid:
        raise
    except Exception:  # noqa: BLE001 - a verifier may be users' code, and its word for "no" is to raise
        _log.exception("the verifier of webhook %s failed; the delivery was refused", hook.endpoint.name)
        raise Refused(UNAUTHORIZED) from None


def _webhook(hook: Hook, headers: Headers, body: bytes, sent_id: str | None) -> Webhook:
    content_type = media_type(headers)
    endpoint = hook.endpoint
    if content_type not in endpoint.content_types:
        raise refuse("content-type", f"This endpoint takes {' or '.join(endpoint.content_types)}.")
    view = HeaderView(headers)
    if content_type.endswith("json"):
        return CheckedWebhook(endpoint.name, body, view, sent_id, parse_json(body))
    return Webhook(endpoint.name, body, view, sent_id)


async def _event(hook: Hook, webhook: Webhook) -> Event | None:
    """What the pipeline's function makes of a webhook."""
    try:
        event = hook.endpoint.function(webhook)
        if hook.is_async:
            event = await event
    except (EventInvalid, ValidationError):
        raise
    except Exception:  # noqa: BLE001 - users' code
        _log.exception("the function of webhook %s failed; the sender was told to try again", webhook.endpoint)
        raise Refused(INTERNAL) from None
    if event is None or type(event) in hook.endpoint.models:
        return event  # type: ignore[no-any-return]
    _log.error("webhook %s returned %s, which is not in its annotation", webhook.endpoint, type(event).__name__)
    raise Refused(INTERNAL)


def _decoy(limit_bytes: int) -> Hook:
    """An endpoint that nobody knows the secret of."""
    verifier = GitHub(secret_env=_DECOY_ENV)
    verifier.load({_DECOY_ENV: secrets.token_hex(32)})
    hook = Hook(Endpoint("", "", lambda _: None, verifier, ()))
    hook.limit_bytes = limit_bytes
    return hook
