"""OperatorApi: what operators do through an engine: cancel, retry, dead letters, breakers.

Rules: what an `await` here returns is committed and audited. A run that is over is brought back from what the log says
of it; two decisions about one run wait for each other, since each begins from what the log held before it.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from ...cluster.clock import Clock, IdSource
from ...cluster.log.protocol import DeadFilter, DeadLetter, Reader, RunRow
from ...events.decide.dead_letters import LetterState
from ...events.decide.edited_event import ReplacementEvent, instead, keyed, replaced
from ...events.decide.inputs import Cancel, Force, Input, Redrive, Revive
from ...events.decide.refusals import not_in_bulk, not_loaded, takes_several
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
from ...events.pipelines.pipeline import Pipeline
from ...events.policies.breaker import BreakerView, check_open_seconds
from ...events.state.run_status import Status
from ..partition.loop import Partition
from .handles import RunHandle
from .run_queries import all_letters, redrive_input, revive_input

__all__ = ["OperatorApi", "Redriven", "raw_id"]

T = TypeVar("T")
_TRIES = 5
_TRY_SECONDS = 0.05


class Redriven(NamedTuple):
    """What became of dead letters that were decided on together: how many were, and which could not be (id, why)."""

    redriven: int
    refused: list[tuple[str, str]]


class OperatorApi(ABC):
    """The operators' side of an engine."""

    pipelines: Mapping[str, Pipeline]
    _loop: asyncio.AbstractEventLoop
    _reader: Reader
    _clock: Clock
    _ids: IdSource
    _partition: Partition
    _handles: WeakValueDictionary[bytes, RunHandle]

    def __init__(self) -> None:
        self._deciding: dict[bytes, _Turn] = {}

    @abstractmethod
    def _make_handle(self, raw: bytes) -> RunHandle:
        """A handle of a run, new or the one that is there."""

    @abstractmethod
    def _post_waiting(self, entry: Input, future: asyncio.Future[Any]) -> None:
        """Tell the partition, and let the future fail where the engine ends."""

    @abstractmethod
    async def _aside(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that reads the disk."""

    @abstractmethod
    def _known_run(self, raw: bytes) -> RunRow:
        """A run of the log. Raises `RunUnknown` where no run of this id is served here."""

    async def cancel(self, run_id: bytes | str, *, who: str = "python") -> None:
        """End a run; where its steps have compensations, those run now, and it ends `compensated`.

        who: names the operator, for the audit. Raises `RunUnknown`, `RunFinished` where it is over, `RunPastPivot`.
        """
        raw = raw_id(run_id)
        try:
            await self._tell(lambda reply: Cancel(raw, reply, who))
        except RunUnknown:
            row = await self._aside(self._known_run, raw)
            if row.status == Status.NEEDS_MIGRATION:
                raise not_loaded(raw, row.pipeline) from None
            raise RunFinished(f"run {format_id(raw)} is over: there is nothing to cancel") from None

    async def retry(self, run_id: bytes | str, *, who: str = "python") -> RunHandle:
        """Retry what failed of a run that failed or was cancelled. Raises `RunUnknown`, `RunFinished`."""
        raw = raw_id(run_id)
        if raw in self._deciding:
            raise RunFinished(f"run {format_id(raw)} is being retried already")
        async with self._alone(raw):
            entry: Revive = await self._aside(revive_input, self._reader, raw)
            entry.who = who
            return await self._revive(raw, entry)

    async def redrive(
        self, letter_id: bytes | str, *, data: Mapping[str, Any] | None = None, who: str = "python"
    ) -> RunHandle:
        """Run a dead letter again: the same event, or a copy of it with other `data` (its fields).

        Raises `LetterUnknown`, `LetterClosed`, `RunCancelled`, `EventInvalid` for data that does not fit the event's type.
        """
        letter = await self._aside(self._served_letter, raw_id(letter_id))
        edited = None if data is None else self._edited(letter, data)
        async with self._alone(letter.run_id):
            return await self._again(lambda: self._redriven(letter, who, edited))

    async def discard(self, letter_id: bytes | str, *, who: str = "python") -> None:
        """Let a dead letter go; of a blocked compensation it says that it is settled. Raises as `redrive` does."""
        letter = await self._aside(self._open_letter, raw_id(letter_id))
        async with self._alone(letter.run_id):
            await self._again(lambda: self._discarded(letter, who))

    async def redrive_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = "python") -> Redriven:
        """Run all of these dead letters again, at most the newest `limit`, the oldest of them first: keys keep their order."""
        return await self._each(wanted, limit, lambda letter: self.redrive(letter.letter_id, who=who))

    async def discard_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = "python") -> Redriven:
        """Let all of these dead letters go, at most the newest `limit`.

        A blocked compensation is not among them, unless `wanted` names its step: to discard it says that it is settled.
        """

        async def let_go(letter: DeadLetter) -> None:
            if letter.blocked and wanted.step is None:
                raise not_in_bulk(letter.step)
            await self.discard(letter.letter_id, who=who)

        return await self._each(wanted, limit, let_go)

    def breakers(self) -> list[BreakerView]:
        """The circuit breakers of all steps and dependencies, by name; none before the engine has read its log."""
        if not hasattr(self, "_partition"):
            return []
        return self._partition.decider.breakers(self._clock.now_us())

    async def force_breaker(
        self, name: str, *, opens: bool, seconds: float | None = None, who: str = "python"
    ) -> BreakerView:
        """Open a breaker (for `seconds`, at most a year, or until it is closed), or close it.

        Raises `BreakerUnknown`, or `EnsueError` for a time that is none.
        """
        check_open_seconds(seconds)
        await self._tell(lambda reply: Force(name, opens, who, seconds, reply))
        found = next((view for view in self.breakers() if view.name == name), None)
        if found is None:
            raise BreakerUnknown(f"no breaker is named {name!r}")
        return found

    async def _each(self, wanted: DeadFilter, limit: int | None, decide: Callable[[DeadLetter], Any]) -> Redriven:
        letters: list[DeadLetter] = await self._aside(all_letters, self._reader, wanted, limit)
        refused: list[tuple[str, str]] = []
        for letter in sorted(letters, key=_age):
            try:
                await decide(letter)
            except (LogUnavailable, Overloaded):
                raise
            except EnsueError as error:  # one that cannot be decided holds up no other
                refused.append((format_id(letter.letter_id), str(error)))
        return Redriven(len(letters) - len(refused), refused)

    def _open_letter(self, raw: bytes) -> DeadLetter:
        letter = self._reader.dead_letter(raw)
        if letter is None:
            raise LetterUnknown(f"no dead letter has the id {format_id(raw)}")
        if letter.state != LetterState.OPEN:
            raise LetterClosed(f"dead letter {format_id(raw)} is settled already: it was {letter.state}")
        return letter

    def _served_letter(self, raw: bytes) -> DeadLetter:
        letter = self._open_letter(raw)
        if letter.pipeline not in self.pipelines:
            raise LetterUnknown(
                f"dead letter {format_id(raw)} is of pipeline {letter.pipeline}, which is not served here"
            )
        return letter

    async def _redriven(self, letter: DeadLetter, who: str, edited: ReplacementEvent | None) -> RunHandle:
        entry = await self._decision(letter, who)
        if edited is not None:
            records = chain.from_iterable(entry.entries)
            entry.edited = keyed(edited, replaced(records, letter.delivery, letter.event_id))
        return await self._revive(letter.run_id, entry)

    async def _discarded(self, letter: DeadLetter, who: str) -> None:
        entry = await self._decision(letter, who)
        entry.discard = True
        await self._tell(lambda reply: _with_reply(entry, reply))

    async def _decision(self, letter: DeadLetter, who: str) -> Redrive:
        """What the log says now; somebody else may have decided since the letter was read."""
        await self._aside(self._open_letter, letter.letter_id)
        entry: Redrive = await self._aside(redrive_input, self._reader, letter)
        entry.who = who
        return entry

    async def _again(self, decide: Callable[[], Awaitable[T]]) -> T:
        """Decide; where the run ended between our reading and the decision, once more on what the log says now."""
        for _ in range(_TRIES - 1):
            try:
                return await decide()
            except RunFinished:
                await asyncio.sleep(_TRY_SECONDS)
        return await decide()

    def _edited(self, letter: DeadLetter, data: Mapping[str, Any]) -> ReplacementEvent:
        pipeline = self.pipelines[letter.pipeline]
        step = pipeline.steps.get(letter.step)
        if step is not None and not step.is_single:
            raise takes_several(letter.step)
        return instead(pipeline.registry[letter.event_type], data, self._ids.next())

    async def _revive(self, raw: bytes, entry: Revive | Redrive) -> RunHandle:
        known = self._handles.get(raw)
        handle = known if known is not None and not known.is_over else self._make_handle(raw)
        self._handles[raw] = handle
        await self._tell(lambda reply: _with_reply(entry, reply))
        return handle

    async def _tell(self, make: Callable[[asyncio.Future[None]], Input]) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._post_waiting(make(future), future)
        await future

    def _alone(self, raw: bytes) -> "_Alone":
        return _Alone(self._deciding, raw)


class _Turn:
    """A lock, and how many hold it or wait for it."""

    __slots__ = ("lock", "wanted")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0


class _Alone:
    """One decision about a run at a time."""

    def __init__(self, turns: dict[bytes, _Turn], raw: bytes) -> None:
        self._turns = turns
        self._raw = raw
        self._turn = turns.setdefault(raw, _Turn())
        self._turn.wanted += 1

    async def __aenter__(self) -> None:
        try:
            await self._turn.lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._turn.lock.release()
        self._leave()

    def _leave(self) -> None:
        self._turn.wanted -= 1
        if not self._turn.wanted:
            self._turns.pop(self._raw, None)


def raw_id(text: bytes | str) -> bytes:
    """The bytes of an id. `EnsueError` where the text is none."""
    return text if isinstance(text, bytes) else parse_id(text)


def _age(letter: DeadLetter) -> tuple[int, int]:
    """The place of what died among all events: events of one key are handled in this order."""
    return letter.run, letter.delivery


def _with_reply(entry: Revive | Redrive, reply: Any) -> Revive | Redrive:
    entry.reply = reply
    return entry
