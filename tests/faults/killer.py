"""The killer: a seeded choice of what to end next, and how long it took until work went on.

Rules: a kill counts only where its victim was there and is gone. After each one a probe is posted, as any sender would,
and the time until its run is completed is what the report says. Workers continue without a keeper, and for a while
without raylet or GCS, so of those another must be there first, in the same process or in the next. Where work does not
go on in the time that an operator would bear, the serving process is ended as a liveness probe would end it, and the
kill is counted as stuck.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

from .client import Sender, ask
from .server import Server, kill_all, runs
from .waiting import came

__all__ = ["KINDS", "Kill", "Killer", "Kind"]

Kind = Literal["worker", "stopped worker", "partition", "keeper", "raylet", "gcs", "everything", "drain"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MARKS: Mapping[Kind, tuple[str, ...]] = {
    "worker": ("ray::Worker",),
    "stopped worker": ("ray::Worker",),
    "keeper": ("ray::Keeper",),
    "raylet": ("/raylet/raylet",),
    "gcs": ("/gcs/gcs_server",),
}
"""How the title of a process begins, or what its path has in it."""
_REPLACED: frozenset[Kind] = frozenset(("keeper", "raylet", "gcs"))
_STUCK_SECONDS = 75.0
"""Ray itself ends a driver 60 s after its GCS is gone."""
_RESTART_SECONDS = 120.0
_SUPERVISED_SECONDS = 10.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill. seconds: until the probe's run was completed. stuck: the serving process had to be ended by hand."""

    kind: Kind
    seconds: float
    stuck: bool = False


class Killer:
    """Kills what a server is made of. `skipped` counts kills that found no victim of their kind."""

    def __init__(self, server: Server, sender: Sender, seed: int) -> None:
        self.kills: list[Kill] = []
        self.skipped: dict[Kind, int] = {}
        self._server = server
        self._sender = sender
        self._random = random.Random(seed)  # noqa: S311 - seeded, so that it can be had again
        self._probes = 0
        self._stopped: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Return when the server works."""
        await self._probe(_RESTART_SECONDS)

    async def strike(self, kind: Kind) -> None:
        """One kill, and the wait until work goes on."""
        began = time.monotonic()
        if kind == "keeper":  # the keeper is started after the workers
            await came(lambda: bool(self._victims(kind)), _SUPERVISED_SECONDS, _POLL_SECONDS)
        before = set(self._victims(kind))
        if not await self._end(kind):
            self.skipped[kind] = self.skipped.get(kind, 0) + 1
            return
        stuck = not await self._goes_on(kind, before, began + _STUCK_SECONDS)
        seconds = time.monotonic() - began
        if stuck:
            kill_all([*self._server.family(), *filter(None, [self._server.pid])])
            assert await self._probe(_RESTART_SECONDS), self._server.last_words()
        if self._stopped is not None:
            await self._stopped
        self.kills.append(Kill(kind, seconds, stuck))

    async def _end(self, kind: Kind) -> bool:
        pid = self._server.pid
        if not pid:
            return False
        if kind == "partition":
            return await _gone([pid])
        if kind == "everything":
            return await _gone([pid, *self._server.family()])
        if kind == "drain":
            return await self._drain(pid)
        victims = self._victims(kind)
        if not victims:
            return False
        victim = self._random.choice(victims)
        return await (self._stop(victim) if kind == "stopped worker" else _gone([victim]))

    async def _stop(self, victim: int) -> bool:
        """It stands still for a while, and then knows nothing of it; some of them longer than the limit of silence."""
        os.kill(victim, signal.SIGSTOP)
        self._stopped = asyncio.create_task(_wake(victim, self._random.choice((0.5, 2.0, 12.0))))
        return True

    async def _drain(self, pid: int) -> bool:
        """SIGTERM, and then no time, little time or all the time to finish."""
        os.kill(pid, signal.SIGTERM)
        await came(lambda: not runs(pid), self._random.choice((0.0, 0.05, 5.0)), _POLL_SECONDS)
        await _gone([pid])
        return True

    async def _goes_on(self, kind: Kind, before: set[int], ends: float) -> bool:
        """Whether work goes on in time; what everything stands on has to be there anew first."""
        if kind in _REPLACED and not await came(
            lambda: bool(set(self._victims(kind)) - before), ends - time.monotonic()
        ):
            return False
        return await self._probe(max(1.0, ends - time.monotonic()))

    def _victims(self, kind: Kind) -> list[int]:
        if kind not in _MARKS:
            return []
        return sorted(child for child, title in self._server.family().items() if _is(kind, title))

    async def _probe(self, seconds: float) -> bool:
        """Whether a new event is accepted and comes to its end in time."""
        self._probes += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                order = {"type": "Order", "data": {"n": -self._probes, "account": f"p{self._probes}"}}
                run = await self._sender.post(f"probe-{self._probes}", order)
                return await came(lambda: self._is_over(run), seconds, _POLL_SECONDS)
        return False

    async def _is_over(self, run: str) -> bool:
        status, found = await ask(self._server.port, f"/runs/{run}")
        return status == 200 and found["status"] not in ("running", "waiting")


def _is(kind: Kind, title: str) -> bool:
    return any(title.startswith(mark) or (mark.startswith("/") and mark in title) for mark in _MARKS[kind])


async def _wake(victim: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGCONT)


async def _gone(pids: list[int]) -> bool:
    """`kill -9`, and the wait until it has happened; False where there was nobody."""
    there = [pid for pid in pids if pid and runs(pid)]
    kill_all(there)
    await came(lambda: not any(runs(pid) for pid in there), poll_seconds=_POLL_SECONDS)
    return bool(there)
