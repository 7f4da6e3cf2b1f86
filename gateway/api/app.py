"""The application: two plain ASGI endpoints that take events, and FastAPI for all other routes.

Rules: the `Host` of every request is checked first. A request that changes something also passes the CSRF check;
events need none, since they are JSON or signed, and no page of another site can send those. /hooks and /events are
answered before FastAPI sees the request, because its routing and validation cost more than the work itself; they are
in the OpenAPI document all the same. Every error is a problem (RFC 9457). There is no CORS, and no page loads anything
from another site.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from ...events.errors import EnsueError
from ..engine_port import EnginePort
from ..http.asgi import Receive, Scope, Send, replay, send_problem, without_body
from ..http.body import parse_json
from ..http.csrf import SAFE_METHODS, check_csrf
from ..http.problems import INTERNAL, MEDIA_TYPE, Problem, Refused, problem_of, refuse
from ..http.trusted_hosts import TrustedHosts
from ..ingest.admission import HttpAdmission, media_type
from ..ingest.events import EventsEndpoint
from ..ingest.webhooks import WebhooksEndpoint
from ..settings import GatewaySettings
from .audit import audit_router
from .breakers import breakers_router
from .dead_letters import dead_router
from .health import health_router
from .log_queries import LogQueries
from .metrics import metrics_router
from .openapi import PROBLEM_RESPONSES, add_event_paths
from .pipelines import pipelines_router
from .runs import runs_router

__all__ = ["Gateway", "create_app"]

_log = logging.getLogger("ensue.gateway")
_WEBHOOK_PREFIX = "/hooks/"
_WRONG_METHOD = 405
_STOPPING = refuse("not-ready", "The server stops.").problem
_DESCRIPTION = "Webhooks and events in; runs, dead letters, circuit breakers and pipelines for operators."
_PROBLEM_BY_STATUS = {
    404: ("not-found", "There is no such path; /openapi.json lists all paths."),
    405: ("method-not-allowed", "This path does not accept this method; see the Allow header."),
}


class Gateway(FastAPI):
    """The FastAPI application behind the two endpoints that take events."""

    def __init__(
        self,
        webhooks: WebhooksEndpoint,
        events: EventsEndpoint,
        trusted_hosts: TrustedHosts,
        queries: LogQueries,
        admission: HttpAdmission,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._admission = admission
        self._webhooks = webhooks
        self._events = events
        self._trusted_hosts = trusted_hosts
        self.queries = queries
        self.operator_routes: list[BaseRoute] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        try:
            self._trusted_hosts.check(scope["headers"])
        except Refused as error:
            await send_problem(send, error.problem)
            return
        try:
            await self._dispatch(scope, receive, send)
        except asyncio.CancelledError:  # the server stops and has waited long enough for this request
            await send_problem(send, _STOPPING)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(_WEBHOOK_PREFIX):
            await self._webhooks(path[len(_WEBHOOK_PREFIX) :], scope, receive, send)
        elif path == "/events":
            await self._events(scope, receive, send)
        else:
            await self._framework(scope, receive, send)

    async def _framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_csrf(scope["method"], scope["headers"])
            if scope["method"] not in SAFE_METHODS:
                receive = await self._read(scope, receive)
        except Refused as error:
            await send_problem(send, error.problem)
            return
        if scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, without_body(send)
        # FastAPI answers an unexpected error through `_any_error`, which logs it, and then raises it again.
        with suppress(Exception):
            await super().__call__(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body, within the limits and as strictly as an event. Returns a `receive` that gives it again."""
        headers, body = await self._admission.read(scope, receive, self._admission.settings.body_limit_bytes)
        if body and ("content-type" not in headers or media_type(headers).endswith("json")):
            parse_json(body)
        return replay(body, receive)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with /hooks and /events."""
        if self.openapi_schema is None:
            self.openapi_schema = add_event_paths(super().openapi())
        return self.openapi_schema


def create_app(
    engine: EnginePort,
    *,
    settings: GatewaySettings | None = None,
    environment: Mapping[str, str] = os.environ,
    version: str = "0",
) -> Gateway:
    """The application of an engine. Raises `SecretMissing` if a webhook's secret is not in the environment."""
    settings = settings or GatewaySettings()
    admission = HttpAdmission(engine, settings)
    queries = LogQueries(engine)
    app = Gateway(
        WebhooksEndpoint(admission, environment=environment),
        EventsEndpoint(admission),
        TrustedHosts(settings.allowed_hosts),
        queries,
        admission,
        title="ensue",
        description=_DESCRIPTION,
        version=version,
        docs_url=None,
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
    )
    for router in _routers(engine, queries, admission):
        app.include_router(router)
        app.operator_routes += router.routes
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(Exception, _any_error)
    app.add_exception_handler(Refused, _any_error)
    app.add_exception_handler(EnsueError, _any_error)
    return app


def _routers(engine: EnginePort, queries: LogQueries, admission: HttpAdmission) -> tuple[APIRouter, ...]:
    return (
        runs_router(engine, queries),
        dead_router(engine, queries),
        breakers_router(engine),
        pipelines_router(engine, queries),
        audit_router(queries),
        health_router(engine, queries),
        metrics_router(engine, queries, admission),
    )


async def _any_error(_request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem is None:
        _log.error("a request failed with an unexpected error", exc_info=error)
    return _response(problem or INTERNAL)


async def _framework_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _response(INTERNAL)
    name, detail = _PROBLEM_BY_STATUS.get(error.status_code, ("request-invalid", str(error.detail)))
    headers = {"allow": _allowed(request)} if error.status_code == _WRONG_METHOD else error.headers
    return _response(refuse(name, detail).problem, headers)


def _allowed(request: Request) -> str:
    """The methods of all routes of a path. HEAD goes with GET."""
    routes: list[BaseRoute] = [*request.app.operator_routes, *request.app.routes]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


async def _invalid_parameters(_request: Request, error: Exception) -> Response:
    errors: list[dict[str, Any]] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    faults = [
        {
            "field": ".".join(str(part) for part in fault["loc"][1:]),
            "expected": str(fault["msg"]),
            "got": repr(fault.get("input"))[:60],
        }
        for fault in errors
    ]
    detail = "; ".join(f"{fault['field']}: {fault['expected']}" for fault in faults)
    return _response(refuse("parameter-invalid", detail, *faults).problem)


def _response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    more = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(problem.body(), problem.status, {**(headers or {}), **more}, MEDIA_TYPE)
