"""ensue.testing: the same engine in one process, without Ray, with a clock that the test turns."""

from .actors.local import LocalEngine, ManualClock

__all__ = ["LocalEngine", "ManualClock"]
