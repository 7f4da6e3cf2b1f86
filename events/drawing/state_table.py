"""State diagrams of transition tables: the documentation's diagrams are drawn from the tables that the code follows.

Rules: one row is one arrow, in the order of the table; the result is text, so a change of the table shows in a diff.
"""

from collections.abc import Iterable
from enum import Enum
from math import inf

__all__ = ["Row", "mermaid_states", "rows_of", "rows_of_limits"]

Row = tuple[str, str, str]
"""From a state, on a signal, to a state."""


def rows_of(table: Iterable[tuple[tuple[Enum, Enum], Enum]]) -> list[Row]:
    """The rows of a table that maps (state, signal) to the next state: `rows_of(TRANSITIONS.items())`."""
    return [(_word(state), str(signal.value), _word(target)) for (state, signal), target in table]


def rows_of_limits(table: Iterable[tuple[str, float]]) -> list[Row]:
    """The rows of a table of the most attempts by kind of failure: at the limit it gives up, before that it waits."""
    rows: list[Row] = []
    for kind, limit in table:
        if limit > 1:
            rows.append(("running", f"{kind}, and the policy wants another attempt", "waiting"))
        if limit == 1:
            rows.append(("running", kind, "given_up"))
        elif limit < inf:
            rows.append(("running", f"{kind}, at attempt {limit:g} or later", "given_up"))
    return [
        *rows,
        ("running", "the policy wants no other attempt", "given_up"),
        ("waiting", "the wait is over", "running"),
    ]


def mermaid_states(rows: Iterable[Row], *, start: str) -> str:
    """The rows as a Mermaid state diagram that begins at `start`."""
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {state} --> {target}: {signal}" for state, signal, target in rows]
    return "\n".join(lines) + "\n"


def _word(state: Enum) -> str:
    return state.name.lower()
