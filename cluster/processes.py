"""Processes of this machine: identify one, kill it, and see that it is gone.

Rules: a pid alone identifies nothing, because the system reuses it; a handle is a pid and the time that its process
began. A zombie is gone: it runs nothing.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "NO_PROCESS",
    "ProcessHandle",
    "ProcessWatcher",
    "handle_of",
    "is_gone",
    "kill",
    "wait_until_gone",
]

_POLL_SECONDS = 0.005
_WATCH_SECONDS = 0.25


class ProcessHandle(NamedTuple):
    """A process: its pid, and when it began in the system's ticks (empty if the system does not tell)."""

    pid: int
    began: str = ""


NO_PROCESS = ProcessHandle(0)


def handle_of(pid: int) -> ProcessHandle:
    """The handle of a process that runs now."""
    return ProcessHandle(pid, _stat(pid)[1])


def is_gone(process: ProcessHandle) -> bool:
    """Whether this process has ended."""
    if sys.platform != "linux":
        return not _exists(process.pid)
    state, began = _stat(process.pid)
    return state in ("", "Z", "X") or (began != "" and process.began not in ("", began))


def kill(process: ProcessHandle) -> None:
    """Send SIGKILL to this process if it still runs. Does not wait: `is_gone` tells when it has ended."""
    if process.pid <= 0 or is_gone(process):
        return
    with suppress(ProcessLookupError, PermissionError):  # it ended meanwhile, or the pid is another user's by now
        os.kill(process.pid, signal.SIGKILL)


def wait_until_gone(processes: Iterable[ProcessHandle], timeout_seconds: float) -> bool:
    """Wait until all of these have ended; False if one has not in time."""
    left = list(processes)
    deadline = time.monotonic() + timeout_seconds
    while left := [process for process in left if not is_gone(process)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


class ProcessWatcher:
    """Sleeps until a watched process ends, somebody calls `wake`, or the timeout is over.

    Rules: one thread watches and waits; any thread may call `wake`. Linux tells of an exit through a pidfd, so that a
    watched process costs nothing while it runs; without pidfds the processes are looked at every 0.25 s.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._wake_reader, self._wake_writer = os.pipe()
        for end in (self._wake_reader, self._wake_writer):
            os.set_blocking(end, False)
        self._poll.register(self._wake_reader, select.POLLIN)
        self._by_pidfd: dict[int, Callable[[], None]] = {}
        self._polled: list[tuple[ProcessHandle, Callable[[], None]]] = []

    def watch(self, process: ProcessHandle, ended: Callable[[], None]) -> None:
        """Have `wait` call `ended` once this process has ended, or if it has ended already."""
        pidfd = _open_pidfd(process.pid)
        if pidfd is None or is_gone(process):
            if pidfd is not None:
                os.close(pidfd)
            self._polled.append((process, ended))
            return
        self._poll.register(pidfd, select.POLLIN)
        self._by_pidfd[pidfd] = ended

    def wake(self) -> None:
        """End the current or the next `wait`."""
        with suppress(BlockingIOError):  # the pipe is full: it is woken in any case
            os.write(self._wake_writer, b"\0")

    def wait(self, timeout_seconds: float) -> None:
        """Sleep, and call what `watch` was given for each process that has ended."""
        if self._polled:
            timeout_seconds = 0.0 if any(is_gone(p) for p, _ in self._polled) else min(timeout_seconds, _WATCH_SECONDS)
        for descriptor, _ in self._poll.poll(timeout_seconds * 1000.0):
            if descriptor == self._wake_reader:
                with suppress(BlockingIOError):
                    os.read(self._wake_reader, 65536)
            else:
                self._close(descriptor)()
        self._look_at_polled()

    def _close(self, pidfd: int) -> Callable[[], None]:
        self._poll.unregister(pidfd)
        os.close(pidfd)
        return self._by_pidfd.pop(pidfd)

    def _look_at_polled(self) -> None:
        ended = [each for each in self._polled if is_gone(each[0])]
        for each in ended:
            self._polled.remove(each)
            each[1]()


def _open_pidfd(pid: int) -> int | None:
    """None if this system has no pidfds, or there is no such process."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _stat(pid: int) -> tuple[str, str]:
    """(state, start time) of a process; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    except OSError:  # out of file descriptors, for example: that says nothing about the process
        return "?", ""
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")  # noqa: PLR2004 - proc(5) counts fields


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
