"""The command `ensue serve`: the engine and the gateway of one or more pipelines, until SIGTERM or Ctrl-C.

Rules: the options, the pipelines and the secrets are checked before Ray is started. The banner on stderr shows the
address, the webhooks with their verification, and the durability of the store.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ...api.server import Served, ServerPhase, serve
from ...ingest.event_routing import subscribed_types
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

__all__ = ["ServeOptions", "serve_pipelines"]

_DURABILITY = {
    "full": "an accepted event survives a power cut",
    "relaxed": "an accepted event survives a crash; a power cut may lose the last second",
    "memory": "events are lost when this process ends",
}


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `ensue serve`."""

    targets: Sequence[str]
    host: str
    port: int
    store: str
    address: str | None
    version: str
    is_debug: bool
    wait_seconds: float = 0.0
    allowed_hosts: tuple[str, ...] = ()


def serve_pipelines(options: ServeOptions) -> int:
    """Serve until the first signal; returns the exit code after the drain."""
    pipelines = [load(target) for target in options.targets]
    for pipeline in pipelines:
        refuse_errors(pipeline)
    LogLines(is_timed=True, is_debug=options.is_debug).install()
    reporter = _Reporter(options, pipelines)
    with hold(options.store, "`ensue serve`", wait_seconds=options.wait_seconds, on_wait=reporter.on_wait):
        serve(
            reporter.create_engine,
            host=options.host,
            port=options.port,
            settings=GatewaySettings(allowed_hosts=options.allowed_hosts),
            observe=reporter.observe,
            version=options.version,
        )
    return OK


class _Reporter:
    """Prints the phases of the server on stderr."""

    def __init__(self, options: ServeOptions, pipelines: "Sequence[Pipeline]") -> None:
        self._options = options
        self._pipelines = pipelines
        self._began = time.monotonic()
        self._engine: Engine | None = None

    def create_engine(self) -> "Engine":
        """The engine to serve."""
        from ....actors.engine import Engine

        self._engine = Engine(*self._pipelines, store=self._options.store, address=self._options.address)
        return self._engine

    def on_wait(self, holder: str) -> None:
        """Called if another process uses the store."""
        self._say(f"waiting up to {duration(self._options.wait_seconds)} for the store, which is in use by {holder}")

    def observe(self, served: Served) -> None:
        """Called by the server at each phase."""
        match served.phase:
            case ServerPhase.LISTENING:
                workers = sum(step.replicas for pipeline in self._pipelines for step in pipeline.steps.values())
                self._say(f"starting Ray and {workers} worker{'' if workers == 1 else 's'} …")
            case ServerPhase.READY:
                self._print_banner(served.url)
            case ServerPhase.DRAINING:
                self._say(
                    "stopping: running steps may finish, the rest continues at the next start; Ctrl-C again to end now"
                )
            case ServerPhase.STOPPED:
                self._say("stopped")

    def _print_banner(self, url: str) -> None:
        console = stderr()
        took = duration(time.monotonic() - self._began)
        head = (
            ("ensue", "bold"),
            f" {self._options.version} serves ",
            (url, "bold cyan"),
            (f"  ready in {took}", "dim"),
        )
        console.print(Text.assemble(*head), soft_wrap=True)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for pipeline in self._pipelines:
            self._describe(table, pipeline)
        table.add_row("  store", self._options.store, self._durability())
        console.print(table)

    def _describe(self, table: Table, pipeline: "Pipeline") -> None:
        steps = f"{len(pipeline.steps)} step{'' if len(pipeline.steps) == 1 else 's'}"
        types = ", ".join(sorted(subscribed_types(pipeline) - {"ensue.step_failed"}))
        table.add_row("  pipeline", Text(pipeline.name, style="bold"), f"{steps}, takes {types}")
        for endpoint in pipeline.endpoints.values():
            scheme = endpoint.verify.scheme
            style = "bold red" if scheme == "insecure" else "green"
            verification = "insecure: every request is accepted" if scheme == "insecure" else f"verified: {scheme}"
            table.add_row("  webhook", f"POST /hooks/{endpoint.name}", Text(verification, style=style))

    def _durability(self) -> Text:
        durability = "" if self._engine is None else self._engine.durability
        style = "green" if durability == "full" else "bold yellow"
        note = _DURABILITY.get(durability, "")
        return Text.assemble((f"durability {durability}", style), (f": {note}" if note else "", "dim"))

    def _say(self, text: str) -> None:
        stderr().print(Text(text, style="dim"), soft_wrap=True)
