"""The endpoint `POST /hooks/{endpoint}`, the hot path of webhooks, without FastAPI.

Rules: the order of the checks is fixed: readiness, raw read within the limits, signature over the raw bytes, content
type, JSON, the function of the pipeline, commit, 202. Before the signature nothing but the body limit depends on the
name of the endpoint, and an unknown endpoint is verified against a decoy, so its answer equals that of a wrong
signature. A signed id identifies a delivery; the same id with another body is a conflict (422), unless the verifier
says that the id is enough. JSON bodies are then compared as JSON: white space makes no difference. An unsigned id
(GitHub's) counts only together with the digest of the body: then nobody can block a delivery by replaying an old body
under its id, and a redelivery (same id, same body) is still a duplicate.
"""

import asyncio
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
from pydantic_core import to_json

from ...events.errors import EventInvalid, PipelineInvalid, SignatureInvalid
from ...events.model.event import Event
from ...events.model.webhook import Endpoint, Webhook
from ...events.pipelines.pipeline import Pipeline
from ..http.asgi import Headers, HeaderView, Receive, Scope, Send, send_json, send_problem
from ..http.body import parse_json
from ..http.csrf import check_csrf, is_sent_without_asking
from ..http.deadlines import Deadline
from ..http.problems import INTERNAL, UNAUTHORIZED, Refused, problem_of, refuse
from .admission import HttpAdmission, ValidatedEvent, check_id, media_type, render
from .signing import GitHub, id_is_enough, id_is_signed, load_secrets
from .webhook_result import WebhookResult, is_pending, numbered, render_list, result_of, undeclared

__all__ = ["WebhooksEndpoint", "endpoints_of"]

_log = logging.getLogger("ensue.gateway")
_DECOY_ENV = "decoy"
_UNKNOWN = "hooks/(unknown)"


@dataclass(frozen=True, slots=True)
class CheckedWebhook(Webhook):
    """A webhook with its parsed JSON, so that the body is parsed only once."""

    parsed: Any = field(default=None, repr=False, compare=False)

    def json(self) -> Any:
        return self.parsed


@dataclass(frozen=True, slots=True)
class OtherWebhook(Webhook):
    """A webhook whose content type is not JSON."""

    def json(self) -> Any:
        """The body as JSON, if it is. Refuses with `body-unreadable` or `body-too-deep`."""
        return parse_json(self.body)


class WebhookRoute:
    """An endpoint, with everything that can be computed before a delivery arrives."""

    __slots__ = ("checks_csrf", "endpoint", "id_is_enough", "id_is_signed", "limit_bytes", "source", "verify")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.verify = endpoint.verify.verify
        self.limit_bytes = endpoint.verify.body_limit_bytes
        self.id_is_signed = id_is_signed(endpoint.verify)
        self.id_is_enough = id_is_enough(endpoint.verify)
        self.checks_csrf = is_sent_without_asking(endpoint.content_types)
        self.source = f"hooks/{endpoint.name}"


