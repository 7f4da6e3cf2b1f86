"""The messages between a partition and its workers: msgpack, a tag and a body.

Rules: a lane may lose, double, delay or reorder a message. A token names an attempt; a message about an attempt that is
over changes nothing.

    to a worker      DELIVER items (dispatch.item_of)   CREDIT [token, upto]   CANCEL tokens   STOP
                     ANSWER [id, events]; if it is refused, [id, nil, reason, whether to ask again is useless]
                     RECALL tokens: hand back those that have not begun
                     INQUIRE tokens: which of these, leased to it some time ago, does the worker not have?
    from a worker    HELLO   COMPLETIONS (inputs.CompletionKind)   PROGRESS [token, done, total]   LOG [...]
                     ASK [id, run id, type]   ALIVE
                     MISSING tokens: those of an inquiry that never came; from now on the worker refuses them
"""

from enum import IntEnum
from typing import Any

from ...events.errors import CodecError
from ...events.model.codec import unpack

__all__ = ["Tag", "unpack_message"]


class Tag(IntEnum):
    """What a message is about."""

    DELIVER = 1
    CREDIT = 2
    CANCEL = 3
    STOP = 4
    ANSWER = 5
    INQUIRE = 6
    RECALL = 7
    HELLO = 10
    COMPLETIONS = 11
    PROGRESS = 12
    LOG = 13
    ASK = 14
    ALIVE = 15
    MISSING = 16


def unpack_message(message: bytes) -> tuple[int, Any]:
    """The tag and the body of a message. Raises `CodecError` if it is not one."""
    value: Any = unpack(message)
    match value:
        case [int(tag), body]:
            return tag, body
        case _:
            raise CodecError("a message is a pair of tag and body")
