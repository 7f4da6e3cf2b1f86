"""OwnedLog: the log of an engine while the engine owns it.

Rules: every commit names the epoch, so an owner that another engine has replaced commits nothing.
"""

from collections.abc import Callable

from ...cluster.log.protocol import Log, Reader
from ...events.errors import EnsueError

__all__ = ["OwnedLog"]


class OwnedLog:
    """The log, the epoch of its owner, and a reader for the owner's own questions."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.epoch = 0
        self._log: Log | None = None
        self._reader: Reader | None = None

    @property
    def log(self) -> Log:
        """The log itself. Raises `EnsueError` before the engine was started."""
        if self._log is None:
            raise EnsueError(f"the engine has not been started: {self.store} is not open")
        return self._log

    @log.setter
    def log(self, log: Log) -> None:
        self._log = log

    @property
    def reader(self) -> Reader:
        """The engine's own reader. Raises `EnsueError` before the log was taken over."""
        if self._reader is None:
            raise EnsueError(f"the engine has not been started: {self.store} is not open")
        return self._reader

    def take_over(self, owner: str, define: Callable[[Log], None]) -> None:
        """Become the owner; `define` writes the pipelines that are served."""
        self.epoch = self.log.acquire(owner)
        define(self.log)
        self._reader = self.log.reader()
