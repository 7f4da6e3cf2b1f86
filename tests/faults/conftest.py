"""The Ray session, as a fixture of the fault tests that run an engine in pytest's own process."""

from ..conformance.engines import ray_session

__all__ = ["ray_session"]
