"""The lane on one node: ZeroMQ over a socket file in a folder that only this user can enter.

Rules: one ROUTER for the partition, one DEALER for each worker, named by its number. A message to a worker that is
gone is dropped; Ray reports its death, and the partition leases its deliveries to another.
"""

import math
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

__all__ = ["PartitionSocket", "WorkerSocket"]

_NO_LIMIT_MS = -1
_MAX_SECONDS = 3_600.0
"""A longer wait is cut to this, and the caller waits again: ZeroMQ counts milliseconds in 32 bits."""
_MAX_FOLDER_CHARACTERS = 95


class _Bell:
    """A file descriptor that a thread can ring to end another's poll.

    Once it is closed the system gives its numbers to other files, so a late ring must not write to them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        with self._lock, suppress(BlockingIOError):  # the pipe is full of rings already
            if not self._closed:
                os.write(self._write, b"\0")

    def clear(self) -> None:
        with self._lock, suppress(BlockingIOError):
            if not self._closed:
                os.read(self._read, 65536)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._write)
                os.close(self._read)


class PartitionSocket:
    """The partition's end: talks to all workers on this node.

    parent: a folder that its owner removes even after `kill -9` (an embedded Ray's); by default the temporary one.
    """

    def __init__(self, parent: str = "") -> None:
        self._folder = _make_folder(parent)
        self.address = f"ipc://{self._folder}/lane"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.bind(self.address)
        self._bell = _Bell()
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._bell.fileno(), zmq.POLLIN)

    def send(self, worker: int, message: bytes) -> None:
        """Send a message to a worker."""
        self._socket.send_multipart((_name(worker), message))

    def receive(self) -> list[tuple[int, bytes]]:
        """Everything that has come, without waiting."""
        messages: list[tuple[int, bytes]] = []
        receive: Any = self._socket.recv_multipart
        while True:
            try:
                name, message = receive(zmq.NOBLOCK)
            except zmq.Again:
                return messages
            messages.append((int.from_bytes(name[1:], "big"), message))

    def wait(self, timeout_seconds: float | None) -> None:
        """Sleep until something has come, the bell rings, or the time is up."""
        wait_ms = _NO_LIMIT_MS if timeout_seconds is None else math.ceil(min(timeout_seconds, _MAX_SECONDS) * 1000)
        events = self._poller.poll(wait_ms)
        if any(source == self._bell.fileno() for source, _ in events):
            self._bell.clear()

    def wake(self) -> None:
        """End a `wait`, from any thread."""
        self._bell.ring()

    def close(self) -> None:
        """Close the socket and remove its folder."""
        self._socket.close()
        self._context.term()
        self._bell.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class WorkerSocket:
    """A worker's end: one socket to receive, and one to send from whichever thread has something to say."""

    def __init__(self, address: str, worker: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.IDENTITY, _name(worker))
        self._socket.connect(address)
        self._sender = self._context.socket(zmq.DEALER)
        self._sender.setsockopt(zmq.LINGER, 1000)
        self._sender.setsockopt(zmq.SNDHWM, 0)
        self._sender.setsockopt(zmq.IDENTITY, _name(worker, b"v"))
        self._sender.connect(address)
        self._bell = _Bell()
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._bell.fileno(), zmq.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.close()
        self._socket.close()
        self._context.term()
        self._bell.close()

    def greet(self, message: bytes) -> None:
        """Send the first message over the socket that answers come to, so that the partition knows that socket."""
        self._socket.send(message)

    def send(self, messages: list[bytes]) -> None:
        """Send messages to the partition, from one thread at a time."""
        for message in messages:
            self._sender.send(message)

    def ring(self) -> None:
        """End a `receive`, from any thread."""
        self._bell.ring()

    def receive(self, timeout_seconds: float) -> list[bytes]:
        """Wait for messages; the empty list if the bell rang or the time is up."""
        messages: list[bytes] = []
        for source, _ in self._poller.poll(math.ceil(timeout_seconds * 1000)):
            if source == self._bell.fileno():
                self._bell.clear()
            else:
                self._drain(messages)
        return messages

    def _drain(self, messages: list[bytes]) -> None:
        receive: Any = self._socket.recv
        while True:
            try:
                messages.append(receive(zmq.NOBLOCK))
            except zmq.Again:
                return


def _make_folder(parent: str) -> Path:
    """A new 0700 folder whose path is short enough for a socket (sun_path holds 107 characters on Linux)."""
    folder = Path(tempfile.mkdtemp(prefix="lane-", dir=parent or None))
    if len(str(folder)) > _MAX_FOLDER_CHARACTERS:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="ensue-lane-", dir="/tmp"))
    return folder


def _name(worker: int, kind: bytes = b"w") -> bytes:
    return kind + worker.to_bytes(4, "big")
