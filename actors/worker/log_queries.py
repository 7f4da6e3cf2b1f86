"""Log queries: a running step asks for earlier events of its run; both ends of the question.

Rules: a question never fails the engine. If the events cannot be read, or do not fit into one message, the answer is
the reason, and it is raised in the step that asked: as `CodecError` if asking again is useless, else as
`LogUnavailable`.
"""

import itertools
import logging
import queue
from collections.abc import Callable, Mapping
from typing import Any

from ...cluster.log.protocol import Reader
from ...events.errors import CodecError, LogUnavailable
from ...events.model.codec import MAX_MESSAGE_BYTES, pack
from ...events.pipelines.plan import Plan
from ..client.run_queries import earlier_events
from ..transport.messages import Tag

__all__ = ["Questions", "answer"]

logger = logging.getLogger("ensue")
_ANSWER_SECONDS = 30.0


def answer(reader: Reader, plans: Mapping[str, Plan], question: list[Any]) -> bytes:
    """The message that answers a question [number, run id, type]: the events, or why there are none."""
    number, run_id, type_ = question
    try:
        return _sendable(pack([int(Tag.ANSWER), [number, earlier_events(reader, plans, run_id, type_)]]))
    except Exception as error:
        logger.exception("a step's query for earlier events of type %s was refused", type_)
        reason = f"earlier events of type {type_} cannot be read: {error}".encode(errors="backslashreplace").decode()
        return pack([int(Tag.ANSWER), [number, None, reason, isinstance(error, CodecError)]])


def _sendable(message: bytes) -> bytes:
    if len(message) > MAX_MESSAGE_BYTES:
        raise CodecError(f"they have {len(message):,} bytes, over the limit of {MAX_MESSAGE_BYTES:,}")
    return message


class Questions:
    """The open questions of one worker; any thread may ask."""

    def __init__(self, say: Callable[[Tag, Any], None]) -> None:
        self._say = say
        self._numbers = itertools.count(1)
        self._open: dict[int, queue.SimpleQueue[list[Any]]] = {}

    def ask(self, run_id: bytes, type_: str) -> list[Any]:
        """The events of a type in a run so far: [version, data] each.

        Raises `CodecError`, `LogUnavailable`, `TimeoutError`.
        """
        number = next(self._numbers)
        reply = self._open[number] = queue.SimpleQueue()
        try:
            self._say(Tag.ASK, [number, run_id, type_])
            answer_ = reply.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"the log did not answer within {_ANSWER_SECONDS:g} s") from None
        finally:
            del self._open[number]
        if answer_[0] is None:
            _, reason, is_final = answer_
            raise (CodecError if is_final else LogUnavailable)(reason)
        events: list[Any] = answer_[0]
        return events

    def take_answer(self, body: list[Any]) -> None:
        """Take an answer; one that comes too late is ignored."""
        reply = self._open.get(body[0])
        if reply is not None:
            reply.put(body[1:])
