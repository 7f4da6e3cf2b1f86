"""The commands `ensue status` and `ensue pipelines restart`. Healthy parts take little space on the screen."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..exit_codes import FAILED, OK

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from ...schemas.status import NodeOut, StatusOut
    from ..sources.operations import Operations

__all__ = ["restart", "show"]

_STYLES = {"up": "green", "starting": "cyan", "restarting": "yellow", "failed": "bold red", "down": "red"}
_ENGINE_STYLES = {
    "ready": "green",
    "starting": "cyan",
    "recovering": "yellow",
    "draining": "yellow",
    "not running": "dim",
    "failed": "bold red",
}


def show(source: "Operations", *, as_json: bool) -> int:
    """Show the status. The exit code is 1 if the engine has failed."""
    from ..terminal.output import print_document

    status = source.status()
    if as_json:
        print_document(status)
    else:
        _print(status)
    return FAILED if status.state.startswith("failed") else OK


def restart(source: "Operations", name: str, *, as_json: bool) -> int:
    """Restart a pipeline."""
    from ..terminal.output import print_document, say, stdout

    restarted = source.restart(name)
    if as_json:
        print_document(restarted)
    else:
        say(stdout(), f"pipeline {restarted.pipeline} is restarting; follow it with: ensue status")
    return OK


def _print(status: "StatusOut") -> None:
    from rich.text import Text

    from ..terminal.output import plain, say, stdout
    from .breaker import print_breakers

    console = stdout()
    style = _ENGINE_STYLES.get(status.state.partition(":")[0], "")
    durability = "" if status.durability is None else f"  durability {status.durability}"
    say(console, Text.assemble(("engine ", "bold"), (plain(status.state), style), (durability, "dim")))
    if status.tree is not None:
        for child in status.tree.children:
            console.print(_tree(child))
    if status.breakers:
        console.print()
        print_breakers(status.breakers)
    _print_dead(status)
    _print_runs(status)


def _tree(node: "NodeOut") -> "Tree":
    from rich.tree import Tree

    tree = Tree(_label(node), guide_style="dim")
    for child in _shown(node):
        tree.add(_tree(child))
    return tree


def _shown(node: "NodeOut") -> "Iterator[NodeOut]":
    """The children to show: workers that are up are only counted at their step."""
    for child in node.children:
        if child.kind != "worker" or child.status != "up":
            yield child


def _label(node: "NodeOut") -> "Text":
    from rich.text import Text

    from ..terminal.output import plain
    from ..times import age

    text = Text.assemble((plain(node.name), "bold" if node.kind == "pipeline" else ""), "  ")
    text.append(node.status, style=_STYLES.get(node.status, ""))
    if node.since is not None and (node.status != "up" or node.restarts):
        text.append(f" for {age(node.since)}", style="dim")
    workers = [child for child in node.children if child.kind == "worker"]
    if workers:
        up = sum(worker.status == "up" for worker in workers)
        text.append(f"  {up}/{len(workers)} worker{'' if len(workers) == 1 else 's'}", style="dim")
    if node.restarts:
        text.append(f"  {node.restarts} restart{'' if node.restarts == 1 else 's'}", style="yellow")
    if node.reason:
        text.append(f"  {plain(' '.join(node.reason.split()))}", style="dim")
    return text


def _print_dead(status: "StatusOut") -> None:
    from rich.table import Table

    from ..terminal.output import plain, stdout
    from ..times import ago

    if not status.dead:
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("dead letters", no_wrap=True)
    table.add_column("open", justify="right", style="red")
    table.add_column("oldest", no_wrap=True)
    for row in status.dead:
        table.add_row(plain(f"{row.pipeline}/{row.step}"), str(row.dead), ago(row.oldest))
    stdout().print()
    stdout().print(table)


def _print_runs(status: "StatusOut") -> None:
    from rich.table import Table
    from rich.text import Text

    from ..terminal.output import STATUS_STYLES, plain, stdout

    if not status.runs:
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("runs", no_wrap=True)
    table.add_column("")
    for pipeline, counts in status.runs.items():
        parts = [part for name, number in counts.items() for part in ((f"{number} {name}", STATUS_STYLES[name]), "  ")]
        table.add_row(plain(pipeline), Text.assemble(*parts))
    stdout().print()
    stdout().print(table)
