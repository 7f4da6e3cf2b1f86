"""The options that several commands share."""

from typing import Annotated

import typer

__all__ = ["DEFAULT_STORE", "TARGET_HELP", "Address", "AsJson", "OptionalStore", "RunId", "Store", "Target", "Url"]

DEFAULT_STORE = "sqlite:///ensue.db"
TARGET_HELP = "module:pipeline, path/to/file.py or path/to/file.py:pipeline."
_STORE_HELP = "The store: sqlite:///FILE (four slashes for an absolute path), or memory:// to keep nothing."
_ADDRESS_HELP = "Use a running Ray cluster: auto, or HOST:PORT. Otherwise an embedded one is started."

Target = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]
Store = Annotated[str, typer.Option(metavar="URL", help=_STORE_HELP)]
Address = Annotated[str | None, typer.Option(metavar="RAY", help=_ADDRESS_HELP, show_default=False)]
Url = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The served engine; http://127.0.0.1:8484 if omitted.", show_default=False),
]
OptionalStore = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Use this store directly instead of a served engine.", show_default=False),
]
RunId = Annotated[str, typer.Argument(metavar="RUN_ID", show_default=False)]
