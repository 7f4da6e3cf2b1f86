"""Exit reasons: what Ray reports of the end of a worker, in one sentence that helps."""

__all__ = ["first_line", "how_it_ended", "is_orderly"]

_ORDERLY = "INTENDED_USER_EXIT"
_ENDS = (
    ("memory monitor", "its node ran out of memory, and Ray ended it: give the step `memory=`, or its node more"),
    ("OOM", "its node ran out of memory, and Ray ended it: give the step `memory=`, or its node more"),
    (_ORDERLY, "it ended itself"),
    ("connection error code", "its process was gone at once: killed, out of memory, or a crash in native code"),
    ("node has died", "its node is gone"),
)
"""Phrases in Ray's reports, and what they mean; the first that is found counts."""


def how_it_ended(error: BaseException) -> str:
    """Why a worker ended."""
    text = str(error).partition("Some common causes")[0]
    return next((meaning for phrase, meaning in _ENDS if phrase in text), "") or first_line(error)


def is_orderly(error: BaseException) -> bool:
    """Whether it ended by itself and in order."""
    return _ORDERLY in str(error)


def first_line(error: BaseException) -> str:
    """The line of an error that names it: the last one, as in a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
