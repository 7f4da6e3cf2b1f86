"""Processes of this machine: to mark one, to end it, and to see that it is gone.

Rules: an id alone names nobody, since the system gives it out again; a mark is an id and when its process began. A
zombie is gone: it runs nothing any more.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["NOBODY", "ProcessMark", "are_gone", "end", "is_gone", "mark_of"]

_LOOK_SECONDS = 0.005


class ProcessMark(NamedTuple):
    """A process: its id, and when it began, in the system's own ticks (empty where the system does not tell)."""

    pid: int
    began: str = ""


NOBODY = ProcessMark(0)


def mark_of(pid: int) -> ProcessMark:
    """The mark of a process that runs now."""
    return ProcessMark(pid, _stat(pid)[1])


def is_gone(mark: ProcessMark) -> bool:
    """Whether this process runs no more."""
    if sys.platform != "linux":
        return not _answers(mark.pid)
    state, began = _stat(mark.pid)
    return state in ("", "Z", "X") or (began != "" and mark.began not in ("", began))


def end(mark: ProcessMark) -> None:
    """Kill this process, where it still runs; who wants to know that it is gone looks again."""
    if mark.pid <= 0 or is_gone(mark):
        return
    try:
        os.kill(mark.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone since, or another user's: then it was never ours
        return


def are_gone(marks: Iterable[ProcessMark], timeout_seconds: float) -> bool:
    """Wait until all of these are gone; False where one is not in time."""
    left = list(marks)
    deadline = time.monotonic() + timeout_seconds
    while left := [mark for mark in left if not is_gone(mark)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _stat(pid: int) -> tuple[str, str]:
    """(state, start time) of a process; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    except OSError:  # no file left to open, for one: that says nothing of it
        return "?", ""
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")  # noqa: PLR2004 - proc(5) counts fields


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
