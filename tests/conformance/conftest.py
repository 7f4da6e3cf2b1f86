"""The engines, as fixtures of all conformance tests."""

from .engines import durable, local, rig

__all__ = ["durable", "local", "rig"]
