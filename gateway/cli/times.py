"""Times on the command line: durations and points in time, parsed and printed.

Rules: a duration is a number with a unit. A point in time is a duration before now, or RFC 3339 (local time if it has
no offset).
"""

import re
from datetime import UTC, datetime, timedelta

from .exit_codes import WrongUse

__all__ = ["age", "ago", "moment_of", "seconds_of"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_SECONDS = 100 * 366 * 86_400.0


def seconds_of(text: str, option: str) -> float:
    """The seconds of a duration. Raises `WrongUse`."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise WrongUse(f"invalid {option} {text[:40]!r}: write a duration such as 90s, 10m, 2h or 7d")
    return seconds


def moment_of(text: str, option: str) -> datetime:
    """A point in time, in UTC. Raises `WrongUse`."""
    if _DURATION.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(seconds=seconds_of(text, option))
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUse(
            f"invalid {option} {text[:40]!r}: write a duration such as 2h (ago), or a time such as 2026-05-04T09:00Z"
        ) from None


def age(moment: datetime) -> str:
    """The time since a moment, for people."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {word}"
    return f"{max(0, seconds):.0f} s"


def ago(moment: datetime) -> str:
    """The time since a moment, followed by `ago`."""
    return f"{age(moment)} ago"
