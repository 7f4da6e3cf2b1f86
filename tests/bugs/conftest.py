"""The engines and the logs, as fixtures of the tests of bugs."""

from ..conformance.engines import rig
from ..conformance.logs import store

__all__ = ["rig", "store"]
