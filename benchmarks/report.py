"""The report: one table on the terminal, and the same figures as Markdown and as JSON.

Rules: rows keep the order in which they were measured; figures of one row differ in the durability of the log.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from .figures import COLUMNS, Column, Figure, as_json
from .reach import Reached
from .runner import Run
from .words import MEANINGS

__all__ = ["as_document", "as_markdown", "show"]

Rows = dict[tuple[str, str], dict[Column, str]]
_STYLES = {"aim": "bold green", "pass": "green", "missed": "bold red", "open": "dim"}
_HEADS = ("reach", "at least", "aim", "measured", "verdict")


def show(console: Console, machine: Mapping[str, str], run: Run, reached: Iterable[Reached]) -> None:
    """Print the table, and below it the targets with their verdicts."""
    table = Table(title="ensue", title_justify="left", header_style="bold")
    table.add_column("what")
    table.add_column("unit", style="dim")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for section, rows in _sections(run.figures).items():
        table.add_section()
        table.add_row(f"[bold]{section}[/]")
        for (what, unit), values in rows.items():
            table.add_row(f"  {what}", unit, *(values.get(column, "") for column in COLUMNS))
    table.add_section()
    table.add_row("[bold]Reach[/]", "", *(f"[bold]{head}[/]" for head in _HEADS[1:]))
    for entry in reached:
        style = _STYLES[entry.verdict]
        _, *cells, verdict = _cells(entry)
        table.add_row(f"  {entry.target.what}", entry.target.unit, *cells, f"[{style}]{verdict}[/]")
    console.print(table)
    for name, reason in {**run.failed, **run.skipped}.items():
        console.print(f"{name}: {reason}", style="yellow", markup=False)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), style="dim", markup=False)


def as_markdown(machine: Mapping[str, str], run: Run, reached: Iterable[Reached]) -> str:
    """RESULTS.md."""
    lines = ["# Results", "", "Written by `make bench`: one run, all figures.", ""]
    lines += [*_table(("", ""), (list(entry) for entry in machine.items())), ""]
    lines += ["## Reach", "", *_table((*_HEADS, "from"), ([*_cells(entry), entry.how] for entry in reached)), ""]
    heads = ("what", "unit", *COLUMNS.values())
    for section, rows in _sections(run.figures).items():
        body = ([what, unit, *(values.get(column, "") for column in COLUMNS)] for (what, unit), values in rows.items())
        lines += [
            f"## {section}",
            "",
            *([MEANINGS[section], ""] if section in MEANINGS else []),
            *_table(heads, body),
            "",
        ]
    for title, reasons in (("Failed", run.failed), ("Skipped", run.skipped)):
        if reasons:
            lines += [
                f"## {title}",
                "",
                *(f"- {name}: {reason.splitlines()[-1]}" for name, reason in reasons.items()),
                "",
            ]
    return "\n".join(lines)


def as_document(machine: Mapping[str, str], run: Run, reached: Iterable[Reached]) -> str:
    """results.json."""
    document = {
        "machine": dict(machine),
        "reach": [asdict(entry) for entry in reached],
        "figures": as_json(run.figures),
        "failed": run.failed,
        "skipped": run.skipped,
        "seconds": run.seconds,
    }
    return json.dumps(document, indent=1)


def _sections(figures: Iterable[Figure]) -> dict[str, Rows]:
    sections: dict[str, Rows] = {}
    for figure in figures:
        row = sections.setdefault(figure.section, {}).setdefault((figure.what, figure.unit), {})
        row[figure.column] = figure.text()
    return sections


def _cells(entry: Reached) -> list[str]:
    target = entry.target
    measured = "" if entry.value is None else f"{entry.value:.2f} {target.unit}"
    return [target.what, f"{target.least:g} {target.unit}", f"{target.aim:g} {target.unit}", measured, entry.verdict]


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(heads)
    return [_line(names), _line(["---"] * len(names)), *(_line(row) for row in rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
