"""What an operator reads in a store, and what can be decided there while no engine is at work on it.

1. Reading takes nothing from whoever owns the store.
2. To let a letter go, or to force a breaker, is written in the store itself: under its lock, in an epoch of its own.
   The name of the last owner stays as it was, so that the next engine still learns that one ended out of order.
3. To run a letter again, to settle a compensation or to restart a pipeline takes the pipelines' code: refused, with
   what to do.
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
from ...api.dead_letter_detail import find_letter, letter_past
from ...schemas.dead_letters import DecidedOut, LetterDetailOut, LettersOut, RefusedOut, dead_filter
from ...schemas.pipelines import RestartedOut
from ...schemas.status import BreakerOut, BreakersOut, StatusOut
from ..exit_codes import WrongUse
from ..store_lock import hold, holder
from .connection import user
from .dead_letter_filter import DeadLetterFilter

__all__ = ["StoreOperations"]

_PAGE = 500
_BREAKER = "breaker"


class StoreOperations:
    """A store, without an engine."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._reader = open_reader(store)

    def dead(self, words: DeadLetterFilter, state: str, cursor: str | None, limit: int) -> LettersOut:
        wanted = _filter(words, state)
        after = None if cursor is None else _cursor(cursor)
        return LettersOut.page(self._reader.dead(wanted, after=after, limit=limit + 1), limit)

    def letter(self, letter_id: str) -> LetterDetailOut:
        return letter_past(self._reader, find_letter(self._reader, letter_id))

    def redrive(self, letter_id: str, data: Any) -> str:
        del data
        raise self._refused("to redrive", f"ensue dead redrive {letter_id}")

    def discard(self, letter_id: str) -> None:
        letter = find_letter(self._reader, letter_id)
        if letter.state != "open":
            raise LetterClosed(f"dead letter {letter_id} is {letter.state} already")
        if letter.blocked:
            raise self._refused("to settle a compensation", f"ensue dead discard {letter_id}")
        with _changing(self._store, f"ensue dead discard {letter_id}") as change:
            change.discard([letter])

    def decide_all(self, action: str, words: DeadLetterFilter, limit: int | None) -> DecidedOut:
        if action != "discard":
            raise self._refused("to redrive", "the same without --store")
        letters = self._all(_filter(words, "open"), limit)
        free = [letter for letter in letters if not letter.blocked]
        with _changing(self._store, "ensue dead discard") as change:
            change.discard(free)
        why = "it is a compensation: start the engine to settle it"
        blocked = [RefusedOut(id=format_id(one.letter_id), reason=why) for one in letters if one.blocked]
        return DecidedOut(decided=len(free), refused=blocked)

    def breakers(self) -> BreakersOut:
        return BreakersOut(breakers=[BreakerOut.of(view) for view in self._circuits()])

    def force(self, name: str, *, opens: bool, seconds: float | None) -> BreakerOut:
        known = {view.name for view in self._circuits()} | self._defined()
        if name not in known:
            raise BreakerUnknown(f"no breaker of this store is called {name[:100]!r}; there are: {_some(known)}")
        with _changing(self._store, f"ensue breaker {'open' if opens else 'close'}") as change:
            view = change.force(name, opens=opens, seconds=seconds)
        return BreakerOut.of(view)

    def status(self) -> StatusOut:
        held = holder(self._store)
        state = "not running" if held is None else f"in use by {held}"
        return StatusOut.of(state, None, None, self._circuits(), self._reader)

    def restart(self, pipeline: str) -> RestartedOut:
        raise self._refused("to restart a pipeline", f"ensue pipelines restart {pipeline}")

    def close(self) -> None:
        self._reader.close()

    def _circuits(self) -> list[BreakerView]:
        now_us = time.time_ns() // 1000
        return [_circuit(fact).view((), 0, now_us) for fact in self._reader.facts(_BREAKER)]

    def _defined(self) -> set[str]:
        newest = {definition.pipeline: definition for definition in self._reader.definitions()}
        return {name for one in newest.values() for name in _breaker_names(one.pipeline, one.definition)}

    def _all(self, wanted: DeadFilter, limit: int | None) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        while limit is None or len(found) < limit:
            most = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self._reader.dead(wanted, after=found[-1].letter_id if found else None, limit=most)
            if not page:
                break
            found += page
        return found

    def _refused(self, what: str, then: str) -> WrongUse:
        serve = f"ensue serve TARGET --store {self._store}"
        return WrongUse(f"{what} takes the pipelines' code: start the engine ({serve}), then: {then}")


