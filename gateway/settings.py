"""The settings of a gateway: every figure that an operator may turn, with its default."""

from dataclasses import dataclass

__all__ = ["DEFAULT_BODY_LIMIT_BYTES", "DEFAULT_HOST", "DEFAULT_PORT", "GatewaySettings"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484
DEFAULT_BODY_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """allowed_hosts: names beside those of loopback that a request may be for (`Host`), as behind a tunnel or proxy.

    A webhook's body limit is its scheme's; `body_limit_bytes` is that of everything else. commit_timeout_seconds: from
    the body's last byte to the commit, later 503.
    """

    allowed_hosts: tuple[str, ...] = ()
    body_limit_bytes: int = DEFAULT_BODY_LIMIT_BYTES
    read_timeout_seconds: float = 10.0
    commit_timeout_seconds: float = 2.5
