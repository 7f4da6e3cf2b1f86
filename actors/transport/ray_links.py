"""RayLinks: the links to workers under Ray: a socket for those on this node, Ray calls for those on other nodes.

Rules: the socket belongs to the partition's thread; methods for other threads say so. Links kill no process themselves.
"""

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
    """The `Links` of a partition. The worker pool sets the callbacks, since it knows the processes."""

    def __init__(self, folder: str = "") -> None:
        self.socket = PartitionSocket(folder)
        self.last_message_at: dict[int, float] = {}
        """When each worker last sent a message (monotonic seconds)."""
        self.last_receive_at = time.monotonic()
        """When the partition last took messages (monotonic seconds); silence before that does not count."""
        self.kill_worker: Callable[[int, str], None] | None = None
        """Kills the process of a worker, for a reason."""
        self.on_first_completion: Callable[[int], None] | None = None
        """Is told when a worker has got its first work done."""
        self._worked: set[int] = set()
        self._next: PartitionSocket | None = None
        self._outgoing: deque[tuple[int, bytes]] = deque()
        self._remote: dict[int, RemoteLane] = {}
        self._inbox: deque[tuple[int, bytes]] = deque()

    def send(self, worker: int, message: bytes) -> None:
        """Send a message to a worker."""
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
            self._switch_socket()
        while self._outgoing:
            self.send(*self._outgoing.popleft())
        messages = self.socket.receive()
        while self._inbox:
            messages.append(self._inbox.popleft())
        now = self.last_receive_at = time.monotonic()
        for worker, message in messages:
            self.last_message_at[worker] = now
            if worker not in self._worked and message.startswith(_COMPLETIONS):
                self._note_completion(worker)
        return messages

    def move(self, folder: str) -> None:
        """Listen in another folder: the old one is gone, and all workers with it; from any thread."""
        unused, self._next = self._next, PartitionSocket(folder)
        if unused is not None:
            unused.close()
        self.socket.wake()

    def _switch_socket(self) -> None:
        old, self.socket, self._next = self.socket, self._next or self.socket, None
        if old is not self.socket:
            old.close()

    def _note_completion(self, worker: int) -> None:
        self._worked.add(worker)
        if self.on_first_completion is not None:
            self.on_first_completion(worker)

    def kill(self, worker: int, reason: str) -> None:
        """Kill a worker's process."""
        if self.kill_worker is not None:
            self.kill_worker(worker, reason)

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

    def receive_remote(self, worker: int, message: bytes) -> None:
        """A message of a worker on another node; from any thread."""
        self._inbox.append((worker, message))
        self.socket.wake()

    def forget(self, worker: int) -> None:
        """A worker is gone."""
        self.last_message_at.pop(worker, None)
        self._worked.discard(worker)
        lane = self._remote.pop(worker, None)
        if lane is not None:
            lane.close()

    def close(self) -> None:
        """Close every lane."""
        for lane in self._remote.values():
            lane.close()
        for socket in (self.socket, self._next):
            if socket is not None:
                socket.close()
