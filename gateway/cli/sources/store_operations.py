"""The operations of an operator on a store without an engine.

Rules: reading does not disturb the engine that uses the store. Discarding a dead letter and forcing a breaker are
written to the store, under its lock and in an epoch of their own; the recorded owner is kept, so that the next engine
still learns if the last engine crashed. Redriving, settling a compensation and restarting a pipeline need the code of
the pipelines and are refused.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from ....cluster.log.open import open_log, open_reader
from ....cluster.log.protocol import AuditRow, Batch, DeadFilter, DeadLetter, Fact, LetterSettled, Log
from ....events.errors import BreakerUnknown, EnsueError, LetterClosed, PipelineInvalid
from ....events.ids import format_id, parse_id
from ....events.pipelines.graph import Graph, StepNode
from ....events.policies.breaker import BreakerSignal, BreakerState, BreakerView
from ...api.dead_letter_detail import find_letter, letter_detail
from ...schemas.dead_letters import DecidedOut, LetterDetailOut, LettersOut, RefusedOut, dead_filter
from ...schemas.pipelines import RestartedOut
from ...schemas.status import BreakerOut, BreakersOut, StatusOut
from ..exit_codes import WrongUse
from ..store_lock import hold, holder
from .connection import user_name
from .dead_letter_filter import DeadLetterFilter

__all__ = ["StoreOperations"]

_PAGE = 500
_BREAKER = "breaker"


class StoreOperations:
    """The operations on a store."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._reader = open_reader(store)

    def dead(self, filters: DeadLetterFilter, state: str, cursor: str | None, limit: int) -> LettersOut:
        wanted = _filter(filters, state)
        after = None if cursor is None else _cursor(cursor)
        return LettersOut.page(self._reader.dead(wanted, after=after, limit=limit + 1), limit)

    def letter(self, letter_id: str) -> LetterDetailOut:
        return letter_detail(self._reader, find_letter(self._reader, letter_id))

    def redrive(self, letter_id: str, data: Any) -> str:
        del data
        raise self._refused("redriving", f"ensue dead redrive {letter_id}")

    def discard(self, letter_id: str) -> None:
        letter = find_letter(self._reader, letter_id)
        if letter.state != "open":
            raise LetterClosed(f"dead letter {letter_id} is {letter.state} already")
        if letter.blocked:
            raise self._refused("settling a compensation", f"ensue dead discard {letter_id}")
        with _exclusive(self._store, f"ensue dead discard {letter_id}") as change:
            change.discard([letter])

    def decide_all(self, action: str, filters: DeadLetterFilter, limit: int | None) -> DecidedOut:
        if action != "discard":
            raise self._refused("redriving", "the same command without --store")
        letters = self._all(_filter(filters, "open"), limit)
        free = [letter for letter in letters if not letter.blocked]
        with _exclusive(self._store, "ensue dead discard") as change:
            change.discard(free)
        reason = "it is a compensation: start the engine to settle it"
        blocked = [RefusedOut(id=format_id(one.letter_id), reason=reason) for one in letters if one.blocked]
        return DecidedOut(decided=len(free), refused=blocked)

    def breakers(self) -> BreakersOut:
        return BreakersOut(breakers=[BreakerOut.of(view) for view in self._breaker_views()])

    def force(self, name: str, *, opens: bool, seconds: float | None) -> BreakerOut:
        known = {view.name for view in self._breaker_views()} | self._defined()
        if name not in known:
            raise BreakerUnknown(f"there is no breaker {name[:100]!r} in this store; known breakers: {_some(known)}")
        with _exclusive(self._store, f"ensue breaker {'open' if opens else 'close'}") as change:
            view = change.force(name, opens=opens, seconds=seconds)
        return BreakerOut.of(view)

    def status(self) -> StatusOut:
        owner = holder(self._store)
        state = "not running" if owner is None else f"in use by {owner}"
        return StatusOut.of(state, None, None, self._breaker_views(), self._reader)

    def restart(self, pipeline: str) -> RestartedOut:
        raise self._refused("restarting a pipeline", f"ensue pipelines restart {pipeline}")

    def close(self) -> None:
        self._reader.close()

    def _breaker_views(self) -> list[BreakerView]:
        now_us = time.time_ns() // 1000
        return [_breaker_state(fact).view((), 0, now_us) for fact in self._reader.facts(_BREAKER)]

    def _defined(self) -> set[str]:
        newest = {definition.pipeline: definition for definition in self._reader.definitions()}
        return {name for one in newest.values() for name in _breaker_names(one.pipeline, one.definition)}

    def _all(self, wanted: DeadFilter, limit: int | None) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        while limit is None or len(letters) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(letters))
            page = self._reader.dead(wanted, after=letters[-1].letter_id if letters else None, limit=size)
            if not page:
                break
            letters += page
        return letters

    def _refused(self, what: str, then: str) -> WrongUse:
        serve = f"ensue serve TARGET --store {self._store}"
        return WrongUse(f"{what} needs the code of the pipelines: start an engine ({serve}), then: {then}")


