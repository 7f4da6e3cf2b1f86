"""Options that several commands share, each declared once."""

from typing import Annotated

import typer

__all__ = ["DEFAULT_STORE", "TARGET_HELP", "Address", "AsJson", "OptionalStore", "RunId", "Store", "Target", "Url"]

DEFAULT_STORE = "sqlite:///ensue.db"
TARGET_HELP = "module:pipeline, path/to/file.py or path/to/file.py:pipeline."
_STORE_HELP = "As in SQLAlchemy: sqlite:///ensue.db, four slashes for an absolute path, memory://."
_ADDRESS_HELP = "An existing Ray: auto, or host:port. Without it an embedded one is started."

Target = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
Store = Annotated[str, typer.Option(metavar="URL", help=_STORE_HELP)]
Address = Annotated[str | None, typer.Option(metavar="RAY", help=_ADDRESS_HELP, show_default=False)]
Url = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A served engine.", show_default="http://127.0.0.1:8484"),
]
OptionalStore = Annotated[
    str | None, typer.Option(metavar="URL", help="Read a store directly instead.", show_default=False)
]
RunId = Annotated[str, typer.Argument(metavar="RUN_ID", show_default=False)]
