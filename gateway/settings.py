"""The settings of a gateway, with their defaults."""

from dataclasses import dataclass

__all__ = ["DEFAULT_BODY_LIMIT_BYTES", "DEFAULT_HOST", "DEFAULT_PORT", "GatewaySettings"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484
DEFAULT_BODY_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The settings of a gateway."""

    allowed_hosts: tuple[str, ...] = ()
    """Values of `Host` that are accepted besides the loopback names, for a tunnel or proxy in front of the gateway."""
    body_limit_bytes: int = DEFAULT_BODY_LIMIT_BYTES
    """The largest body, except at webhooks: their signature scheme sets the limit."""
    read_timeout_seconds: float = 10.0
    """The time in which a body must arrive; after it the answer is 408."""
    webhook_timeout_seconds: float = 4.0
    """The time for the async function of a webhook; after it the answer is 503. The drain waits a second longer."""
    commit_timeout_seconds: float = 2.5
    """The time from the last byte of the body to the commit; after it the answer is 503."""
