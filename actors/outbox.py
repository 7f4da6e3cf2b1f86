"""Outbox: what a worker has to say, gathered until the lane's thread takes it; the first to speak rings the bell."""

from collections.abc import Callable
from typing import Any

from ..events.codec import MAX_MESSAGE_BYTES, pack
from ..events.inputs import Completion
from .wire import Tag

__all__ = ["Outbox"]

MAX_BATCH = 512
_MOST_BYTES = MAX_MESSAGE_BYTES // 2


class Outbox:
    """Completions and other messages, from any thread to the lane's."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._completions: list[Completion] = []
        self._others: list[bytes] = []
        self._rung = False

    def add(self, completion: Completion) -> None:
        """Say what became of a delivery."""
        self._completions.append(completion)
        if not self._rung:
            self._rung = True
            self._ring()

    def say(self, tag: Tag, body: Any) -> None:
        """Say something else."""
        self._others.append(pack([int(tag), body]))
        if not self._rung:
            self._rung = True
            self._ring()

    def take(self) -> list[bytes]:
        """Everything said so far, as messages; only the lane's thread calls this."""
        self._rung = False
        others, self._others = self._others, []
        completions, self._completions = self._completions, []
        for start in range(0, len(completions), MAX_BATCH):
            others += _pack(completions[start : start + MAX_BATCH])
        return others


def _pack(completions: list[Completion]) -> list[bytes]:
    """One message, or several where one would be too large to be read."""
    message = pack([int(Tag.COMPLETIONS), completions])
    if len(message) <= _MOST_BYTES or len(completions) == 1:
        return [message]
    half = len(completions) // 2
    return _pack(completions[:half]) + _pack(completions[half:])