class WebhooksEndpoint:
    """The ASGI endpoint /hooks of an engine. Raises `SecretMissing` if a secret is missing."""

    def __init__(
        self,
        admission: HttpAdmission,
        *,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        endpoints = endpoints_of(admission.engine.pipelines.values())
        load_secrets([endpoint.verify for endpoint in endpoints.values()], environment)
        self._routes = {name: WebhookRoute(endpoint) for name, endpoint in endpoints.items()}
        self._decoy = _decoy(admission.settings.body_limit_bytes)
        self._admission = admission
        self._clock = clock

    async def __call__(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to /hooks/{name}."""
        try:
            accepted = await self._deliver(name, scope, receive)
        except Exception as error:  # noqa: BLE001 - every error gets an answer
            problem = problem_of(error)
            if problem is None:
                _log.exception("POST /hooks/%s failed with an unexpected error", name[:100])
            endpoint = self._routes[name].source if name in self._routes else _UNKNOWN
            self._admission.refusals.add(endpoint, (problem or INTERNAL).kind.name)
            await send_problem(send, problem or INTERNAL)
        else:
            await send_json(send, 202, accepted)

    async def _deliver(self, name: str, scope: Scope, receive: Receive) -> bytes:
        """The body of the answer."""
        if scope["method"] != "POST":
            raise refuse("method-not-allowed", "Send webhooks with POST.")
        self._admission.check_ready()
        route = self._routes.get(name, self._decoy)
        headers, body = await self._admission.read(scope, receive, route.limit_bytes)
        sent_id = _verify(route, headers, body, self._clock())
        if sent_id is not None:
            check_id(sent_id, "delivery id")
        if route.checks_csrf:
            check_csrf("POST", scope["headers"])
        webhook = _webhook(route, headers, body, sent_id)
        returned = await _returned(route, webhook, self._deadline)
        if returned is None:
            return render(None)
        self._admission.check_ready()  # the engine may have stopped meanwhile
        digest = b"" if route.id_is_enough else _digest(webhook, parsed=route.id_is_signed)
        sender_id = sent_id if sent_id is None or route.id_is_signed else f"{sent_id}.{digest.hex()}"
        pipeline, source = route.endpoint.pipeline, route.source
        if isinstance(returned, Event):
            return render(
                await self._admission.commit(ValidatedEvent(pipeline, returned, None, source, sender_id, digest))
            )
        ids = numbered(sender_id, len(returned))
        all_ = [ValidatedEvent(pipeline, e, None, source, i, digest) for e, i in zip(returned, ids, strict=True)]
        return render_list(await asyncio.gather(*map(self._admission.commit, all_)))

    def _deadline(self) -> Deadline:
        return self._admission.deadlines.within(self._admission.settings.webhook_timeout_seconds)


def endpoints_of(pipelines: Iterable[Pipeline]) -> dict[str, Endpoint]:
    """The webhook endpoints by name. Raises `PipelineInvalid` if two pipelines have one of the same name."""
    endpoints_by_name: dict[str, Endpoint] = {}
    for pipeline in pipelines:
        for name, endpoint in pipeline.endpoints.items():
            if name in endpoints_by_name:
                msg = f"pipelines {endpoints_by_name[name].pipeline} and {pipeline.name} both have a webhook {name!r}"
                raise PipelineInvalid(f"{msg}: /hooks/{name} must be unique, so rename one of the two.")
            endpoints_by_name[name] = endpoint
    return endpoints_by_name


def _verify(route: WebhookRoute, headers: Headers, body: bytes, now_seconds: float) -> str | None:
    try:
        sent_id: object = route.verify(headers, body, now_seconds)
    except SignatureInvalid:
        raise
    except Exception:  # noqa: BLE001 - a verifier may be users' code; any error of it is a refusal
        _log.exception("the verifier of webhook %s failed; the delivery was refused", route.endpoint.name)
        raise Refused(UNAUTHORIZED) from None
    if sent_id is None or isinstance(sent_id, str):
        return sent_id
    _log.error(
        "the verifier of webhook %s returned a %s, so the delivery was refused: return the delivery id or None, and "
        "raise SignatureInvalid if it is not genuine",
        route.endpoint.name,
        type(sent_id).__name__,
    )
    if inspect.iscoroutine(sent_id):
        sent_id.close()
    raise Refused(UNAUTHORIZED)


def _webhook(route: WebhookRoute, headers: Headers, body: bytes, sent_id: str | None) -> Webhook:
    content_type = media_type(headers)
    endpoint = route.endpoint
    if content_type not in endpoint.content_types:
        raise refuse(
            "content-type", f"The content type of this endpoint must be {' or '.join(endpoint.content_types)}."
        )
    view = HeaderView(headers)
    if content_type.endswith("json"):
        return CheckedWebhook(endpoint.name, body, view, sent_id, parse_json(body))
    return OtherWebhook(endpoint.name, body, view, sent_id)


def _digest(webhook: Webhook, *, parsed: bool) -> bytes:
    """The digest of the body, or of its content: then JSON with other white space has the same."""
    content = to_json(webhook.parsed) if parsed and isinstance(webhook, CheckedWebhook) else webhook.body
    return blake2b(content, digest_size=16).digest()


async def _returned(route: WebhookRoute, webhook: Webhook, make_deadline: Callable[[], Deadline]) -> WebhookResult:
    """The event that the function of the pipeline returns for a webhook, or several; None if it ignores the webhook.

    make_deadline: makes the time limit of a function that is waited for.
    """
    deadline = None
    try:
        result = route.endpoint.function(webhook)
        if is_pending(result):
            deadline = make_deadline()
            with deadline:
                result = await result_of(result)
        else:
            result = await result_of(result)
    except (EventInvalid, ValidationError, Refused):
        raise
    except Exception:  # noqa: BLE001 - users' code
        if deadline is not None and deadline.expired:
            _log.error("the function of webhook %s took too long; the answer was 503", webhook.endpoint)
            raise refuse("webhook-timeout", "The function of this webhook did not end in time.") from None
        _log.exception(
            "the function of webhook %s failed; the answer was 500, so the sender may try again", webhook.endpoint
        )
        raise Refused(INTERNAL) from None
    wrong = undeclared(result, route.endpoint.models)
    if wrong is None:
        return result  # type: ignore[no-any-return]
    _log.error("the function of webhook %s returned %s, which is not in its return annotation", webhook.endpoint, wrong)
    raise Refused(INTERNAL)


def _decoy(limit_bytes: int) -> WebhookRoute:
    """The route that stands for all unknown endpoints, with a random secret."""
    verifier = GitHub(secret_env=_DECOY_ENV)
    verifier.load({_DECOY_ENV: secrets.token_hex(32)})
    route = WebhookRoute(Endpoint("", "", lambda _: None, verifier, ()))
    route.limit_bytes = limit_bytes
    return route
