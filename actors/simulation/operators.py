"""SimOperators: the operators of a simulation: they cancel and retry runs, redrive dead letters, and unblock runs.

Rules: what they do is drawn, except for compensations that gave up: such a run ends only if an operator decides. The
compensation is run again, or settled by hand.
"""

from typing import Any

from ...cluster.log.memory.log import MemoryReader
from ...cluster.log.protocol import DeadLetter
from ...events.decide.inputs import Cancel, Input, Redrive, Revive
from ...events.state.run_status import Status
from ..client.run_queries import redrive_input, revive_input
from .clients import ClientPlace

__all__ = ["SimOperators"]

_WHO = "simulation"
_LEAST_DECISION_SECONDS = 5.0
_MEAN_DECISION_SECONDS = 20.0
_REDRIVES = 0.7


class SimOperators:
    """All operators."""

    def __init__(self, place: ClientPlace) -> None:
        self._place = place
        self._pending: set[bytes] = set()

    def start(self, lasting_seconds: float, lively_seconds: float) -> None:
        """Plan what is done by the clock."""
        for kind, act in (("cancelled", self._cancel), ("retried", self._retry), ("redriven", self._redrive)):
            for name, at in self._place.dice.times(kind, lasting_seconds, lively_seconds):
                self._place.loop.call_at(at, act, name)

    def answered(self, run_id: bytes) -> None:
        """An answer has come, so the run may be decided on again."""
        self._pending.discard(run_id)

    def forget(self) -> None:
        """The owner ended, and with it the decisions that it was asked for."""
        self._pending.clear()

    def letter_blocked(self, letter_id: bytes) -> None:
        """A compensation gave up: decide, some time later."""
        wait = _LEAST_DECISION_SECONDS + self._place.dice.stream("decisions").expovariate(1 / _MEAN_DECISION_SECONDS)
        self._place.loop.call_later(wait, self._decide, letter_id)

    def _decide(self, letter_id: bytes) -> None:
        letter = self._place.history.store.operations.dead[letter_id]
        if letter.state == "open":
            again = self._place.dice.stream("decisions").random() < _REDRIVES
            self._ask(letter.run_id, self._redrive_of(letter, discard=not again))
            self.letter_blocked(letter_id)

    def _cancel(self, name: str) -> None:
        run_id = self._some_run("cancelled", Status.RUNNING, Status.WAITING)
        if run_id is not None and self._strike(name, f"run {run_id.hex()}"):
            self._place.network.later(self._place.post, Cancel(run_id, None, _WHO))

    def _retry(self, name: str) -> None:
        run_id = self._some_run("retried", Status.FAILED, Status.CANCELLED)
        if run_id is not None and self._strike(name, f"run {run_id.hex()}"):
            self._ask(run_id, revive_input(MemoryReader(self._place.history.store), run_id))

    def _redrive(self, name: str) -> None:
        dead = self._place.history.store.operations.dead
        letters = [dead[letter_id] for letter_id in sorted(dead) if dead[letter_id].state == "open"]
        if letters:
            letter = self._place.dice.stream("which redriven").choice(letters)
            if self._strike(name, f"letter {letter.letter_id.hex()} of run {letter.run_id.hex()}"):
                self._ask(letter.run_id, self._redrive_of(letter))

    def _redrive_of(self, letter: DeadLetter, *, discard: bool = False) -> Redrive:
        entry = redrive_input(MemoryReader(self._place.history.store), letter)
        entry.who, entry.discard = _WHO, discard
        return entry

    def _some_run(self, kind: str, *statuses: Status) -> bytes | None:
        runs = [row.run_id for row in sorted(self._place.history.store.runs.values()) if row.status in statuses]
        return self._place.dice.stream(f"which {kind}").choice(runs) if runs else None

    def _strike(self, name: str, about: str) -> bool:
        return self._place.dice.strike(name, self._place.loop.time(), about)

    def _ask(self, run_id: bytes, entry: Revive | Redrive) -> None:
        """Ask for one decision about a run at a time: each begins from the state before it."""
        if run_id not in self._pending:
            self._pending.add(run_id)
            entry.reply = run_id
            self._place.network.later(self._post, entry, run_id)

    def _post(self, entry: Input, run_id: Any) -> None:
        if not self._place.post(entry):
            self._pending.discard(run_id)
