"""A table of transitions as a picture: what the documentation shows is drawn from the rows that the code follows.

Rules: one row, one arrow, in the order of the table; text, so that a difference shows as a difference.
"""

from collections.abc import Iterable
from enum import Enum

__all__ = ["Row", "mermaid_states", "rows_of"]

Row = tuple[str, str, str]
"""From a state, on a signal, to a state."""


def rows_of(table: Iterable[tuple[tuple[Enum, Enum], Enum]]) -> list[Row]:
    """The rows of a table that maps (state, signal) to the next state: `rows_of(TRANSITIONS.items())`."""
    return [(_word(state), str(signal.value), _word(target)) for (state, signal), target in table]


def mermaid_states(rows: Iterable[Row], *, start: str) -> str:
    """The rows as a Mermaid state diagram that begins at `start`."""
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {state} --> {target}: {signal}" for state, signal, target in rows]
    return "\n".join(lines) + "\n"


def _word(state: Enum) -> str:
    return state.name.lower()
