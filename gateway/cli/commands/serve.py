"""`ensue serve`: engine and gateway for one or more pipelines, until a signal says stop.

Rules: what is wrong with the words, the pipelines or the secrets is found before Ray is started. The banner says where
it listens, who is let in and what survives; it goes to stderr.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ...api.server import Served, ServerPhase
from ...api.server import serve as serve_gateway
from ...ingest.event_routing import heard_types
from ...settings import GatewaySettings
from ..exit_codes import OK
from ..store_lock import hold
from ..target import load
from ..terminal.log import LogLines
from ..terminal.output import duration, stderr
from .check import refuse_errors

if TYPE_CHECKING:
    from ....actors.engine import Engine
    from ....events.pipelines.pipeline import Pipeline

__all__ = ["ServeOptions", "serve"]

_DURABILITY = {
    "full": "an accepted event survives a power cut",
    "relaxed": "an accepted event survives a crash, a power cut may cost the last second",
    "memory": "nothing survives this process",
}


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `ensue serve` was told."""

    targets: Sequence[str]
    host: str
    port: int
    store: str
    address: str | None
    version: str
    is_debug: bool
    wait_seconds: float = 0.0
    allowed_hosts: tuple[str, ...] = ()


def serve(order: ServeOptions) -> int:
    """Serve; returns when it has stopped in order."""
    pipelines = [load(target) for target in order.targets]
    for pipeline in pipelines:
        refuse_errors(pipeline)
    LogLines(is_timed=True, is_debug=order.is_debug).install()
    herald = _Herald(order, pipelines)
    with hold(order.store, "`ensue serve`", wait_seconds=order.wait_seconds, told=herald.waits):
        serve_gateway(
            herald.engine,
            host=order.host,
            port=order.port,
            settings=GatewaySettings(allowed_hosts=order.allowed_hosts),
            observe=herald.observe,
            version=order.version,
        )
    return OK


class _Herald:
    """Says where the server stands."""

    def __init__(self, order: ServeOptions, pipelines: "Sequence[Pipeline]") -> None:
        self._order = order
        self._pipelines = pipelines
        self._began = time.monotonic()
        self._engine: Engine | None = None

    def engine(self) -> "Engine":
        """The engine to be served."""
        from ....actors.engine import Engine

        self._engine = Engine(*self._pipelines, store=self._order.store, address=self._order.address)
        return self._engine

    def waits(self, holder: str) -> None:
        """Told where another one has the store."""
        self._say(f"waiting up to {duration(self._order.wait_seconds)} for the store, in use by {holder}")

    def observe(self, served: Served) -> None:
        """Told by the server at every phase."""
        match served.phase:
            case ServerPhase.LISTENING:
                workers = sum(step.replicas for pipeline in self._pipelines for step in pipeline.steps.values())
                self._say(f"starting Ray and {workers} worker{'' if workers == 1 else 's'} …")
            case ServerPhase.READY:
                self._print_banner(served.url)
            case ServerPhase.DRAINING:
                self._say("stopping: what runs is finished or goes on at the next start; Ctrl-C again ends it at once")
            case ServerPhase.STOPPED:
                self._say("stopped")

    def _print_banner(self, url: str) -> None:
        console = stderr()
        took = duration(time.monotonic() - self._began)
        head = (("ensue", "bold"), f" {self._order.version} serves ", (url, "bold cyan"), (f"  ready in {took}", "dim"))
        console.print(Text.assemble(*head), soft_wrap=True)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for pipeline in self._pipelines:
            self._describe(table, pipeline)
        table.add_row("  store", self._order.store, self._durability())
        console.print(table)

    def _describe(self, table: Table, pipeline: "Pipeline") -> None:
        steps = f"{len(pipeline.steps)} step{'' if len(pipeline.steps) == 1 else 's'}"
        hears = ", ".join(sorted(heard_types(pipeline) - {"ensue.step_failed"}))
        table.add_row("  pipeline", Text(pipeline.name, style="bold"), f"{steps}, hears {hears}")
        for endpoint in pipeline.endpoints.values():
            scheme = endpoint.verify.scheme
            style = "bold red" if scheme == "insecure" else "green"
            said = "insecure: whoever reaches it is believed" if scheme == "insecure" else f"verified: {scheme}"
            table.add_row("  webhook", f"POST /hooks/{endpoint.name}", Text(said, style=style))

    def _durability(self) -> Text:
        durability = "" if self._engine is None else self._engine.durability
        style = "green" if durability == "full" else "bold yellow"
        note = _DURABILITY.get(durability, "")
        return Text.assemble((f"durability {durability}", style), (f": {note}" if note else "", "dim"))

    def _say(self, text: str) -> None:
        stderr().print(Text(text, style="dim"), soft_wrap=True)
