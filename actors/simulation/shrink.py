"""Shrinking: finds a small simulation that still fails.

Rules: the simulation is run again with some of its faults and events left out; what still breaks the same law is kept.
After a limited number of runs the smallest so far is the result.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["smallest"]

T = TypeVar("T")


def smallest(items: Sequence[T], fails: Callable[[Sequence[T]], bool], most_runs: int) -> list[T]:
    """A small part of the items that still fails: first none of them, then without halves, quarters and so on.

    Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28 (2002).
    """
    kept = list(items)
    if kept and fails([]):
        return []
    parts, runs = 2, 1
    while len(kept) > 1 and runs < most_runs:
        size = -(-len(kept) // parts)
        for start in range(0, len(kept), size):
            rest = kept[:start] + kept[start + size :]
            runs += 1
            if fails(rest):
                kept, parts = rest, max(2, parts - 1)
                break
            if runs >= most_runs:
                break
        else:
            if size == 1:
                break
            parts = min(len(kept), parts * 2)
    return kept
