"""Checks of what callers pass: text that can be stored, keys, names of operators.

Rules: what cannot be stored is refused here, before the partition sees it. Each error names the argument.
"""

from ..errors import EnsueError, EventInvalid

__all__ = ["check_bytes", "check_key", "check_text", "check_who", "is_text"]

_MAX_KEY_CHARACTERS = 4 * 1024 * 1024
"""As large as an event: a key may be one of its fields."""
_MAX_NAME_CHARACTERS = 1_000


def is_text(value: object) -> bool:
    """Whether a value is text that UTF-8 can carry; a lone surrogate cannot be stored."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(value: object, name: str, longest: int = _MAX_NAME_CHARACTERS) -> None:
    """Check text that is stored with an event.

    Raises: `EventInvalid` if it is not text, too long, or has lone surrogates.
    """
    problem = _problem(value, longest)
    if problem:
        raise EventInvalid(f"{name} {problem}", [{"field": name, "expected": "text", "got": ascii(value)[:60]}])


def check_key(key: object) -> None:
    """Check the key of an event. Raises as `check_text` does."""
    if key is not None:
        check_text(key, "key", _MAX_KEY_CHARACTERS)


def check_bytes(value: object, name: str) -> None:
    """Check bytes that are stored with an event. Raises `EventInvalid` if they are not bytes."""
    if not isinstance(value, bytes):
        raise EventInvalid(f"{name} is {type(value).__name__}: pass bytes")


def check_who(who: object) -> None:
    """Check the name of an operator.

    Raises: `EnsueError` if it is not text, too long, or has lone surrogates.
    """
    problem = _problem(who, _MAX_NAME_CHARACTERS)
    if problem:
        raise EnsueError(f"who {problem}; it names the operator in the audit")


def _problem(value: object, longest: int) -> str:
    if not isinstance(value, str):
        return f"is {type(value).__name__}: pass text"
    if len(value) > longest:
        return f"has {len(value):,} characters, over the limit of {longest:,}"
    if not is_text(value):
        return f"has lone surrogates ({ascii(value)[:60]}), which cannot be stored: pass text that UTF-8 can carry"
    return ""