class _StoreSession(NamedTuple):
    """A store whose lock and epoch this process holds."""

    log: Log
    epoch: int
    who: str

    def discard(self, letters: Sequence[DeadLetter]) -> None:
        """Discard dead letters, each with its audit row in the same commit."""
        now_us = time.time_ns() // 1000
        for start in range(0, len(letters), _PAGE):
            page = letters[start : start + _PAGE]
            settled = [LetterSettled(letter.letter_id, "discarded") for letter in page]
            audit = [AuditRow(now_us, self.who, "letter discard", format_id(letter.letter_id), "") for letter in page]
            self.log.commit(Batch(self.epoch, settled=settled, audit=audit))

    def force(self, name: str, *, opens: bool, seconds: float | None) -> BreakerView:
        """Force a breaker open or closed; the next engine restores this state."""
        now_us = time.time_ns() // 1000
        stored = [fact for fact in self.log.facts(_BREAKER) if fact.name == name]
        breaker = _breaker_state(stored[0]) if stored else BreakerState(name, None)
        breaker.move(BreakerSignal.FORCED_OPEN if opens else BreakerSignal.FORCED_CLOSED, now_us, seconds=seconds)
        breaker.reason = f"opened by {self.who}" if opens else ""
        detail = "" if seconds is None else f"for {seconds:g} s"
        audit = AuditRow(now_us, self.who, "breaker open" if opens else "breaker close", name, detail)
        self.log.commit(Batch(self.epoch, facts=[Fact(_BREAKER, name, breaker.pack(), now_us)], audit=[audit]))
        return breaker.view((), 0, now_us)


@contextmanager
def _exclusive(store: str, what: str) -> Generator[_StoreSession]:
    with hold(store, f"`{what}`"):
        log = open_log(store)
        try:
            before = log.owner()[1]
            epoch = log.acquire(before or what)
            yield _StoreSession(log, epoch, f"cli {user_name()}")
            if not before:
                log.release(epoch)
        finally:
            log.close()


def _breaker_state(fact: Fact) -> BreakerState:
    breaker = BreakerState(fact.name, None)
    if fact.body is not None:
        breaker.restore(fact.body)
    return breaker


def _breaker_names(pipeline: str, definition: bytes) -> list[str]:
    """The breakers of the steps of a pipeline: that of a named dependency, or the step's own."""
    try:
        nodes = Graph.from_json(definition).nodes
    except PipelineInvalid:
        return []
    steps = [node for node in nodes if isinstance(node, StepNode)]
    return [node.breaker or f"{pipeline}/{node.id.removeprefix('step:')}" for node in steps]


def _filter(filters: DeadLetterFilter, state: str) -> DeadFilter:
    times = {name: datetime.fromisoformat(filters[name]) for name in ("before", "after") if name in filters}
    plain: dict[str, Any] = {name: value for name, value in filters.items() if name not in times}
    try:
        return dead_filter(**plain, **times, state=state)  # type: ignore[arg-type]  # one of the closed set
    except EnsueError as error:
        raise WrongUse(f"--run: {error}") from None


def _cursor(text: str) -> bytes:
    try:
        return parse_id(text)
    except EnsueError:
        raise WrongUse(f"invalid --cursor {text[:60]!r}: pass next_cursor from the previous page") from None


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:20]) or "none"
