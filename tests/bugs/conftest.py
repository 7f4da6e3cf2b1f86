"""The engines, as fixtures of the tests of bugs that are told on a running engine."""

from ..conformance.engines import rig

__all__ = ["rig"]
