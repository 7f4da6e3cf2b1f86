"""The engines and the logs, as fixtures of the tests of bugs."""

from ..conformance.engines import ray_session, rig, trace
from ..conformance.logs import store

__all__ = ["ray_session", "rig", "store", "trace"]
