"""Garbage: Python's cycle collector, set so that it does not walk all live runs again and again.

The objects of runs in flight are many and hold no cycles that outlive their run; with Python's default thresholds
(700, 10, 10) collections took 40 % of the partition's time at 2,000 runs in flight (benchmarks/RESULTS.md). What is
loaded at the start is frozen out of the collector's sight. Both are undone at the end.
"""

import gc

__all__ = ["CalmCollector"]

_THRESHOLDS = (50_000, 20, 100)


class CalmCollector:
    """Calms the collector while an engine runs in this process; several engines share the calm."""

    _users = 0
    _before = gc.get_threshold()

    @classmethod
    def begin(cls) -> None:
        """An engine starts."""
        if cls._users == 0:
            cls._before = gc.get_threshold()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*(max(ours, theirs) for ours, theirs in zip(_THRESHOLDS, cls._before, strict=True)))
        cls._users += 1

    @classmethod
    def end(cls) -> None:
        """An engine has stopped."""
        cls._users -= 1
        if cls._users == 0:
            gc.set_threshold(*cls._before)
            gc.unfreeze()
