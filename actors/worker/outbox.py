"""Outbox: what a worker has to say, gathered from its threads until it is sent.

Rules: a thread with nothing else to do sends what is there (`flush`), which spares a switch of threads an event; a
thread that goes on working rings instead, and the lane's thread sends. One thread at a time takes and sends, so what a
thread said first arrives first.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ...events.decide.inputs import Completion, CompletionKind
from ...events.model.codec import MAX_MESSAGE_BYTES, pack
from ...events.model.failure import FailureKind
from ..transport.messages import Tag

__all__ = ["Outbox"]

MAX_BATCH = 512
_MAX_BYTES = MAX_MESSAGE_BYTES // 2


class Outbox:
    """Completions and other messages, from any thread.

    ring: wakes the lane's thread.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self.send: Callable[[list[bytes]], None] | None = None
        """Sends messages from any thread; None if only the lane's thread can."""
        self.on_taken: Callable[[list[Completion]], None] | None = None
        """Is told of the completions that are taken, before anything later can be taken."""
        self._ring = ring
        self._completions: deque[Completion] = deque()
        self._others: deque[bytes] = deque()
        self._rung = False
        self._lock = threading.Lock()

    @property
    def is_waiting(self) -> bool:
        """Whether something was said and not taken yet."""
        return bool(self._completions or self._others)

    def put(self, completion: Completion) -> None:
        """Say what became of a delivery; the caller rings or flushes."""
        self._completions.append(completion)

    def add(self, completion: Completion) -> None:
        """Say what became of a delivery, and ring."""
        self._completions.append(completion)
        self.ring()

    def say(self, tag: Tag, body: Any) -> None:
        """Say something else, and ring."""
        self._others.append(pack([int(tag), body]))
        self.ring()

    def ring(self) -> None:
        """Have the lane's thread send what is there, soon."""
        if not self._rung:
            self._rung = True
            self._ring()

    def flush(self) -> bool:
        """Send what is there now, or ring if this thread cannot send; whether something was sent."""
        send = self.send
        if send is None:
            self.ring()
            return False
        with self._lock:
            messages = self.take()
            if messages:
                send(messages)
        return bool(messages)

    def take(self) -> list[bytes]:
        """Everything said so far, as messages; for one thread at a time."""
        self._rung = False
        messages = [self._others.popleft() for _ in range(len(self._others))]
        completions = [self._completions.popleft() for _ in range(len(self._completions))]
        if completions and self.on_taken is not None:
            self.on_taken(completions)
        for start in range(0, len(completions), MAX_BATCH):
            messages += _pack(completions[start : start + MAX_BATCH])
        return messages


def _pack(completions: list[Completion]) -> list[bytes]:
    """One message, or several if one would be too large to be read."""
    message = pack([int(Tag.COMPLETIONS), completions])
    if len(message) <= _MAX_BYTES:
        return [message]
    if len(completions) == 1:
        return [message if len(message) <= MAX_MESSAGE_BYTES else _refusal(completions[0], len(message))]
    half = len(completions) // 2
    return _pack(completions[:half]) + _pack(completions[half:])


def _refusal(completion: Completion, size: int) -> bytes:
    """The failure in the place of a completion that nobody could read: it would be lost, and its step called again."""
    text = (
        f"the result has {size:,} bytes with the names and keys of its events, over the limit of {MAX_MESSAGE_BYTES:,}"
    )
    advice = "yield the events instead of returning a list"
    failed = [
        CompletionKind.FAIL,
        completion[1],
        FailureKind.PERMANENT,
        "CodecError",
        f"{text}: {advice}",
        "",
        None,
        False,
    ]
    return pack([int(Tag.COMPLETIONS), [failed]])
