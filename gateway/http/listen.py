"""The listening socket, and the addresses that it may be bound to.

Rules: only loopback addresses are allowed, because there are no API keys yet. A webhook without verification is
allowed on loopback only, unless its author forces it. The socket is bound before anything else starts, so that a port
in use is reported at once, in one line.
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
    errno.EADDRINUSE: "another program uses this port: stop it, or choose another port with --port",
    errno.EACCES: "this port needs privileges: choose a port above 1023 with --port",
    errno.EADDRNOTAVAIL: "this machine does not have this address: choose another with --host",
}


def is_loopback(host: str) -> bool:
    """Whether a host to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, pipelines: Iterable[Pipeline]) -> None:
    """Raises `AddressUnavailable` if listening on this host would admit unverified requests from other machines."""
    if is_loopback(host):
        return
    for pipeline in pipelines:
        for endpoint in pipeline.endpoints.values():
            if endpoint.verify.scheme == "insecure" and not getattr(endpoint.verify, "force", False):
                msg = (
                    f"Webhook {endpoint.name} of pipeline {pipeline.name} verifies nothing, and {host} is not loopback"
                )
                raise AddressUnavailable(f"{msg}: use a verifier such as hooks.GitHub, or serve on 127.0.0.1.")
    msg = f"{host} is not loopback, and this gateway has no API keys yet"
    raise AddressUnavailable(f"{msg}: serve on 127.0.0.1, and forward webhooks to it with a tunnel or proxy.")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `AddressUnavailable` with the reason in one line."""
    if not 0 <= port <= _LAST_PORT:
        raise AddressUnavailable(f"Cannot listen on {host}:{port}: a port is 0 (any free port) to {_LAST_PORT}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror:
        raise AddressUnavailable(f"Cannot listen on {host}: the host name is unknown.") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, str(error))
        raise AddressUnavailable(f"Cannot listen on {host}:{port}: {reason}.") from None


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
