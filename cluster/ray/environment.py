"""The environment that Ray reads, and having Ray read it again.

Ray reads its settings when it is imported, which a user's module may have done before us. What was read is read again
here, so nobody has to mind the order of imports. The names are Ray's own and private: one that a later Ray no longer
has is passed over, and the check of the listeners says whether that did harm.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

__all__ = ["apply", "reread"]

_SET_BY_RAY = ("PYTHONBREAKPOINT",)
"""What `ray.init` itself sets in our process, and leaves behind."""


def apply(wanted: Mapping[str, str | None]) -> dict[str, str | None]:
    """Set these variables (None removes one) and have Ray read them; returns what they were, to apply in the end."""
    before = {name: os.environ.get(name) for name in (*wanted, *_SET_BY_RAY)}
    for name, value in wanted.items():
        _set(name, value)
    reread()
    return before


def reread() -> None:
    """Make Ray hold what the environment says now, not what it said at import. Imports ray."""
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
