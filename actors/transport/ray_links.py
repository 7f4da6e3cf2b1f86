"""Links under Ray: the socket for workers on this node, Ray calls for workers on others, and the crew to end them."""

import time
from collections import deque
from collections.abc import Callable

from ...events.model.codec import pack
from .messages import Tag
from .ray_lane import RemoteLane
from .zmq_lane import PartitionSocket

__all__ = ["RayLinks"]

_COMPLETIONS = pack([int(Tag.COMPLETIONS), None])[:2]


class RayLinks:
    """How a partition reaches its workers under Ray. `end` is given by the crew, which knows the processes."""

    def __init__(self, folder: str = "") -> None:
        self.socket = PartitionSocket(folder)
        self.heard: dict[int, float] = {}
        self.listened = time.monotonic()
        self.ender: Callable[[int, str], None] | None = None
        self.worked_first: Callable[[int], None] | None = None
        self._worked: set[int] = set()
        self._next: PartitionSocket | None = None
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._remote: dict[int, RemoteLane] = {}
        self._inbox: deque[tuple[int, bytes]] = deque()

    def send(self, worker: int, message: bytes) -> None:
        """Pass a message on to a worker."""
        lane = self._remote.get(worker)
        if lane is None:
            self.socket.send(worker, message)
        else:
            lane.send(message)

    def send_soon(self, worker: int, message: bytes) -> None:
        """As `send`, from any thread: a socket belongs to one."""
        self._outgoing.append((worker, message))
        self.socket.wake()

    @property
    def address(self) -> str:
        """Where workers on this node reach the partition."""
        return (self._next or self.socket).address

    def receive(self) -> list[tuple[int, bytes]]:
        """What workers have sent since the last call."""
        if self._next is not None:
            self._move()
        while self._outgoing:
            self.send(*self._outgoing.popleft())
        messages = self.socket.receive()
        while self._inbox:
            messages.append(self._inbox.popleft())
        now = self.listened = time.monotonic()
        for worker, message in messages:
            self.heard[worker] = now
            if worker not in self._worked and message.startswith(_COMPLETIONS):
                self._note_work(worker)
        return messages

    def move(self, folder: str) -> None:
        """Listen in another folder from now on: that of the old one is gone, and all workers with it; from any thread."""
        self._next = PartitionSocket(folder)
        self.socket.wake()

    def _move(self) -> None:
        old, self.socket, self._next = self.socket, self._next or self.socket, None
        if old is not self.socket:
            old.close()

    def _note_work(self, worker: int) -> None:
        self._worked.add(worker)
        if self.worked_first is not None:
            self.worked_first(worker)

    def end(self, worker: int, reason: str) -> None:
        """End a worker's process for certain."""
        if self.ender is not None:
            self.ender(worker, reason)

    def wait(self, timeout_seconds: float | None) -> None:
        """Sleep until something has come."""
        if not self._inbox:
            self.socket.wait(timeout_seconds)

    def wake(self) -> None:
        """End a `wait`; may be called from any thread."""
        self.socket.wake()

    def add_remote(self, worker: int, lane: RemoteLane) -> None:
        """Reach a worker by Ray calls."""
        self._remote[worker] = lane

    def take_remote(self, worker: int, message: bytes) -> None:
        """A message of a worker on another node; from any thread."""
        self._inbox.append((worker, message))
        self.socket.wake()

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        self.heard.pop(worker, None)
        self._worked.discard(worker)
        lane = self._remote.pop(worker, None)
        if lane is not None:
            lane.close()

    def close(self) -> None:
        """Close every lane."""
        for lane in self._remote.values():
            lane.close()
        self.socket.close()
