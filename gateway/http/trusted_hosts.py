"""The check of the `Host` header: a request must name a trusted host.

Rules: the loopback names are always trusted, others only by `--allowed-host`. This prevents DNS rebinding: a web page
that points its own name at this address would otherwise reach a gateway that trusts every local client.
"""

from collections.abc import Iterable

from .problems import refuse

__all__ = ["TrustedHosts"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MOST_SEEN = 256


class TrustedHosts:
    """The host names that requests may name: the loopback names and `allowed`. The port does not matter."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = _LOOPBACK | {_name(host) for host in allowed}
        self._seen: set[bytes] = set()

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Refuse a request whose Host is missing, repeated or not trusted (`host-unknown`)."""
        values = [value for name, value in headers if name == b"host"]
        if len(values) == 1 and values[0] in self._seen:
            return
        host = _name(values[0].decode("latin-1")) if len(values) == 1 else ""
        if host not in self._allowed:
            raise refuse(
                "host-unknown", f"Host {host[:100]!r} is not allowed: add it with `ensue serve --allowed-host`."
            )
        if len(self._seen) < _MOST_SEEN:
            self._seen.add(values[0])


def _name(host: str) -> str:
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
