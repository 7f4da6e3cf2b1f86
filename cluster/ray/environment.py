"""The environment variables that Ray reads, and making Ray read them again.

Ray reads its settings when it is imported, and a user's module may have imported it before. They are read again here,
so the order of imports does not matter. The names are Ray's private ones: one that a later Ray does not have is
skipped, and the check of the listeners tells whether that did harm.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

__all__ = ["apply", "reread"]

_SET_BY_RAY = ("PYTHONBREAKPOINT",)
"""What `ray.init` sets in this process, and leaves behind."""


def apply(wanted: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set these variables (None removes one) and make Ray read them; returns the former values, to apply in the end."""
    before = {name: os.environ.get(name) for name in (*wanted, *_SET_BY_RAY)}
    for name, value in wanted.items():
        _set(name, value)
    reread()
    return before


def reread() -> None:
    """Make Ray use the environment as it is now, not as it was at import. Imports ray."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    if hasattr(constants, "ENABLE_RAY_CLUSTER"):
        constants.ENABLE_RAY_CLUSTER = _may_be_a_cluster(constants)
    raylet: Any = importlib.import_module("ray._raylet")
    if hasattr(raylet, "Config"):
        raylet.Config.initialize("")
    if hasattr(raylet, "AuthenticationTokenLoader"):
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def _may_be_a_cluster(constants: Any) -> bool:
    return bool(constants.env_bool(constants.ENABLE_RAY_CLUSTERS_ENV_VAR, not constants.IS_WINDOWS_OR_OSX))


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
