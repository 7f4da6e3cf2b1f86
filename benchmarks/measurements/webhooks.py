"""Signed webhooks in: what one gateway process accepts durably, beside servers that store nothing.

Rules: the same body, signature and client for all (`wrk`, 64 connections, loopback); every delivery has an id of its
own, so nothing is deduplicated. Afterwards the log is compared with the number of 202 answers: wrk closes its
connections at the end, so the log may have up to 64 deliveries more than wrk counted, and never one less.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ensue.cluster.log.open import open_reader
from ensue.events.state.run_status import Status

from ..figures import Column, Figure, Settings
from ..processes import end_tree
from ..words import WEBHOOKS
from .web_pipeline import BODY, SIGNATURE

__all__ = ["is_here", "measure"]

_SCRIPT = Path(__file__).with_name("deliveries.lua")
_CONNECTIONS = 64
_STOP_SECONDS = 60.0
_SERVERS: tuple[tuple[str, str, Column], ...] = (
    ("ensue", "ensue: check, commit, answer, run a step", "full"),
    ("ensue", "ensue: check, commit, answer, run a step", "relaxed"),
    ("fastapi", "FastAPI: the same checks, nothing stored", "none"),
    ("bare", "bare uvicorn: reads, answers 202", "none"),
)


class Visit(NamedTuple):
    """The result of wrk."""

    answered: int
    refused: int
    broken: int
    rate: float
    p50_ms: float
    p99_ms: float


def is_here() -> bool:
    """Whether wrk can be run."""
    return shutil.which("wrk") is not None


def measure(settings: Settings) -> list[Figure]:
    """Measure every server in turn."""
    figures: list[Figure] = []
    for kind, what, column in _SERVERS:
        if settings.quick and column == "relaxed":
            continue
        figures += _measure_one(settings, kind, what, column)
    return figures


def _measure_one(settings: Settings, kind: str, what: str, column: Column) -> list[Figure]:
    for file in settings.folder.glob("benchmark.db*"):
        file.unlink()
    body = settings.folder / "body.json"
    body.write_bytes(BODY)
    store = settings.store(column)
    with _server(kind, store) as url:
        warm = _visit(url, body, "warm", settings.size(2, 1))
        visit = _visit(url, body, "main", settings.size(8, 2))
        finished = _counts(store)[1] if kind == "ensue" else 0
    if not visit.answered or visit.broken:
        raise RuntimeError(
            f"{kind}: {visit.answered} deliveries were accepted, {visit.refused} refused, {visit.broken} broken off"
        )
    key = f"webhooks.{kind}.{column}"
    figures = [
        Figure(key, WEBHOOKS, what, column, "requests/s", visit.rate),
        Figure(f"{key}.refused", WEBHOOKS, f"{what}, refused", column, "requests", visit.refused),
        Figure(f"{key}.p50", WEBHOOKS, f"{what}, p50", column, "ms", visit.p50_ms),
        Figure(f"{key}.p99", WEBHOOKS, f"{what}, p99", column, "ms", visit.p99_ms),
    ]
    if kind == "ensue":
        figures += _check_log(key, column, store, warm.answered + visit.answered, finished)
    return figures


def _check_log(key: str, column: Column, store: str, answered: int, finished: int) -> list[Figure]:
    """No delivery that was answered with 202 is missing from the log."""
    logged, _ = _counts(store)
    if not 0 <= logged - answered <= 2 * _CONNECTIONS:
        raise RuntimeError(f"{answered:,} deliveries were answered with 202, and {logged:,} are in the log")
    return [
        Figure(f"{key}.answered", WEBHOOKS, "answered 202", column, "deliveries", answered),
        Figure(f"{key}.logged", WEBHOOKS, "runs in the log", column, "deliveries", logged),
        Figure(f"{key}.finished", WEBHOOKS, "runs over when wrk left", column, "deliveries", finished),
    ]


def _counts(store: str) -> tuple[int, int]:
    """How many runs the log has, and how many of them are completed."""
    with closing(open_reader(store)) as reader:
        counts = reader.counts()
    return sum(counts.values()), sum(count for (_, status), count in counts.items() if status == Status.COMPLETED)


@contextmanager
def _server(kind: str, store: str) -> Generator[str]:
    """A server in a process of its own; its address."""
    command = [sys.executable, "-m", "benchmarks.measurements.web_servers", kind, store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip() if server.stdout else ""
            if not url:
                raise RuntimeError(f"the server {kind} did not start")
            yield url
            server.send_signal(signal.SIGTERM)
            server.wait(_STOP_SECONDS)
        finally:
            end_tree(server)


def _visit(url: str, body: Path, name: str, seconds: int) -> Visit:
    host = url.removeprefix("http://")
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", str(_SCRIPT), url, "--"]
    command += [host, str(body), SIGNATURE, name]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 30).stdout
    result = next(line for line in text.splitlines() if line.startswith("RESULT"))
    answered, duration_us, refused, broken, p50_us, p99_us = map(int, result.split()[1:])
    accepted = answered - refused
    return Visit(accepted, refused, broken, accepted / duration_us * 1e6, p50_us / 1e3, p99_us / 1e3)
