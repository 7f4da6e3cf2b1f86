"""The same load with and without poison: whether all others come to their end, and the poison too, and what it costs.

Rules: everything goes over HTTP to a served engine; what became of each event is read from the log afterwards.
"""

import asyncio
import signal
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensue.cluster.log.open import open_reader
from ensue.events.state.records import AttemptRecord, EndedRecord, RunRecord, unpack_records
from ensue.events.state.run_status import Status

from .client import Sender, is_ready
from .poison import POISONS
from .server import Server
from .waiting import came

__all__ = ["Poisoning", "poisoned"]

_TARGET = f"{Path(__file__).with_name('poison.py')}:flow"
_SECONDS = 600.0
_RATE = 10_000.0
_POLL_SECONDS = 0.05


@dataclass(slots=True)
class Poisoning:
    """What became of a load. seconds: until all that is no poison was over. statuses: by sender's id."""

    events: int
    work_seconds: float
    poisons: dict[str, str]
    seconds: float = 0.0
    statuses: dict[str, Status] = field(default_factory=dict[str, Status])
    attempts: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def healthy_a_second(self) -> float:
        """The throughput of those that are no poison."""
        return (self.events - len(self.poisons)) / self.seconds

    @property
    def harmed(self) -> list[str]:
        """Those that are no poison, and did not complete."""
        return [
            sender_id
            for sender_id in (f"e-{n}" for n in range(self.events))
            if sender_id not in self.poisons and self.statuses.get(sender_id) != Status.COMPLETED
        ]

    @property
    def survived(self) -> dict[str, str]:
        """The poison that did not end failed, by what it is."""
        return {name: kind for name, kind in self.poisons.items() if self.statuses.get(name) != Status.FAILED}


def poisoned(folder: Path, events: int, each: int, work_seconds: float = 0.001) -> Poisoning:
    """A load in which there are `each` events of every poison, evenly spread; the others take `work_seconds`."""
    places = [(number + 1) * events // (each * len(POISONS) + 1) for number in range(each * len(POISONS))]
    poisons = {f"e-{place}": POISONS[number % len(POISONS)] for number, place in enumerate(places)}
    return asyncio.run(_serve(folder, Poisoning(events, work_seconds, poisons)))


async def _serve(folder: Path, load: Poisoning) -> Poisoning:
    server = Server(folder, target=_TARGET)
    server.start()
    try:
        with suppress(TimeoutError):  # what is not over by then shows
            async with asyncio.timeout(_SECONDS):
                await came(lambda: is_ready(server.port))
                await _run(server, load)
        server.signal(signal.SIGTERM)
        await server.ended(60)
    finally:
        server.end()
    _read(server.store, load)
    return load


async def _run(server: Server, load: Poisoning) -> None:
    def make(n: int) -> dict[str, Any]:
        data = {"n": n, "poison": load.poisons.get(f"e-{n}", ""), "work_seconds": load.work_seconds}
        return {"type": "Order", "data": data}

    sender = Sender(server.port, total=load.events, rate=_RATE)
    sender.make = make
    healthy = load.events - len(load.poisons)
    began = time.monotonic()
    sending = asyncio.create_task(sender.run())
    try:
        with closing(open_reader(server.store)) as reader:
            while sum((counts := reader.counts()).values()) < load.events or _alive(counts):
                if counts.get(("poison", Status.COMPLETED), 0) < healthy:
                    load.seconds = time.monotonic() - began
                await asyncio.sleep(_POLL_SECONDS)
    finally:
        sending.cancel()


def _alive(counts: dict[tuple[str, int], int]) -> bool:
    return any(Status(status).live for _, status in counts)


def _read(store: str, load: Poisoning) -> None:
    names: dict[int, str] = {}
    with closing(open_reader(store)) as reader:
        for entry in reader.scan(0, 10**9):
            for record in unpack_records(entry.body):
                if isinstance(record, RunRecord):
                    names[entry.run] = record.sender_id or ""
                elif isinstance(record, AttemptRecord) and record.step == "swallow":
                    load.attempts[names[entry.run]] = record.attempt
                elif isinstance(record, EndedRecord):
                    load.statuses[names[entry.run]] = Status(record.status)
