"""A stand-in for an engine: it accepts events into a memory log and runs no step.

Rules: it serves tests of the gateway alone, with failures and delays on demand (`fail_with`, `hold`, any state).
Operator actions are recorded in `done` and change its log as an engine would. Tests that run steps use
`ensue.testing`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from ensue.cluster.log.memory.log import MemoryLog
from ensue.cluster.log.protocol import (
    AuditRow,
    Batch,
    DeadFilter,
    DeadLetter,
    Entry,
    LetterSettled,
    Reader,
    RunChange,
    RunStart,
    Seen,
)
from ensue.events.decide.inputs import Accepted
from ensue.events.errors import BreakerUnknown, DeliveryConflict, LetterClosed, LetterUnknown, RunUnknown
from ensue.events.ids import format_id, uuid7
from ensue.events.model.codec import encode
from ensue.events.model.event import Event, parse_event
from ensue.events.pipelines.pipeline import Pipeline
from ensue.events.policies.breaker import BreakerView
from ensue.events.state.records import (
    EndedRecord,
    EventRecord,
    Record,
    RecordKind,
    RevivedRecord,
    RunRecord,
    pack_records,
)
from ensue.events.state.run_status import Status

__all__ = ["StandInEngine"]


class Redriven(NamedTuple):
    """As an engine's."""

    redriven: int
    refused: list[tuple[str, str]]


