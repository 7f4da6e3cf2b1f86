"""GcTuning: Python's cycle collector, set so that it does not walk all live runs again and again.

The objects of live runs are many and leave no cycles behind. With Python's default thresholds (700, 10, 10) the
collector doubled the time of `decide` at 2,000 live runs, and with (50,000, 20, 100) it still took 7 % of the wall
clock at 100,000. What is loaded before the first engine starts is frozen: the collector no longer looks at it. Both
are undone when the last engine has stopped.
"""

import gc

__all__ = ["GcTuning"]

_THRESHOLDS = (200_000, 50, 1_000)


class GcTuning:
    """The setting of this process, shared by all engines in it."""

    _users = 0
    _before = gc.get_threshold()

    @classmethod
    def apply(cls) -> None:
        """An engine starts."""
        if cls._users == 0:
            cls._before = gc.get_threshold()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*(max(ours, theirs) for ours, theirs in zip(_THRESHOLDS, cls._before, strict=True)))
        cls._users += 1

    @classmethod
    def restore(cls) -> None:
        """An engine has stopped."""
        cls._users -= 1
        if cls._users == 0:
            gc.set_threshold(*cls._before)
            gc.unfreeze()
