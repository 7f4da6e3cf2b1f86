"""Ray's own messages, sent to a logger: Ray would print them to the standard output of the user's program.

Most of them report that a worker has died, which ensue often caused and learns of in any case, so they are logged at
level debug. A Ray that prints by another name continues to print.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

__all__ = ["redirect", "restore"]

logger = logging.getLogger("ensue.ray")
_PRINTER = "print_to_stdstream"
_originals: dict[str, Any] = {}


def redirect() -> None:
    """Log Ray's messages from now on."""
    module = _module()
    if hasattr(module, _PRINTER):
        _originals.setdefault(_PRINTER, getattr(module, _PRINTER))
        setattr(module, _PRINTER, _log)


def restore() -> None:
    """Let Ray print them again."""
    for name, original in _originals.items():
        setattr(_module(), name, original)
    _originals.clear()


def _module() -> Any:
    return importlib.import_module("ray._private.worker")


def _log(data: Any, *_: object, **__: object) -> None:
    for line in data.get("lines", ()):
        logger.debug("%s", line)
