"""A campaign: a served engine, a sender, a killer, and at the end a judge.

Rules: kills come in a seeded order, each in the middle of its share of the events, so that there is always something
under way; after the last one all is left to drain, the
server is asked to stop, and only then is the log judged. What was planned and not reached is in the report as such.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .client import Acknowledged, Sender, ask
from .judge import Findings, judge
from .killer import KINDS, Kill, Killer, Kind
from .server import Server
from .waiting import came

__all__ = ["Plan", "Report", "run_campaign"]

_DRAIN_SECONDS = 300.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """events are sent at `rate` a second while kills of these kinds happen; it is over after `minutes` at the latest.

    pause_seconds: between the return to work and the next kill.
    """

    events: int
    kills: Mapping[Kind, int]
    rate: float
    minutes: float
    pause_seconds: float = 0.5
    seed: int = 1


@dataclass(slots=True)
class Report:
    """What happened, in figures."""

    plan: Plan
    acknowledged: Acknowledged
    findings: Findings
    kills: list[Kill] = field(default_factory=list[Kill])
    skipped: dict[Kind, int] = field(default_factory=dict[Kind, int])
    exits: dict[int, int] = field(default_factory=dict[int, int])
    last_exit: int | None = None
    seconds: float = 0.0
    drain_seconds: float = 0.0
    judge_seconds: float = 0.0

    @property
    def figures(self) -> dict[str, Any]:
        """All of it as a JSON document."""
        findings = self.findings
        return {
            "acknowledged": len(self.acknowledged.runs),
            "wanted": self.plan.events,
            "kills": len(self.kills),
            "kills_wanted": sum(self.plan.kills.values()),
            "lost": findings.lost,
            "applied_twice": findings.doubled,
            "faults": dict(findings.counts),
            "examples": findings.faults,
            "contradictions": self.acknowledged.contradictions,
            "back_at_work": {kind: _times(self.kills, kind) for kind in KINDS},
            "skipped": self.skipped,
            "exits": {str(code): count for code, count in self.exits.items()},
            "last_exit": self.last_exit,
            "sent_again": dict(self.acknowledged.refused),
            "duplicates": self.acknowledged.duplicates,
            "attempts": findings.attempts,
            "attempts_crashed": findings.crashed,
            "records": findings.records,
            "outside": findings.outside,
            "outside_repeated": findings.outside_repeated,
            "seconds": round(self.seconds, 1),
            "drain_seconds": round(self.drain_seconds, 1),
            "judge_seconds": round(self.judge_seconds, 1),
        }

    def table(self) -> str:
        """What a person reads."""
        rows = [
            f"{name:18} {value}" for name, value in self.figures.items() if name not in ("back_at_work", "examples")
        ]
        rows += ["", f"{'killed':16} {'times':>6} {'p50 s':>8} {'p99 s':>8} {'worst s':>8} {'stuck':>6}"]
        for kind, times in self.figures["back_at_work"].items():
            if times["times"]:
                rows.append(
                    f"{kind:16} {times['times']:6} {times['p50_seconds']:8.2f} {times['p99_seconds']:8.2f} "
                    f"{times['max_seconds']:8.2f} {times['stuck']:6}"
                )
        return "\n".join([*rows, *self.findings.faults])


def _silence(_: str) -> None:
    return None


def run_campaign(folder: Path, plan: Plan, say: Callable[[str], None] = _silence) -> Report:
    """All of it; what was started is gone when it returns."""
    return asyncio.run(_Campaign(folder, plan, say).run())


class _Campaign:
    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._server = Server(folder)
        self._sender = Sender(self._server.port, total=plan.events, rate=plan.rate)
        self._killer = Killer(self._server, self._sender, plan.seed)
        self._began = time.monotonic()

    async def run(self) -> Report:
        server, sender, killer = self._server, self._sender, self._killer
        server.keep()
        try:
            await killer.ready()
            sending = asyncio.create_task(sender.run())
            await self._kill_all()
            if time.monotonic() > self._ends:
                sender.stop()
            await sending
            report = Report(self._plan, sender.acknowledged, Findings(), killer.kills, killer.skipped)
            report.seconds = time.monotonic() - self._began
            await self._drain(report)
            return self._judged(report)
        finally:
            await server.leave()
            server.end()

    @property
    def _ends(self) -> float:
        return self._began + self._plan.minutes * 60

    async def _kill_all(self) -> None:
        """One kill after another, each no earlier than its share of the events."""
        kinds: list[Kind] = [kind for kind, count in self._plan.kills.items() for _ in range(count)]
        random.Random(self._plan.seed).shuffle(kinds)  # noqa: S311 - seeded, so that it can be had again
        share = self._plan.events / max(1, len(kinds))
        for number, kind in enumerate(kinds):
            self._sender.allowed = int(share * (number + 1))
            middle = share * (number + 0.5)
            if not await came(partial(self._is_acknowledged, middle), self._ends - time.monotonic(), _POLL_SECONDS):
                return
            await self._killer.strike(kind)
            self._say(
                f"{number + 1} {kind} {self._killer.kills[-1:]} acknowledged {len(self._sender.acknowledged.runs)}"
            )
            await asyncio.sleep(self._plan.pause_seconds)
        self._sender.allowed = self._plan.events

    def _is_acknowledged(self, count: float) -> bool:
        return len(self._sender.acknowledged.runs) >= count

    async def _drain(self, report: Report) -> None:
        """Until no run is alive, and then the server is asked to end."""
        began = time.monotonic()
        await came(self._is_drained, _DRAIN_SECONDS, _POLL_SECONDS)
        report.drain_seconds = time.monotonic() - began
        report.exits = dict(self._server.ends)
        await self._server.leave()
        self._server.signal(signal.SIGTERM)
        report.last_exit = await self._server.ended(_STOP_SECONDS)

    async def _is_drained(self) -> bool:
        pages = [await ask(self._server.port, f"/runs?status={status}&limit=1") for status in ("running", "waiting")]
        return all(status == 200 and not found["runs"] for status, found in pages)

    def _judged(self, report: Report) -> Report:
        began = time.monotonic()
        report.findings = judge(self._server.store, self._server.ledger, report.acknowledged.runs)
        report.judge_seconds = time.monotonic() - began
        return report


def _times(kills: list[Kill], kind: Kind) -> dict[str, Any]:
    seconds = sorted(kill.seconds for kill in kills if kill.kind == kind)
    if not seconds:
        return {"times": 0}
    return {
        "times": len(seconds),
        "p50_seconds": round(_share(seconds, 0.5), 2),
        "p99_seconds": round(_share(seconds, 0.99), 2),
        "max_seconds": round(seconds[-1], 2),
        "stuck": sum(kill.stuck for kill in kills if kill.kind == kind),
    }


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
