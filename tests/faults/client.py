"""The sender: many posts in flight to `POST /events`, and an exact memory of what was acknowledged.

Rules: every event has an id of its own. An event that was not answered with 202 is sent again under the same id until
it is. Only a 202 counts as acknowledged. The sender uses raw sockets, so that it costs the machine little.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SOURCE", "Acknowledged", "Sender", "ask", "is_ready"]

SOURCE = "harness"
_BATCH = "application/cloudevents-batch+json"
_ANSWER_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_ACCEPTED = 202


@dataclass(slots=True)
class Acknowledged:
    """What 202 said. runs: the run of each sender's id. refused: other answers and broken connections, by kind."""

    runs: dict[str, str] = field(default_factory=dict[str, str])
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    contradictions: list[str] = field(default_factory=list[str])

    def take(self, sender_id: str, answer: dict[str, Any]) -> None:
        """Remember one answer; one id must always be the same run."""
        run = answer["run_id"]
        if self.runs.setdefault(sender_id, run) != run:
            self.contradictions.append(f"{sender_id} was run {self.runs[sender_id]} and now is {run}")
        self.duplicates += answer["duplicate"]


class Sender:
    """Sends `total` events, at most `rate` a second, over `connections` at once, `batch` in every second post.

    allowed: how many of them may be sent by now.
    """

    def __init__(self, port: int, *, total: int, rate: float, batch: int = 20, connections: int = 16) -> None:
        self.acknowledged = Acknowledged()
        self.allowed = total
        self.make: Callable[[int], dict[str, Any]] = _order
        self._port = port
        self._total = total
        self._rate = rate
        self._batch = batch
        self._connections = connections
        self._next = 0
        self._began = 0.0
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Send until all are acknowledged, or `stop`."""
        self._began = time.monotonic()
        await asyncio.gather(*(self._serve(number) for number in range(self._connections)))

    def stop(self) -> None:
        """Begin no new post; those under way are sent until they are acknowledged."""
        self._ended.set()

    async def post(self, sender_id: str, event: dict[str, Any]) -> str:
        """Send one event until it is acknowledged; its run."""
        wire = _Wire(self._port)
        try:
            await self._insist(wire, [(sender_id, event)])
        finally:
            wire.close()
        return self.acknowledged.runs[sender_id]

    async def _serve(self, number: int) -> None:
        wire = _Wire(self._port)
        try:
            turn = number
            while self._next < self._total and not self._ended.is_set():
                if self._next >= self.allowed:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                count = min(self._batch if turn % 2 else 1, self._total - self._next)
                first, self._next, turn = self._next, self._next + count, turn + 1
                await self._keep_pace()
                await self._insist(wire, [(f"e-{n}", self.make(n)) for n in range(first, first + count)])
                if turn % 10 == 0:  # a sender that has forgotten that it was answered
                    await self._insist(wire, [(f"e-{first}", self.make(first))])
        finally:
            wire.close()

    async def _keep_pace(self) -> None:
        """Wait for the turn of what was just taken; time that the server was away is not made up for."""
        due = self._began + self._next / self._rate
        now = time.monotonic()
        if due < now - 1.0:
            self._began += now - due
        elif due > now:
            await asyncio.sleep(due - now)

    async def _insist(self, wire: "_Wire", events: list[tuple[str, dict[str, Any]]]) -> None:
        while True:
            try:
                status, body = await asyncio.wait_for(wire.post(*_request(events)), _ANSWER_SECONDS)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.acknowledged.refused[type(error).__name__] += 1
                wire.close()
            else:
                if status == _ACCEPTED:
                    answers: list[Any] = json.loads(body if body.startswith(b"[") else b"[%b]" % body)
                    for (sender_id, _), answer in zip(events, answers, strict=True):
                        self.acknowledged.take(sender_id, answer)
                    return
                self.acknowledged.refused[str(status)] += 1
            await asyncio.sleep(_PAUSE_SECONDS)


def _order(n: int) -> dict[str, Any]:
    return {"type": "Order", "data": {"n": n, "account": f"a{n % 97}"}}


def _request(events: list[tuple[str, dict[str, Any]]]) -> tuple[str, bytes]:
    if len(events) == 1:
        (sender_id, event) = events[0]
        return "application/json", json.dumps({**event, "id": sender_id, "source": SOURCE}).encode()
    sent = [{"specversion": "1.0", "source": SOURCE, "id": sender_id, **event} for sender_id, event in events]
    return _BATCH, json.dumps(sent).encode()


class _Wire:
    """One connection, made when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, content_type: str, body: bytes) -> tuple[int, bytes]:
        """POST /events: the status and the body of the answer."""
        head = f"POST /events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        return await self.call(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """One request and its answer; EOFError or OSError where the connection breaks."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), body

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            with suppress(OSError):
                self._streams[1].close()
            self._streams = None


async def ask(port: int, path: str, seconds: float = 2.0) -> tuple[int, Any]:
    """GET a path: the status and the document; status 0 if there is no answer."""
    wire = _Wire(port)
    try:
        status, body = await asyncio.wait_for(
            wire.call(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()), seconds
        )
        return status, json.loads(body)
    except (OSError, EOFError, ValueError, TimeoutError):
        return 0, None
    finally:
        wire.close()


async def is_ready(port: int) -> bool:
    """Whether events are taken in."""
    return (await ask(port, "/readyz"))[0] == 200
