"""The engines and the logs, as fixtures of all conformance tests."""

from .engines import durable, local, ray_session, rig, trace
from .logs import log, reader, store

__all__ = ["durable", "local", "log", "ray_session", "reader", "rig", "store", "trace"]
