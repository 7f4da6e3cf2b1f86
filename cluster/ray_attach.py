"""Attaching to a Ray that somebody else runs, and Ray's failures in two lines.

1. Nothing is set and nothing is started: the user's own `RAY_AUTH_*` and TLS settings hold.
2. A probe of the port comes first: Ray itself retries a dead address for a minute.
3. Every failure becomes a RayUnavailable: the first line says what happened, the second what to do.
"""

from __future__ import annotations

import socket

from ..events.errors import RayUnavailable
from .ray_job import job_config

__all__ = ["attach", "unavailable"]

PROBE_TIMEOUT_SECONDS = 5.0


def attach(address: str) -> None:
    """Connect this process to the Ray at `auto` or `host:port`. Raises RayUnavailable, or what Ray raises."""
    if "://" in address:
        raise RayUnavailable(
            f"ensue does not speak Ray Client ({address}): steps need a node of the cluster beside them.\n"
            "Run this on a node of the cluster, with --address auto or --address host:port."
        )
    if address != "auto":
        _probe(address)
    import ray  # noqa: PLC0415 - lazily: it takes half a second

    ray.init(address, log_to_driver=False, logging_level="ERROR", job_config=job_config())


def _probe(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise RayUnavailable(f"{address!r} is no address of a Ray.\nGive host:port, as `ray start` printed it, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RayUnavailable(
            f"No Ray answers at {address}: {error}.\n"
            "Start one there with `ray start --head`, correct the address, or leave it out for an embedded Ray."
        ) from error


def unavailable(address: str, error: Exception) -> RayUnavailable:
    """Ray's own failure, in two lines."""
    return RayUnavailable(f"{type(error).__name__} {error} at {address}\nTODO")
