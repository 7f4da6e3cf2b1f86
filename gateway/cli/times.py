"""Times on the command line: how long, and since when.

Rules: a length is a number and its unit; a moment is how long ago, or RFC 3339 (without an offset it is local time).
"""

import re
from datetime import UTC, datetime, timedelta

from .exit_codes import WrongUse

__all__ = ["age", "ago", "moment_of", "seconds_of"]

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST_SECONDS = 100 * 366 * 86_400.0


def seconds_of(text: str, option: str) -> float:
    """The seconds that a length stands for. Raises `WrongUse`."""
    match = _LENGTH.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise WrongUse(f"{option} {text[:40]!r} is no length of time: write 90s, 10m, 2h or 7d")
    return seconds


def moment_of(text: str, option: str) -> datetime:
    """The moment that a text stands for, in UTC. Raises `WrongUse`."""
    if _LENGTH.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(seconds=seconds_of(text, option))
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongUse(f"{option} {text[:40]!r} is no time: write 2h (ago), or 2026-05-04T09:00Z") from None


def age(moment: datetime) -> str:
    """How long it has been, as people say it."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {word}"
    return f"{max(0, seconds):.0f} s"


def ago(moment: datetime) -> str:
    """The same, as a moment."""
    return f"{age(moment)} ago"
