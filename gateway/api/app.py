"""The application: two plain ASGI endpoints where events come in, and ordinary FastAPI for everything else.

1. Every request passes the check of its host first, whatever it is for; what changes something, that of its site. (An
   event comes as JSON or is signed, so no page of another site can send one.)
2. /hooks and /events are answered before the framework sees them: on that path its machinery costs more than the work.
   They are in the OpenAPI document all the same.
3. Every error is a problem (RFC 9457). No CORS, and no pages that load anything from elsewhere.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ...events.errors import EnsueError
from ..engine_port import EnginePort
from ..http.asgi import Receive, Scope, Send, send_problem
from ..http.csrf import check_site
from ..http.problems import INTERNAL, MEDIA_TYPE, Problem, Refused, problem_of, refuse
from ..http.trusted_hosts import TrustedHosts
from ..ingest.admission import HttpAdmission
from ..ingest.events import EventsEndpoint
from ..ingest.webhooks import WebhooksEndpoint
from ..settings import GatewaySettings
from .audit import audit_router
from .breakers import breakers_router
from .dead_letters import dead_router
from .health import health_router
from .log_queries import LogQueries
from .metrics import metrics_router
from .openapi import PROBLEM_RESPONSES, add_intake
from .pipelines import pipelines_router
from .runs import runs_router

__all__ = ["Gateway", "create_app"]

_log = logging.getLogger("ensue.gateway")
_HOOKS = "/hooks/"
_BY_STATUS = {
    404: ("not-found", "No such path here; /openapi.json has them all."),
    405: ("method-not-allowed", "Another method is asked for here; see the Allow header."),
}


class Gateway(FastAPI):
    """The FastAPI application with the intake in front of it."""

    def __init__(
        self, ingest: WebhooksEndpoint, emit: EventsEndpoint, hosts: TrustedHosts, reading: LogQueries, **options: Any
    ) -> None:
        super().__init__(**options)
        self._ingest = ingest
        self._emit = emit
        self._hosts = hosts
        self.reading = reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        try:
            self._hosts.check(scope["headers"])
        except Refused as error:
            await send_problem(send, error.problem)
            return
        path: str = scope["path"]
        if path.startswith(_HOOKS):
            await self._ingest(path[len(_HOOKS) :], scope, receive, send)
        elif path == "/events":
            await self._emit(scope, receive, send)
        else:
            await self._framework(scope, receive, send)

    async def _framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_site(scope["method"], scope["headers"])
        except Refused as error:
            await send_problem(send, error.problem)
            return
        # The framework answers an error that nobody foresaw with `_any_error`, which logs it, and raises it again.
        with suppress(Exception):
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The document, with the intake."""
        if self.openapi_schema is None:
            self.openapi_schema = add_intake(super().openapi())
        return self.openapi_schema


def create_app(
    engine: EnginePort,
    *,
    settings: GatewaySettings | None = None,
    environment: Mapping[str, str] = os.environ,
    version: str = "0",
) -> Gateway:
    """The application of an engine. `SecretMissing` where a webhook's secret is not in the environment."""
    settings = settings or GatewaySettings()
    intake = HttpAdmission(engine, settings)
    reading = LogQueries(engine)
    app = Gateway(
        WebhooksEndpoint(intake, environment=environment),
        EventsEndpoint(intake),
        TrustedHosts(settings.allowed_hosts),
        reading,
        title="ensue",
        version=version,
        docs_url=None,
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
    )
    for router in _routers(engine, reading, intake):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    app.add_exception_handler(Exception, _any_error)
    app.add_exception_handler(Refused, _any_error)
    app.add_exception_handler(EnsueError, _any_error)
    return app


def _routers(engine: EnginePort, reading: LogQueries, intake: HttpAdmission) -> tuple[APIRouter, ...]:
    return (
        runs_router(engine, reading),
        dead_router(engine, reading),
        breakers_router(engine),
        pipelines_router(engine, reading),
        audit_router(reading),
        health_router(engine, reading),
        metrics_router(engine, reading, intake),
    )


async def _any_error(_request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem is None:
        _log.error("a request failed", exc_info=error)
    return _response(problem or INTERNAL)


async def _framework_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _response(INTERNAL)
    name, detail = _BY_STATUS.get(error.status_code, ("request-invalid", str(error.detail)))
    return _response(refuse(name, detail).problem, error.headers)


async def _invalid_parameters(_request: Request, error: Exception) -> Response:
    found: list[dict[str, Any]] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    faults = [
        {
            "field": ".".join(str(part) for part in fault["loc"][1:]),
            "expected": str(fault["msg"]),
            "got": repr(fault.get("input"))[:60],
        }
        for fault in found
    ]
    detail = "; ".join(f"{fault['field']}: {fault['expected']}" for fault in faults)
    return _response(refuse("parameter-invalid", detail, *faults).problem)


def _response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    more = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(problem.body(), problem.status, {**(headers or {}), **more}, MEDIA_TYPE)