class StandInEngine:
    """An engine without steps. `accept` waits for `hold` and raises `fail_with`; `said` is the reported state."""

    durability = "memory"

    def __init__(self, pipelines: Sequence[Pipeline], *, said: str = "ready") -> None:
        self.pipelines: Mapping[str, Pipeline] = {pipeline.name: pipeline for pipeline in pipelines}
        self.said = said
        self.on_ray_started: Callable[[], None] = lambda: None
        self.hold: asyncio.Event | None = None
        self.fail_with: Exception | None = None
        self.log = MemoryLog()
        self.accepted: list[tuple[str, Event, str | None]] = []
        self.done: list[tuple[Any, ...]] = []
        self.breaker_views: dict[str, BreakerView] = {}
        self.tree_children: list[dict[str, Any]] = []
        self._epoch = self.log.acquire("stand-in")

    async def __aenter__(self) -> Self:
        self.said = "ready"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.said = "draining"

    def versions(self) -> Mapping[str, str]:
        return dict.fromkeys(self.pipelines, "v1")

    def state(self) -> str:
        return self.said

    def reader(self) -> Reader:
        return self.log.reader()

    async def accept(
        self,
        pipeline: str,
        event: Event,
        *,
        key: str | None = None,
        source: str = "",
        sender_id: str | None = None,
        digest: bytes = b"",
    ) -> Accepted:
        if self.hold is not None:
            await self.hold.wait()
        if self.fail_with is not None:
            raise self.fail_with
        known = None if sender_id is None else self.log.lookup([(source, sender_id)]).get((source, sender_id))
        if known is not None and known.digest != digest:
            raise DeliveryConflict(f"id {sender_id!r} from {source!r} was used before for another body")
        if known is not None:
            return Accepted(known.event_id, known.run_id, duplicate=True)
        now_us = time.time_ns() // 1000
        run_id, event_id = uuid7(now_us // 1000, os.urandom(10)), uuid7(now_us // 1000, os.urandom(10))
        name, version = event.__event_type__, event.__event_version__
        self.append(
            0,
            RunRecord(RecordKind.RUN, run_id, pipeline, "v1", source, sender_id),
            EventRecord(RecordKind.EVENT, event_id, name, version, encode(event), key, b"", 0, 0, now_us),
            start=RunStart(self.log.next_offset(), run_id, pipeline, "v1", name, now_us),
            seen=[] if sender_id is None else [Seen(source, sender_id, digest, run_id, event_id, now_us)],
        )
        self.accepted.append((pipeline, event, key))
        return Accepted(event_id, run_id, duplicate=False)

    async def cancel(self, run_id: bytes, *, who: str = "python") -> None:
        self._change(run_id, Status.CANCELLED)

    async def retry(self, run_id: bytes, *, who: str = "python") -> None:
        self._change(run_id, Status.RUNNING)

    def breakers(self) -> list[BreakerView]:
        return list(self.breaker_views.values())

    def tree(self) -> dict[str, Any]:
        root = {"name": "engine", "kind": "engine", "status": "up", "pid": os.getpid(), "restarts": 0}
        return {**root, "since": 1_700_000_000_000_000, "reason": "", "children": self.tree_children}

    async def restart_pipeline(self, name: str, *, who: str = "python") -> None:
        self.done.append(("restart", name, who))

    async def force_breaker(
        self, name: str, *, opens: bool, seconds: float | None = None, who: str = "python"
    ) -> BreakerView:
        if name not in self.breaker_views:
            raise BreakerUnknown(f"no breaker is called {name!r}")
        self.done.append(("open" if opens else "close", name, seconds, who))
        self.breaker_views[name] = self.breaker_views[name]._replace(status="open" if opens else "closed", forced=opens)
        return self.breaker_views[name]

    async def redrive(self, letter_id: bytes, *, data: Mapping[str, Any] | None = None, who: str = "python") -> None:
        letter = self._open_letter(letter_id)
        if data is not None:
            parse_event(self.pipelines[letter.pipeline].registry[letter.event_type], dict(data))
        self.done.append(("redrive", letter_id, data, who))
        self._settle(letter_id, "redriven", who)

    async def discard(self, letter_id: bytes, *, who: str = "python") -> None:
        self._open_letter(letter_id)
        self._settle(letter_id, "discarded", who)

    async def redrive_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = "python") -> Redriven:
        return self._settle_all(wanted, limit, "redriven", who)

    async def discard_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = "python") -> Redriven:
        return self._settle_all(wanted, limit, "discarded", who)

    def add_dead_letter(self, letter: DeadLetter) -> None:
        """Put a dead letter into the log."""
        self.log.commit(Batch(self._epoch, dead=[letter]))

    def _open_letter(self, letter_id: bytes) -> DeadLetter:
        letter = self.reader().dead_letter(letter_id)
        if letter is None:
            raise LetterUnknown("no such letter")
        if letter.state != "open":
            raise LetterClosed(f"the letter is {letter.state}")
        return letter

    def _settle(self, letter_id: bytes, state: str, who: str) -> None:
        row = AuditRow(time.time_ns() // 1000, who, state, format_id(letter_id), "")
        self.log.commit(Batch(self._epoch, settled=[LetterSettled(letter_id, state)], audit=[row]))

    def _settle_all(self, wanted: DeadFilter, limit: int | None, state: str, who: str) -> Redriven:
        letters = self.reader().dead(wanted, limit=limit or 1000)
        for letter in letters:
            self._settle(letter.letter_id, state, who)
        return Redriven(len(letters), [])

    def append(
        self,
        run: int,
        *records: Record,
        start: RunStart | None = None,
        changed: Sequence[RunChange] = (),
        seen: Sequence[Seen] = (),
    ) -> int:
        """Write records of a run (0: a new one); returns the run's number."""
        offset = self.log.next_offset()
        entry = Entry(offset, run or offset, len(records), pack_records(list(records)))
        self.log.commit(Batch(self._epoch, [entry], [start] if start else [], list(changed), list(seen)))
        return entry.run

    def _change(self, run_id: bytes, status: Status) -> None:
        row = self.reader().run(run_id)
        if row is None or (status is Status.CANCELLED and not Status(row.status).live):
            raise RunUnknown("no such run is in flight")
        now_us = time.time_ns() // 1000
        record: Record = (
            RevivedRecord(RecordKind.REVIVED, now_us)
            if status.live
            else EndedRecord(RecordKind.ENDED, int(status), now_us)
        )
        self.append(row.run, record, changed=[RunChange(row.run, status, None if status.live else now_us)])
