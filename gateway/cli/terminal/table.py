"""A table whose rows have a note each, such as an error message.

Rules: on a terminal the note is printed below its row and cut at the width; elsewhere it is the last column, uncut, so
that each row is one line. If a row does not fit, the widest column is shortened.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .output import stdout

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["print_rows"]

_GAP = 2
_LEAST = 8


def print_rows(names: Sequence[str], rows: "Sequence[Sequence[Text]]", notes: "Sequence[Text]", note: str) -> None:
    """Print rows below the column names; `note` is the name of the column of notes."""
    from rich.text import Text

    console = stdout()
    is_terminal = console.is_terminal
    head = [Text(name, style="dim") for name in names]
    widths = [max(len(row[column].plain) for row in (head, *rows)) for column in range(len(names))]
    if is_terminal:
        _narrow(widths, console.width)
    console.print(_line(head, widths, Text("" if is_terminal else note, style="dim")), soft_wrap=True)
    for row, text in zip(rows, notes, strict=True):
        console.print(_line(row, widths, Text() if is_terminal else text), soft_wrap=True)
        if is_terminal and text.plain:
            console.print(Text.assemble("  ", text), no_wrap=True, overflow="ellipsis")


def _narrow(widths: list[int], most: int) -> None:
    over = sum(widths) + _GAP * (len(widths) - 1) - most
    widest = widths[1:].index(max(widths[1:])) + 1  # the first column, the name, is never shortened
    if over > 0:
        widths[widest] = max(_LEAST, widths[widest] - over)


def _line(cells: "Sequence[Text]", widths: Sequence[int], text: "Text") -> "Text":
    from rich.text import Text

    line = Text()
    for cell, width in zip(cells, widths, strict=True):
        fitted = cell.copy()
        fitted.truncate(width, overflow="ellipsis", pad=True)
        line.append_text(fitted)
        line.append(" " * _GAP)
    line.append_text(text)
    line.rstrip()
    return line
