"""The engines and the logs, as fixtures of all conformance tests."""

from .engines import durable, local, rig
from .logs import log, reader, store

__all__ = ["durable", "local", "log", "reader", "rig", "store"]
