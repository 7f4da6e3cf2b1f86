"""OperatorApi: what operators do through an engine: cancel, retry, decide on dead letters, force breakers.

Rules: what an `await` here returns is committed and audited. A run that has ended is brought back from what the log
says of it. Decisions about one run wait for each other, since each begins from what the log held before it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from ...cluster.clock import IdSource
from ...cluster.log.protocol import DeadFilter, DeadLetter, RunRow
from ...events.decide.dead_letters import LetterState
from ...events.decide.edited_event import ReplacementEvent, instead, keyed, replaced
from ...events.decide.inputs import Cancel, CancelUnloaded, Force, Input, Redrive, Revive
from ...events.decide.refusals import not_in_bulk, takes_several
from ...events.errors import (
    BreakerUnknown,
    EnsueError,
    LetterClosed,
    LetterUnknown,
    LogUnavailable,
    Overloaded,
    RunFinished,
    RunUnknown,
)
from ...events.ids import format_id, parse_id
from ...events.model.arguments import check_who, is_text
from ...events.policies.breaker import BreakerView, check_open_seconds
from ...events.state.run_status import LIVE, Status
from ..partition.owned_log import OwnedLog
from .backend import Backend
from .handle_table import HandleTable
from .handles import RunHandle
from .replies import PendingReplies
from .run_locks import RunLocks
from .run_queries import all_letters, redrive_input, revive_input
from .served_pipelines import ServedPipelines

__all__ = ["OperatorApi", "Redriven", "raw_id"]

T = TypeVar("T")
_ID_BYTES = 16
_TRIES = 5
_TRY_SECONDS = 0.05


class Redriven(NamedTuple):
    """What became of dead letters that were decided on together."""

    redriven: int
    """How many were decided on."""
    refused: list[tuple[str, str]]
    """Those that could not be: id and reason."""


class OperatorApi:
    """The operators' side of an engine; what each method promises is written at `EngineApi`."""

    def __init__(
        self,
        served: ServedPipelines,
        owned_log: OwnedLog,
        ids: IdSource,
        *,
        backend: Backend,
        replies: PendingReplies,
        handles: HandleTable,
    ) -> None:
        self._served = served
        self._log = owned_log
        self._ids = ids
        self._backend = backend
        self._replies = replies
        self._handles = handles
        self._locks = RunLocks()

    async def known_run(self, raw: bytes) -> RunRow:
        """A run in the log. Raises `RunUnknown` if no run of this id is served here."""
        row = await self._backend.read(self._log.reader.run, raw)
        if row is None:
            raise RunUnknown(f"no run has the id {format_id(raw)}")
        if row.status in LIVE and row.pipeline not in self._served.plans:
            raise RunUnknown(f"run {format_id(raw)} is of pipeline {row.pipeline}, which is not served here")
        return row

    async def cancel(self, run_id: bytes | str, who: str) -> None:
        """End a run."""
        check_who(who)
        raw = raw_id(run_id)
        try:
            await self._post(lambda reply: Cancel(raw, reply, who))
        except RunUnknown:
            async with self._locks.hold(raw):
                row = await self.known_run(raw)
                if row.status != Status.NEEDS_MIGRATION:
                    raise RunFinished(f"run {format_id(raw)} is over: there is nothing to cancel") from None
                await self._post(lambda reply: CancelUnloaded(raw, row.run, reply, who))

    async def retry(self, run_id: bytes | str, who: str) -> RunHandle:
        """Retry what failed of a run."""
        check_who(who)
        raw = raw_id(run_id)
        if self._locks.is_held(raw):
            raise RunFinished(f"run {format_id(raw)} is being retried already")
        async with self._locks.hold(raw):
            entry: Revive = await self._backend.read(revive_input, self._log.reader, raw)
            entry.who = who
            return await self._revive(raw, entry)

    async def redrive(self, letter_id: bytes | str, data: Mapping[str, Any] | None, who: str) -> RunHandle:
        """Run a dead letter again."""
        check_who(who)
        letter = await self._backend.read(self._served_letter, raw_id(letter_id))
        edited = None if data is None else self._edited(letter, data)
        async with self._locks.hold(letter.run_id):
            return await _decide(lambda: self._redrive(letter, who, edited))

    async def discard(self, letter_id: bytes | str, who: str) -> None:
        """Discard a dead letter."""
        check_who(who)
        letter = await self._backend.read(self._open_letter, raw_id(letter_id))
        async with self._locks.hold(letter.run_id):
            await _decide(lambda: self._discard(letter, who))

    async def redrive_all(self, wanted: DeadFilter, limit: int | None, who: str) -> Redriven:
        """Run dead letters again."""
        check_who(who)
        return await self._each(wanted, limit, lambda letter: self.redrive(letter.letter_id, None, who))

    async def discard_all(self, wanted: DeadFilter, limit: int | None, who: str) -> Redriven:
        """Discard dead letters."""
        check_who(who)

        async def discard(letter: DeadLetter) -> None:
            if letter.blocked and wanted.step is None:
                raise not_in_bulk(letter.step)
            await self.discard(letter.letter_id, who)

        return await self._each(wanted, limit, discard)

    async def force_breaker(self, name: str, *, opens: bool, seconds: float | None, who: str) -> BreakerView:
        """Open a breaker, or close it."""
        check_who(who)
        if not is_text(name):
            raise BreakerUnknown(f"no breaker is named {ascii(name)[:80]}")
        check_open_seconds(seconds)
        await self._post(lambda reply: Force(name, opens, who, seconds, reply))
        found = next((view for view in self._backend.breakers() if view.name == name), None)
        if found is None:
            raise BreakerUnknown(f"no breaker is named {name!r}")
        return found

    # -- dead letters ------------------------------------------------------------------------------------------------

    async def _each(
        self, wanted: DeadFilter, limit: int | None, decide: Callable[[DeadLetter], Awaitable[object]]
    ) -> Redriven:
        letters = await self._backend.read(all_letters, self._log.reader, wanted, limit)
        refused: list[tuple[str, str]] = []
        for letter in sorted(letters, key=_order):
            try:
                await decide(letter)
            except (LogUnavailable, Overloaded):
                raise
            except EnsueError as error:  # a letter that is refused holds up no other
                refused.append((format_id(letter.letter_id), str(error)))
        return Redriven(len(letters) - len(refused), refused)

    def _open_letter(self, raw: bytes) -> DeadLetter:
        letter = self._log.reader.dead_letter(raw)
        if letter is None:
            raise LetterUnknown(f"no dead letter has the id {format_id(raw)}")
        if letter.state != LetterState.OPEN:
            raise LetterClosed(f"dead letter {format_id(raw)} is settled already: it was {letter.state}")
        return letter

    def _served_letter(self, raw: bytes) -> DeadLetter:
        letter = self._open_letter(raw)
        if letter.pipeline not in self._served.by_name:
            raise LetterUnknown(
                f"dead letter {format_id(raw)} is of pipeline {letter.pipeline}, which is not served here"
            )
        return letter

    async def _redrive(self, letter: DeadLetter, who: str, edited: ReplacementEvent | None) -> RunHandle:
        entry = await self._decision(letter, who)
        if edited is not None:
            records = chain.from_iterable(entry.entries)
            entry.edited = keyed(edited, replaced(records, letter.delivery, letter.event_id))
        return await self._revive(letter.run_id, entry)

    async def _discard(self, letter: DeadLetter, who: str) -> None:
        entry = await self._decision(letter, who)
        entry.discard = True
        await self._post(lambda reply: _with_reply(entry, reply))

    async def _decision(self, letter: DeadLetter, who: str) -> Redrive:
        """The input, from what the log says now; another decision may have come since the letter was read."""
        await self._backend.read(self._open_letter, letter.letter_id)
        entry: Redrive = await self._backend.read(redrive_input, self._log.reader, letter)
        entry.who = who
        return entry

    def _edited(self, letter: DeadLetter, data: Mapping[str, Any]) -> ReplacementEvent:
        pipeline = self._served.by_name[letter.pipeline]
        step = pipeline.steps.get(letter.step)
        if step is not None and not step.is_single:
            raise takes_several(letter.step)
        return instead(pipeline.registry[letter.event_type], data, self._ids.next())

    # -- inputs ------------------------------------------------------------------------------------------------------

    async def _revive(self, raw: bytes, entry: Revive | Redrive) -> RunHandle:
        handle = self._handles.get(raw)
        if handle is None or handle.is_over or handle.has_failed:
            handle = self._handles.new(raw)
        await self._post(lambda reply: _with_reply(entry, reply))
        return handle

    async def _post(self, make: Callable[[asyncio.Future[None]], Input]) -> None:
        future: asyncio.Future[None] = self._replies.future()
        self._replies.post(make(future), future)
        await future


async def _decide(decide: Callable[[], Awaitable[T]]) -> T:
    """Decide; if the run ended between the reading and the decision, read and decide again."""
    for _ in range(_TRIES - 1):
        try:
            return await decide()
        except RunFinished:
            await asyncio.sleep(_TRY_SECONDS)
    return await decide()


def raw_id(text: bytes | str) -> bytes:
    """The bytes of an id. Raises `EnsueError` if it is not an id."""
    if isinstance(text, bytes) and len(text) == _ID_BYTES:
        return text
    return parse_id(text if isinstance(text, str) else ascii(text))


def _order(letter: DeadLetter) -> tuple[int, int]:
    """The place of a delivery among all: events of one key are handled in this order."""
    return letter.run, letter.delivery


def _with_reply(entry: Revive | Redrive, reply: Any) -> Revive | Redrive:
    entry.reply = reply
    return entry
