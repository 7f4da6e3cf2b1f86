"""What Ray has to say unasked, to a logger: by itself it prints it to the standard output of our user's program.

Most of it is that a worker has died, which we have often brought about and are told of in any case: it is logged for
those who look for a fault. A Ray that prints by another name goes on printing.
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
    """From now on Ray's messages are logged."""
    module = _module()
    if hasattr(module, _PRINTER):
        _originals.setdefault(_PRINTER, getattr(module, _PRINTER))
        setattr(module, _PRINTER, _log)


def restore() -> None:
    """Ray prints again."""
    for name, original in _originals.items():
        setattr(_module(), name, original)
    _originals.clear()


def _module() -> Any:
    return importlib.import_module("ray._private.worker")


def _log(data: Any, *_: object, **__: object) -> None:
    for line in data.get("lines", ()):
        logger.debug("%s", line)
