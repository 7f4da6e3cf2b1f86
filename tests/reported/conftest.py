"""The engines, as fixtures of the tests that run on all of them."""

from ..conformance.engines import durable, local, ray_session, rig, trace

__all__ = ["durable", "local", "ray_session", "rig", "trace"]
