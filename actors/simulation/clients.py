"""Clients: the senders of a simulation, which emit events until each is acknowledged.

Rules: a sender without an answer sends again under the same id, as a webhook's sender does. What it sends may be lost,
and so may the answer.
"""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Protocol

from ...cluster.clock import Clock, IdSource
from ...events.decide.inputs import Accepted, Input
from ...events.errors import EnsueError, Overloaded
from ...events.model.codec import encode
from ...events.model.event import Event
from ..client.admission import EngineAdmission
from .faults import Dice
from .history import Acknowledged, History, Surprise
from .loop import VirtualLoop
from .net import Network

__all__ = ["ClientPlace", "Clients", "SimIds"]

_SOURCE = "simulation"
_SENDING_SECONDS = (0.01, 0.5, 2.0, 10.0)
"""All at once, or one after another: each seed draws the time over which senders begin."""
_AFTER_SECONDS = 2.0
_ANSWER_TIMEOUT_SECONDS = 2.0
_SECOND_SEND_SECONDS = 0.02


class SimIds(IdSource):
    """Ids whose randomness is the seed's."""

    def __init__(self, clock: Clock, dice: Dice) -> None:
        super().__init__(clock)
        self._random = dice.stream("ids")

    def at(self, time_ms: int) -> bytes:
        self._pool = self._random.randbytes(10)
        self._at = 0
        return super().at(time_ms)


class ClientPlace(Protocol):
    """The simulated world as a sender sees it."""

    loop: VirtualLoop
    dice: Dice
    network: Network
    history: History

    def post(self, entry: Input) -> bool:
        """Tell the owner of the log something; False if there is none."""
        ...

    def maybe_over(self) -> None:
        """See whether there is anything left to wait for."""
        ...


class Clients:
    """All senders. `waiting` are the events without an acknowledgement."""

    def __init__(
        self, place: ClientPlace, admission: EngineAdmission, pipeline: str, events: Sequence[tuple[int, Event]]
    ) -> None:
        self._place = place
        self._admission = admission
        self._pipeline = pipeline
        self._events = dict(events)
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self.waiting = set(self._events)
        self.runs: dict[int, bytes] = {}

    def start(self, lasting_seconds: float) -> float:
        """Start each sender at a drawn moment; returns how long most of the traffic lasts, in seconds."""
        dice, loop = self._place.dice, self._place.loop
        sending = min(dice.stream("sending").choice(_SENDING_SECONDS), lasting_seconds)
        lively = min(sending + _AFTER_SECONDS, lasting_seconds)
        for number in self._events:
            loop.call_at(dice.stream(f"sender {number}").random() * sending, self._send, number)
        return lively

    def answer(self, number: int, value: Accepted | EnsueError | None) -> None:
        """An answer is on its way to the sender of an event."""
        if not self._place.dice.happens("unanswered", self._place.loop.time(), f"event {number}"):
            self._place.network.later(self._answered, number, value)

    def send_stale(self, post: Any) -> None:
        """A gateway that does not know of a new owner sends an event to the old one."""
        for number in sorted(self.waiting or self._events)[:1]:
            post(self._emit(number))

    def _send(self, number: int) -> None:
        self._timers.pop(number, None)
        if number not in self.waiting:
            return
        loop, random = self._place.loop, self._place.dice.stream(f"sender {number}")
        self._place.network.later(self._place.post, self._emit(number))
        if self._place.dice.happens("resent", loop.time(), f"event {number}"):
            again = random.expovariate(1 / _SECOND_SEND_SECONDS)
            loop.call_later(again, self._place.network.later, self._place.post, self._emit(number))
        self._send_later(number, _ANSWER_TIMEOUT_SECONDS * (1 + random.random()))

    def _send_later(self, number: int, seconds: float) -> None:
        earlier = self._timers.pop(number, None)
        if earlier is not None:
            earlier.cancel()
        self._timers[number] = self._place.loop.call_later(seconds, self._send, number)

    def _emit(self, number: int) -> Input:
        event = self._events[number]
        digest = blake2b(encode(event), digest_size=16).digest()
        return self._admission.emit(
            event,
            self._pipeline,
            source=_SOURCE,
            sender_id=f"event-{number}",
            digest=digest,
            reply=number,
        )

    def _answered(self, number: int, value: Accepted | EnsueError | None) -> None:
        at = self._place.loop.time()
        if isinstance(value, Accepted):
            self._place.history.observations.append(Acknowledged(at, number, *value))
            self.runs[number] = value.run_id
            self.waiting.discard(number)
            self._place.maybe_over()
        elif isinstance(value, Overloaded):
            if number in self.waiting:
                self._send_later(number, value.retry_after_seconds)
        else:
            text = f"event {number} was refused: {value}"
            self._place.history.observations.append(Surprise(at, "no loss", text))
