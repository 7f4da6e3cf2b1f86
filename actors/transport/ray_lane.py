"""RemoteLane: the lane between nodes: Ray calls, which bring their own authentication.

Rules: messages to a worker are gathered while an earlier call is under way. A call carries less than about 90 kB if it
can: above 100 kB Ray takes the detour through its object store. Messages of a worker are fetched by one waiting call. A
lost call loses messages, never the truth: the death of the worker brings its deliveries back.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ...events.model.codec import pack
from .messages import Tag, unpack_message

__all__ = ["RemoteLane"]

_CALL_BYTES = 90_000
_CALLS_UNDER_WAY = 4
_WAIT_SECONDS = 2.0


class RemoteLane:
    """The lane to one worker on another node.

    receive: is called with each message, from Ray's threads.
    on_lost: is called if a call failed: what it carried may have arrived or not, so the worker has to be killed.
    """

    def __init__(self, actor: Any, receive: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._actor = actor
        self._receive = receive
        self._on_lost = on_lost
        self._waiting: deque[bytes] = deque()
        self._under_way = 0
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Start to fetch messages."""
        self._collect()

    def send(self, message: bytes) -> None:
        """Send a message; a large batch of deliveries is split."""
        with self._lock:
            self._waiting.extend(_split(message))
        self._push()

    def close(self) -> None:
        """Fetch no more."""
        self._closed = True

    def _push(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._under_way >= _CALLS_UNDER_WAY or self._closed:
                    return
                self._under_way += 1
                message = self._waiting.popleft()
            self._actor.deliver.remote(message).future().add_done_callback(self._sent)

    def _sent(self, outcome: Any) -> None:
        with self._lock:
            self._under_way -= 1
        if outcome.exception() is not None and not self._closed:
            self._on_lost()
        self._push()

    def _collect(self) -> None:
        self._actor.collect.remote(_WAIT_SECONDS).future().add_done_callback(self._collected)

    def _collected(self, outcome: Any) -> None:
        if self._closed or outcome.exception() is not None:
            return  # the worker's death is reported by its own reference
        for message in outcome.result():
            self._receive(message)
        self._collect()


def _split(message: bytes) -> list[bytes]:
    if len(message) <= _CALL_BYTES:
        return [message]
    tag, items = unpack_message(message)
    if tag != Tag.DELIVER or len(items) == 1:
        return [message]
    half = len(items) // 2
    return [part for items_ in (items[:half], items[half:]) for part in _split(pack([int(tag), items_]))]
