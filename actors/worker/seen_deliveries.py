"""SeenDeliveries: which deliveries a worker has had, so that none runs twice, and which it still owes an answer.

Rules: a lane may double a delivery, lose it, or bring it late. A delivery whose token was seen is refused. A worker
that is asked for a token that it owes no answer for reports it missing, and refuses it from then on: the partition can
lease the delivery again, and no two attempts of it run. A token is owed from the moment it arrives until its answer is
taken from the outbox, in the outbox's order, so nothing is called missing while it moves from the queue to a thread or
to the outbox.
"""

from collections.abc import Iterable
from typing import Any

from ...events.decide.inputs import Completion, CompletionKind
from .invoke import Item

__all__ = ["SeenDeliveries"]

_REMEMBERED = 32_768
"""At least so many of the last tokens are remembered, and at most twice as many (about 6 MB)."""
_FINAL = frozenset({CompletionKind.DONE, CompletionKind.FAIL, CompletionKind.RELEASE})


class SeenDeliveries:
    """What one worker has had; one thread at a time takes deliveries, any thread may answer."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._recent: set[int] = set()
        self._older: set[int] = set()
        self._owed: set[int] = set()

    def fresh(self, items: list[Item]) -> list[Item]:
        """The deliveries that were not seen before; they are owed from now on."""
        tokens = {item[0] for item in items}
        if len(tokens) != len(items) or not (tokens.isdisjoint(self._recent) and tokens.isdisjoint(self._older)):
            items = self._unseen(items)
            tokens = {item[0] for item in items}
        self._owed.update(tokens)
        self._remember(tokens)
        return items

    def mark_answered(self, completions: list[Completion]) -> None:
        """These completions are being sent: the deliveries that they end are owed no longer."""
        self._owed.difference_update([item[1] for item in completions if item[0] in _FINAL])

    def missing(self, tokens: Iterable[int]) -> list[int]:
        """Those of the tokens that the worker owes no answer for; from now on they are refused."""
        missing = [token for token in tokens if token not in self._owed]
        self._remember(set(missing))
        return missing

    def _unseen(self, items: list[Item]) -> list[Item]:
        unseen: dict[Any, Item] = {}
        for item in items:
            if item[0] not in self._recent and item[0] not in self._older:
                unseen.setdefault(item[0], item)
        return list(unseen.values())

    def _remember(self, tokens: set[int]) -> None:
        self._recent.update(tokens)
        if len(self._recent) >= self._remembered:
            self._older, self._recent = self._recent, set()
