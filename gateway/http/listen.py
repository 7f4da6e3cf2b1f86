"""Listening: the socket is bound before anything else starts, so that a port in use costs a second and one line.

Rules: no address but loopback, until API keys are there to ask for; an endpoint that believes anybody stays on loopback
even then, unless its author forces it.
"""

import errno
import ipaddress
import socket
from collections.abc import Iterable

from ...events.errors import AddressUnavailable
from ...events.pipelines.pipeline import Pipeline

__all__ = ["check_exposure", "is_loopback", "listen", "url_of"]

_BACKLOG = 2048
_LAST_PORT = 65535
_REASONS = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another with --port",
    errno.EACCES: "that port needs privileges: choose one from 1024 on with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose another with --host",
}


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, pipelines: Iterable[Pipeline]) -> None:
    """`AddressUnavailable` where listening on this host would let anybody in."""
    if is_loopback(host):
        return
    for pipeline in pipelines:
        for endpoint in pipeline.endpoints.values():
            if endpoint.verify.scheme == "insecure" and not getattr(endpoint.verify, "force", False):
                msg = (
                    f"Webhook {endpoint.name} of pipeline {pipeline.name} verifies nothing, and {host} is not loopback"
                )
                raise AddressUnavailable(f"{msg}: give it a scheme such as hooks.GitHub, or serve on 127.0.0.1.")
    msg = f"{host} is not loopback, and this gateway has no API keys yet to tell who may use it"
    raise AddressUnavailable(f"{msg}: serve on 127.0.0.1, and let a tunnel or proxy bring webhooks in.")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `AddressUnavailable` says in one line why there is none."""
    if not 0 <= port <= _LAST_PORT:
        raise AddressUnavailable(f"Cannot listen on {host}:{port}: ports go from 0 (any that is free) to {_LAST_PORT}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror:
        raise AddressUnavailable(f"Cannot listen on {host}: no such host is known.") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, str(error))
        raise AddressUnavailable(f"Cannot listen on {host}:{port}: {reason}.") from None


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
