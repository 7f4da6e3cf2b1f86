"""Ids: a UUIDv7 (RFC 9562) for what comes from outside, a derived id for what a step emits.

Rules: an id is 16 bytes inside ensue and the usual 36 characters outside. The time and the random bytes are arguments.
A derived id is the same whenever the same step emits the same index from the same input, so a step that runs twice
emits once.
"""

from hashlib import blake2b

from .errors import EnsueError, EventInvalid

__all__ = ["LONGEST_ID", "check_id", "derived_id", "format_id", "idempotency_key", "parse_id", "time_ms_of", "uuid7"]

LONGEST_ID = 200
_VERSIONED = [bytes((0x70 | byte & 0x0F,)) for byte in range(256)]
_VARIED = [bytes((0x80 | byte & 0x3F,)) for byte in range(256)]


def uuid7(time_ms: int, randomness: bytes) -> bytes:
    """The UUIDv7 of a time in milliseconds since the epoch and ten random bytes."""
    return _stamp(time_ms.to_bytes(6, "big"), randomness)


def derived_id(cause: bytes, step: str, index: int) -> bytes:
    """The id of the event that `step` emits at `index` when it receives `cause`; its time is that of the cause."""
    digest = blake2b(b"%b%b\x00%d" % (cause, step.encode(), index), digest_size=10).digest()
    return _stamp(cause[:6], digest)


def idempotency_key(run_id: bytes, step: str, inputs: bytes) -> str:
    """The key that all attempts of one delivery share: 32 hexadecimal digits."""
    return blake2b(b"%b%b\x00%b" % (run_id, step.encode(), inputs), digest_size=16).hexdigest()


def _stamp(time_bytes: bytes, rest: bytes) -> bytes:
    return time_bytes + _VERSIONED[rest[0]] + rest[1:2] + _VARIED[rest[2]] + rest[3:10]


def time_ms_of(identifier: bytes) -> int:
    """The time in a UUIDv7, in milliseconds since the epoch."""
    return int.from_bytes(identifier[:6], "big")


def format_id(identifier: bytes) -> str:
    """The 36-character text of an id."""
    h = identifier.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def parse_id(text: str) -> bytes:
    """The bytes of an id in its text form.

    Raises: `EnsueError` if the text is not an id.
    """
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        raw = b""
    if len(raw) != 16 or format_id(raw) != text.lower():  # noqa: PLR2004 - a UUID is 16 bytes
        msg = f"{text[:60]!a} is not an id: expected 36 characters such as 01890a5d-ac96-774b-bcce-b302099a8057"
        raise EnsueError(msg)
    return raw


def check_id(value: str, field: str, longest: int = LONGEST_ID) -> str:
    """Check an id from a sender: it must be printable, not blank, and at most `longest` characters.

    Raises: `EventInvalid` if it is not.
    """
    if not value.strip() or len(value) > longest or not value.isprintable():
        problem = {"field": field, "expected": f"1 to {longest} printable characters, not blank", "got": value[:60]}
        raise EventInvalid(f"{field} is no usable id: {problem['expected']}.", [problem])
    return value
