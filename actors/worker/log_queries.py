"""Asking: what a step asks of the log while it runs, and what it is told; both ends of a question.

Rules: whoever is asked takes no harm. What cannot be read, or not be said in one message, is refused with the reason,
and that is raised in the step that asked: as `CodecError` where asking again is in vain, else as `LogUnavailable`.
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
    """The message that answers a question [number, run id, type], whatever becomes of it."""
    number, run_id, type_ = question
    try:
        return _sendable(pack([int(Tag.ANSWER), [number, earlier_events(reader, plans, run_id, type_)]]))
    except Exception as error:
        logger.exception("a step's question for earlier events of type %s was refused", type_)
        why = f"earlier events of type {type_} cannot be read: {error}".encode(errors="backslashreplace").decode()
        return pack([int(Tag.ANSWER), [number, None, why, isinstance(error, CodecError)]])


def _sendable(message: bytes) -> bytes:
    if len(message) > MAX_MESSAGE_BYTES:
        raise CodecError(f"they have {len(message):,} bytes, over the limit of {MAX_MESSAGE_BYTES:,}")
    return message


class Questions:
    """The questions of one worker that are open; any thread may ask."""

    def __init__(self, say: Callable[[Tag, Any], None]) -> None:
        self._say = say
        self._numbers = itertools.count(1)
        self._open: dict[int, queue.SimpleQueue[list[Any]]] = {}

    def ask(self, run_id: bytes, type_: str) -> list[Any]:
        """The events of a type in a run so far: [version, data] each. Raises what the module says, or `TimeoutError`."""
        number = next(self._numbers)
        reply = self._open[number] = queue.SimpleQueue()
        try:
            self._say(Tag.ASK, [number, run_id, type_])
            told = reply.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            raise TimeoutError(f"the log did not answer within {_ANSWER_SECONDS:g} s") from None
        finally:
            del self._open[number]
        if told[0] is None:
            _, why, in_vain = told
            raise (CodecError if in_vain else LogUnavailable)(why)
        events: list[Any] = told[0]
        return events

    def answered(self, body: list[Any]) -> None:
        """An answer has come, perhaps too late."""
        reply = self._open.get(body[0])
        if reply is not None:
            reply.put(body[1:])
