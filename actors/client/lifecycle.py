"""Lifecycle: the state that an engine is in, and whether it takes events.

Rules: any thread may read it. An engine that failed is ready again if its partition recovers; one that
drains never fails.
"""

import asyncio
from enum import StrEnum

from ...events.errors import EnsueError, Overloaded

__all__ = ["Lifecycle", "Phase"]

_RETRY_AFTER_SECONDS = 2.0


class Phase(StrEnum):
    """Where an engine is between its start and its end."""

    NEW = "new"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class Lifecycle:
    """The phase of one engine, with the reason of a failure and of a recovery."""

    def __init__(self) -> None:
        self.phase = Phase.NEW
        self.recovering = ""
        """What a ready engine recovers from; empty if all is well."""
        self._failure = ""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop of the callers; None before the first start."""

    def callers_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that this is called in.

        Raises: `EnsueError` if the engine was never started, or if its callers are in another event loop.
        """
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            raise _not_here(started=self.loop is not None)
        return loop

    def fail(self, error: Exception) -> None:
        """The engine cannot work, temporarily or permanently; an engine that drains stays draining."""
        if self.phase is not Phase.DRAINING:
            self._failure = str(error)
            self.phase = Phase.FAILED

    def recover(self) -> None:
        """The failure is over."""
        if self.phase is Phase.FAILED:
            self.phase = Phase.READY

    def check_takes_events(self) -> None:
        """Raises `Overloaded` if the engine takes no events now."""
        phase = self.phase
        if phase is not Phase.READY and phase is not Phase.STARTING:
            raise Overloaded(f"the engine is {self}: send it again", retry_after_seconds=_RETRY_AFTER_SECONDS)

    def __str__(self) -> str:
        """The phase; after `failed: ` and `recovering: ` comes the reason."""
        if self.phase is Phase.FAILED:
            return f"failed: {self._failure}"
        if self.phase is Phase.READY and self.recovering:
            return f"recovering: {self.recovering}"
        return str(self.phase)


def _not_here(*, started: bool) -> EnsueError:
    if not started:
        return EnsueError(
            "the engine has not been started: write `async with Engine(...) as engine`, or await engine.start()"
        )
    return EnsueError(
        "this engine was started in another event loop, and nothing was done: call it there, from elsewhere with "
        "asyncio.run_coroutine_threadsafe(engine.emit(...), loop)"
    )