class _Change(NamedTuple):
    """A store that is ours for the moment."""

    log: Log
    epoch: int
    who: str

    def discard(self, letters: Sequence[DeadLetter]) -> None:
        """Settle letters; with each its row of the audit."""
        now_us = time.time_ns() // 1000
        for start in range(0, len(letters), _PAGE):
            page = letters[start : start + _PAGE]
            settled = [LetterSettled(letter.letter_id, "discarded") for letter in page]
            audit = [AuditRow(now_us, self.who, "letter discard", format_id(letter.letter_id), "") for letter in page]
            self.log.commit(Batch(self.epoch, settled=settled, audit=audit))

    def force(self, name: str, *, opens: bool, seconds: float | None) -> BreakerView:
        """Force a breaker; the next engine finds it so."""
        now_us = time.time_ns() // 1000
        stored = [fact for fact in self.log.facts(_BREAKER) if fact.name == name]
        circuit = _circuit(stored[0]) if stored else BreakerState(name, None)
        circuit.move(BreakerSignal.FORCED_OPEN if opens else BreakerSignal.FORCED_CLOSED, now_us, seconds=seconds)
        circuit.reason = f"opened by {self.who}" if opens else ""
        detail = "" if seconds is None else f"for {seconds:g} s"
        audit = AuditRow(now_us, self.who, "breaker open" if opens else "breaker close", name, detail)
        self.log.commit(Batch(self.epoch, facts=[Fact(_BREAKER, name, circuit.pack(), now_us)], audit=[audit]))
        return circuit.view((), 0, now_us)


@contextmanager
def _changing(store: str, what: str) -> Generator[_Change]:
    with hold(store, f"`{what}`"):
        log = open_log(store)
        try:
            before = log.owner()[1]
            epoch = log.acquire(before or what)
            yield _Change(log, epoch, f"cli {user()}")
            if not before:
                log.release(epoch)
        finally:
            log.close()


def _circuit(fact: Fact) -> BreakerState:
    circuit = BreakerState(fact.name, None)
    if fact.body is not None:
        circuit.restore(fact.body)
    return circuit


def _breaker_names(pipeline: str, definition: bytes) -> list[str]:
    """The breakers of a pipeline's steps: that of a dependency that they name, or one of their own."""
    try:
        nodes = Graph.from_json(definition).nodes
    except PipelineInvalid:
        return []
    steps = [node for node in nodes if isinstance(node, StepNode)]
    return [node.breaker or f"{pipeline}/{node.id.removeprefix('step:')}" for node in steps]


def _filter(words: DeadLetterFilter, state: str) -> DeadFilter:
    times = {name: datetime.fromisoformat(words[name]) for name in ("before", "after") if name in words}
    plain: dict[str, Any] = {name: value for name, value in words.items() if name not in times}
    try:
        return dead_filter(**plain, **times, state=state)  # type: ignore[arg-type]  # one of the closed set
    except EnsueError as error:
        raise WrongUse(f"--run: {error}") from None


def _cursor(text: str) -> bytes:
    try:
        return parse_id(text)
    except EnsueError:
        raise WrongUse(f"--cursor {text[:60]!r} is none: use next_cursor of the page before") from None


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:20]) or "none"
