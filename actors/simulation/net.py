"""Network: the network of a simulation: it carries packed bytes, which arrive late, twice, out of order or never.

Rules: without faults a lane keeps its order, as a socket does; the time that a message takes is drawn for each.
"""

from collections.abc import Callable
from typing import Any

from .faults import Dice
from .loop import VirtualLoop

__all__ = ["Network"]

_LEAST_SECONDS = 0.0002
_MEAN_SECONDS = 0.0005
_DELAYED_SECONDS = (0.005, 0.5, 6.0)
_GAP_SECONDS = 1e-6


class Network:
    """All lanes. Any hashable value names a lane."""

    def __init__(self, loop: VirtualLoop, dice: Dice) -> None:
        self._loop = loop
        self._dice = dice
        self._last: dict[Any, float] = {}
        self._random = dice.stream("network")
        self._slow_random = dice.stream("slow network")

    def later(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Carry something that is never lost, in no order."""
        self._loop.call_later(self._seconds(), callback, *arguments)

    def carry(self, lane: Any, about: str, arrive: Callable[[bytes], None], message: bytes) -> None:
        """Carry a message over a lane, subject to faults."""
        now = self._loop.time()
        at = max(now + self._seconds(), self._last.get(lane, 0.0) + _GAP_SECONDS)
        if self._happens("lost", about):
            return
        if self._happens("reordered", about):
            at += self._delay_seconds()
        elif self._happens("delayed", about):
            at += self._delay_seconds()
            self._last[lane] = at
        else:
            self._last[lane] = at
        self._loop.call_at(at, arrive, message)
        if self._happens("doubled", about):
            self._loop.call_at(at + self._delay_seconds(), arrive, message)

    def _happens(self, kind: str, about: str) -> bool:
        return self._dice.happens(kind, self._loop.time(), about)

    def _seconds(self) -> float:
        return _LEAST_SECONDS + self._random.expovariate(1 / _MEAN_SECONDS)

    def _delay_seconds(self) -> float:
        """A delay between what a message usually takes and more than any timeout for an answer."""
        return self._slow_random.choice(_DELAYED_SECONDS) * self._slow_random.expovariate(1.0)
