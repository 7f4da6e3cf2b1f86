"""The three servers that wrk measures, one process each: ensue's gateway, FastAPI with the same checks, bare uvicorn.

`python -m benchmarks.measurements.web_servers KIND STORE` prints its address when it answers, and ends at SIGTERM. All
listen on loopback only, with uvloop and httptools, and none writes an access log.
"""

import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from hmac import compare_digest, digest
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

from ensue import Engine
from ensue.gateway.api.server import Served, ServerPhase, serve

from .web_pipeline import SECRET, SECRET_ENV, Pushed, deliveries

__all__ = ["KINDS"]

KINDS = ("ensue", "fastapi", "bare")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Answer(BaseModel):
    """The answer to the sender."""

    event_id: str
    run_id: str
    duplicate: bool


def _fastapi() -> FastAPI:
    """A server written by hand: the signature over the raw body, JSON, pydantic; nothing is stored."""
    app = FastAPI()

    @app.post("/hooks/github", status_code=202)
    async def github(request: Request) -> Answer:
        body = await request.body()
        expected = "sha256=" + digest(SECRET.encode(), body, "sha256").hex()
        if not compare_digest(expected, request.headers.get("x-hub-signature-256", "")):
            raise HTTPException(401)
        event = Pushed.model_validate(json.loads(body))
        return Answer(event_id=request.headers["x-github-delivery"], run_id=event.ref, duplicate=False)

    return app


async def _bare(scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """The minimum for uvicorn: read the body, answer 202."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def _serve_ensue(store: str) -> None:
    def observe(served: Served) -> None:
        if served.phase is ServerPhase.READY:
            print(served.url, flush=True)

    os.environ[SECRET_ENV] = SECRET
    serve(lambda: Engine(deliveries, store=store), port=0, observe=observe)


def _serve_other(app: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(
            app, loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="off"
        )
        uvicorn.Server(config).run([listener])


def main() -> None:
    kind, store = sys.argv[1:3]
    if kind == "ensue":
        _serve_ensue(store)
    else:
        _serve_other(_fastapi() if kind == "fastapi" else _bare)


if __name__ == "__main__":
    main()
