"""Garbage: Python's cycle collector, set so that it does not walk all live runs again and again.

The objects of runs in flight are many and leave no cycles behind. With Python's default thresholds (700, 10, 10) the
collector doubled the time of `decide` at 2,000 runs in flight, and with (50,000, 20, 100) it still took 7 % of the wall
clock at 100,000. What is loaded at the start is frozen out of its sight. Both are undone at the end.
"""

import gc

__all__ = ["GcTuning"]

_THRESHOLDS = (200_000, 50, 1_000)


class GcTuning:
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
