"""Many rows in few statements.

Each step of a statement gives Python's lock away and has to win it back, so a statement a row is slow twice: 18 to 20
microseconds a run against 13 when idle, and 2,400 against 440 while another thread of the process is busy (measured:
4 entries, 1 start, 1 change a run, 100 runs a commit). So rows go by powers of two, 256 at most: any number of rows
is few statements, and there are few texts, which all stay prepared in the connection's cache.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, cast

import apsw

__all__ = ["STATEMENTS", "Many", "Row", "fetch"]

_LARGEST = 256  # apsw keeps statements prepared up to 16 KiB of text
STATEMENTS = 192  # how many a connection must keep: nine sizes of eleven, and the single ones

Row = tuple[Any, ...]


def fetch(connection: apsw.Connection, statement: str, bindings: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
    """Run one statement to its end and return its rows; nothing of it stays open."""
    return cast("list[Row]", connection.execute(statement, bindings).fetchall())


class Many:
    """A statement for any number of rows: `before row,row,... after`, where `row` is one row's `(?,?)`."""

    def __init__(self, before: str, row: str, after: str = "") -> None:
        self._texts = {1 << n: f"{before} {','.join([row] * (1 << n))} {after}" for n in range(_LARGEST.bit_length())}

    def run(self, connection: apsw.Connection, rows: Sequence[Row]) -> list[Row]:
        """Run it for all rows, in order; returns the rows that it selects."""
        selected: list[Row] = []
        start = 0
        while start < len(rows):
            size = min(_LARGEST, 1 << (len(rows) - start).bit_length() - 1)
            bindings = tuple(chain.from_iterable(rows[start : start + size]))
            selected += fetch(connection, self._texts[size], bindings)
            start += size
        return selected
