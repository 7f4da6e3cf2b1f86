"""Links under Ray: the socket for workers on this node, Ray calls for workers on others, and the crew to end them."""

import time
from collections import deque
from collections.abc import Callable

from .ray_lane import RemoteLane
from .zmq_lane import PartitionSocket

__all__ = ["RayLinks"]


class RayLinks:
    """How a partition reaches its workers under Ray. `end` is given by the crew, which knows the processes."""

    def __init__(self, folder: str = "") -> None:
        self.socket = PartitionSocket(folder)
        self.heard: dict[int, float] = {}
        self.listened = time.monotonic()
        self.ender: Callable[[int, str], None] | None = None
        self._remote: dict[int, RemoteLane] = {}
        self._inbox: deque[tuple[int, bytes]] = deque()

    def send(self, worker: int, message: bytes) -> None:
        """Pass a message on to a worker."""
        lane = self._remote.get(worker)
        if lane is None:
            self.socket.send(worker, message)
        else:
            lane.send(message)

    def receive(self) -> list[tuple[int, bytes]]:
        """What workers have sent since the last call."""
        messages = self.socket.receive()
        while self._inbox:
            messages.append(self._inbox.popleft())
        now = self.listened = time.monotonic()
        for worker, _ in messages:
            self.heard[worker] = now
        return messages

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
        lane = self._remote.pop(worker, None)
        if lane is not None:
            lane.close()

    def close(self) -> None:
        """Close every lane."""
        for lane in self._remote.values():
            lane.close()
        self.socket.close()
