"""Faults and Dice: what goes wrong in a simulation and how often, and the random numbers that decide.

Rules: every draw comes from the seed. Each purpose has a stream of its own, and the n-th decision of a kind is the same
whatever the other kinds did. So a fault can be switched off by its name (`lost#12`), and the rest stays.
"""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

__all__ = ["Dice", "Fault", "Faults"]

_KEPT_KINDS = 0.7
"""The share of the kinds that one seed has: seeds with few kinds find what seeds with all of them hide."""
_EARLY = 0.5


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, until `lasting_seconds` of virtual time are over; then everything has to end.

    Of a commit: crash_before_commit (nothing was written), crash_after_commit (written, and nothing carried out).
    Of a message between partition and worker: lost, doubled, delayed, reordered (later ones overtake it).
    Of an attempt: worker_death (the process dies at some moment), slow, hung (it does not end before its timeout).
    Of an answer to a sender: unanswered (the sender hears nothing, and sends again). Of a send: resent.
    Of a start of the partition: full (it takes few runs at a time).
    Per virtual second: crash (of the partition at any moment), takeover (another partition takes the log while the
    old one stands still), clock_jump (of the wall clock, hours on or seconds back).
    Also per virtual second: cancelled and retried (an operator decides on a run), redriven (on a dead letter). These
    are off by default, since they change how runs end.

    Each seed leaves out some kinds, so that the others can show what they do alone; `all_kinds` leaves out none.
    """

    crash_before_commit: float = 0.008
    crash_after_commit: float = 0.008
    lost: float = 0.02
    doubled: float = 0.03
    delayed: float = 0.03
    reordered: float = 0.03
    worker_death: float = 0.015
    slow: float = 0.03
    hung: float = 0.005
    unanswered: float = 0.05
    resent: float = 0.1
    full: float = 0.2
    crash: float = 0.03
    takeover: float = 0.02
    clock_jump: float = 0.05
    cancelled: float = 0.0
    retried: float = 0.0
    redriven: float = 0.0
    lasting_seconds: float = 30.0
    all_kinds: bool = False

    @classmethod
    def none(cls) -> Self:
        """Nothing goes wrong."""
        rates: Any = dict.fromkeys(cls.kinds(), 0.0)
        return cls(**rates)

    @classmethod
    def kinds(cls) -> tuple[str, ...]:
        """The names of what can go wrong."""
        return tuple(f.name for f in fields(cls) if f.name not in {"lasting_seconds", "all_kinds"})

    def __repr__(self) -> str:
        """What differs from the default, as Python."""
        if all(getattr(self, kind) == 0 for kind in self.kinds()):
            return "Faults.none()"
        changed = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Faults({', '.join(changed)})"


class Fault(NamedTuple):
    """A fault that happened."""

    name: str
    """`kind#n`."""
    at: float
    """Virtual seconds."""
    about: str
    """What it hit."""


class Dice:
    """All randomness of one simulation.

    keep: the names of the faults that may happen, or None for all.
    """

    def __init__(self, seed: int, faults: Faults, keep: Collection[str] | None) -> None:
        self.seed = seed
        self.is_over = False
        self.happened: list[Fault] = []
        self._keep = None if keep is None else frozenset(keep)
        self._streams: dict[str, random.Random] = {}
        self._asked: Counter[str] = Counter()
        self._rates = {kind: self._rate(faults, kind) for kind in faults.kinds()}

    def stream(self, purpose: str) -> random.Random:
        """The random numbers of one purpose."""
        found = self._streams.get(purpose)
        if found is None:
            found = self._streams[purpose] = random.Random(f"{self.seed}/{purpose}")  # noqa: S311 - seeded on purpose
        return found

    def happens(self, kind: str, at: float, about: str) -> bool:
        """Whether a fault happens here."""
        if self.is_over:
            return False
        self._asked[kind] += 1
        rate = self._rates[kind]
        drawn = rate > 0 and self.stream(kind).random() < rate
        return drawn and self.strike(f"{kind}#{self._asked[kind]}", at, about)

    def strike(self, name: str, at: float, about: str) -> bool:
        """Let a fault that was drawn happen, unless it is switched off."""
        if self.is_over or (self._keep is not None and name not in self._keep):
            return False
        self.happened.append(Fault(name, at, about))
        return True

    def times(self, kind: str, until_seconds: float, lively_seconds: float) -> list[tuple[str, float]]:
        """When faults of a kind with a rate per second are due: (name, virtual seconds).

        Half of them fall into the time at the beginning, when most of the traffic is.
        """
        random = self.stream(kind)
        rate = self._rates[kind]
        found: list[tuple[str, float]] = []
        at = random.expovariate(rate) if rate else until_seconds
        while at < until_seconds:
            is_early = random.random() < _EARLY
            found.append((f"{kind}#{len(found) + 1}", at * lively_seconds / until_seconds if is_early else at))
            at += random.expovariate(rate)
        return found

    def _rate(self, faults: Faults, kind: str) -> float:
        rate: float = getattr(faults, kind)
        is_kept = self.stream(f"has {kind}").random() < _KEPT_KINDS
        return rate if is_kept or faults.all_kinds else 0.0
