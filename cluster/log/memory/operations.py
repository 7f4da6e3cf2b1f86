"""The part of a memory store for operators: facts, dead letters and the audit.

Rules: it behaves as `sqlite/operations.py` does. The caller holds the lock of the store.
"""

from dataclasses import dataclass, field

from ....events.errors import LogCorrupt
from ..protocol import AuditRow, Batch, DeadFilter, DeadLetter, Fact

__all__ = ["MemoryOperations"]

_EQUAL = ("pipeline", "step", "kind", "error", "event_type", "run_id", "state")


@dataclass(slots=True)
class MemoryOperations:
    """Facts by (kind, name), dead letters by id, audit rows in the order of the commits."""

    facts: dict[tuple[str, str], Fact] = field(default_factory=dict[tuple[str, str], Fact])
    dead: dict[bytes, DeadLetter] = field(default_factory=dict[bytes, DeadLetter])
    audit: list[AuditRow] = field(default_factory=list[AuditRow])

    def check(self, batch: Batch) -> None:
        """Raises LogCorrupt when the batch settles a letter that neither is there nor comes with it."""
        unknown = {letter.letter_id for letter in batch.settled} - self.dead.keys()
        if unknown - {letter.letter_id for letter in batch.dead}:
            raise LogCorrupt("The batch was refused: it settles a dead letter that is not there.")

    def write(self, batch: Batch) -> None:
        """Take over what a checked batch brings."""
        for fact in batch.facts:
            self._remember(fact)
        self.dead.update((letter.letter_id, letter) for letter in batch.dead)
        for letter_id, state in batch.settled:
            self.dead[letter_id] = self.dead[letter_id]._replace(state=state)
        self.audit.extend(batch.audit)

    def facts_of(self, kind: str) -> list[Fact]:
        """All facts of a kind, by name."""
        return sorted(fact for fact in self.facts.values() if fact.kind == kind)

    def page(self, wanted: DeadFilter, after: bytes | None, limit: int) -> list[DeadLetter]:
        """One page of the dead letters that a filter wants, newest first."""
        found = sorted((letter for letter in self.dead.values() if _is_wanted(letter, wanted)), key=_age, reverse=True)
        if after is not None:
            last = self.dead.get(after)
            found = [] if last is None else [letter for letter in found if _age(letter) < _age(last)]
        return found[: max(limit, 0)]

    def depth(self) -> dict[tuple[str, str], tuple[int, int]]:
        """By (pipeline, step): how many letters are open, and the time of the oldest."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for letter in self.dead.values():
            if letter.state == "open":
                count, oldest_us = found.get((letter.pipeline, letter.step), (0, letter.time_us))
                found[letter.pipeline, letter.step] = (count + 1, min(oldest_us, letter.time_us))
        return found

    def newest_audit(self, subject: str | None, limit: int) -> list[AuditRow]:
        """The newest audit rows first."""
        rows = [row for row in reversed(self.audit) if subject in (None, row.subject)]
        return rows[: max(limit, 0)]

    def _remember(self, fact: Fact) -> None:
        if fact.body is None:
            self.facts.pop((fact.kind, fact.name), None)
        else:
            self.facts[fact.kind, fact.name] = fact


def _age(letter: DeadLetter) -> tuple[int, bytes]:
    return letter.time_us, letter.letter_id


def _is_wanted(letter: DeadLetter, wanted: DeadFilter) -> bool:
    return (
        all(getattr(wanted, name) in (None, getattr(letter, name)) for name in _EQUAL)
        and (wanted.before_us is None or letter.time_us < wanted.before_us)
        and (wanted.after_us is None or letter.time_us >= wanted.after_us)
    )
