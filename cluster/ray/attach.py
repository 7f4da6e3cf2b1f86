"""Attach: connect to a Ray that somebody else runs, with Ray's failures in two lines.

Rules:
1. Nothing is started, and the user's own `RAY_AUTH_*` and TLS settings apply.
2. The address is probed before Ray connects: Ray itself retries a dead address for two minutes, a wrong token for
   twenty seconds, and a port that is not Ray's for forty seconds a try.
3. Every failure becomes a `RayUnavailable`: the first line says what happened, the second what to do.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import socket
from typing import Any

from ...events.errors import RayUnavailable
from . import environment as ray_environment
from .job import job_config

__all__ = ["attach", "unavailable"]

PROBE_TIMEOUT_SECONDS = 5.0
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_HTTP2_SETTINGS = 4
"""The type of the frame, byte 3, with which every gRPC server answers the hello above."""
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Or Ray takes 127.0.0.1 for this node's outward address."""
_LONGEST_REASON = 300


def attach(address: str) -> dict[str, str | None]:
    """Connect this process to the Ray at `auto` or `host:port`; blocking.

    Returns the environment to apply again once disconnected. Raises: `RayUnavailable`.
    """
    found = _found(address)
    _probe(found)
    before = ray_environment.apply(_LOOPBACK if _is_loopback_only(found) else {})
    try:
        import ray  # noqa: PLC0415 - lazily: it takes half a second

        _ask(found)
        ray.init(found, log_to_driver=False, logging_level=logging.ERROR, job_config=job_config())
    except BaseException as error:
        ray_environment.apply(before)
        if isinstance(error, Exception) and not isinstance(error, RayUnavailable):
            raise unavailable(found, error) from error
        raise
    return before


def _found(address: str) -> str:
    """The `host:port` that is meant."""
    if "://" in address:
        raise RayUnavailable(
            f"ensue does not speak Ray Client ({address}): steps need a node of the cluster beside them.\n"
            "Run this on a node of the cluster, with --address auto or --address host:port."
        )
    if address != "auto":
        return address
    try:
        services: Any = importlib.import_module("ray._private.services")
        return str(services.get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        raise RayUnavailable(
            "There is no Ray on this machine to attach to.\n"
            "Start one with `ray start --head`, or leave the address out for an embedded Ray."
        ) from error


def _probe(address: str) -> None:
    """Check that a gRPC server answers there."""
    host, port = _split(address)
    try:
        with socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS) as connection:
            if not _uses_tls() and not _speaks_grpc(connection):
                raise RayUnavailable(
                    f"The server at {address} is not Ray.\nGive the address that `ray start` printed there, or auto."
                )
    except OSError as error:
        raise RayUnavailable(
            f"No Ray answers at {address}: {error}.\n"
            "Start one there with `ray start --head`, correct the address, or leave it out for an embedded Ray."
        ) from error


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:  # noqa: PLR2004 - the ports there are
        raise RayUnavailable(
            f"{address!r} is not the address of a Ray.\nGive host:port, as `ray start` printed it, or auto."
        )
    return host.strip("[]"), int(port)


def _uses_tls() -> bool:
    """Whether Ray does a TLS handshake, with its own certificates."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _speaks_grpc(connection: socket.socket) -> bool:
    connection.settimeout(PROBE_TIMEOUT_SECONDS)
    try:
        connection.sendall(_HTTP2_HELLO)
        frame = connection.recv(9)
    except OSError:
        return False
    return len(frame) > 3 and frame[3] == _HTTP2_SETTINGS  # noqa: PLR2004 - three bytes of length come first


def _is_loopback_only(address: str) -> bool:
    """A loopback address whose port is closed on this node's own address: Ray would turn the first into the second."""
    services: Any = importlib.import_module("ray._private.services")
    host, port = _split(address)
    seen_by_ray = services.resolve_ip_for_localhost(host)
    if seen_by_ray == host:
        return False
    try:
        socket.create_connection((seen_by_ray, port), PROBE_TIMEOUT_SECONDS).close()
    except OSError:
        return True
    return False


def _ask(address: str) -> None:
    """Ask the control store one question, which tells a wrong token and a wrong version at once."""
    ray: Any = importlib.import_module("ray")
    usage: Any = importlib.import_module("ray._common.usage.usage_lib")
    theirs: dict[str, str] = usage.get_cluster_metadata(ray._raylet.GcsClient(address=address)) or {}  # noqa: SLF001
    ours = {"ray_version": ray.__version__, "python_version": platform.python_version()}
    if differing := [name for name in ours if theirs.get(name, ours[name]) != ours[name]]:
        raise RayUnavailable(
            f"The Ray at {address} has {_versions(theirs, differing)}, this process has {_versions(ours, differing)}.\n"
            "Install the same versions on both sides: Ray takes no others."
        )


def _versions(versions: dict[str, str], names: list[str]) -> str:
    return ", ".join(f"{name.removesuffix('_version')} {versions[name]}" for name in names)


def unavailable(address: str, error: BaseException) -> RayUnavailable:
    """Ray's own failure, in two lines."""
    if type(error).__name__ == "AuthenticationError":
        return RayUnavailable(
            f"The Ray at {address} refuses our token, or asks for one and we have none.\n"
            "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with the cluster's token."
        )
    if address == "local":
        return RayUnavailable(
            f"Ray could not be started: {_reason(error)}.\n"
            "See that memory, /dev/shm and the temporary folder have room, or attach to a running Ray with --address."
        )
    return RayUnavailable(
        f"Connecting to the Ray at {address} failed: {_reason(error)}.\n"
        "Run this on a node of that cluster (`ray start --address ...` makes it one), with its versions and its token."
    )


def _reason(error: BaseException) -> str:
    """The first line of Ray's message, which may have pages."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first[:_LONGEST_REASON].rstrip(". ")
