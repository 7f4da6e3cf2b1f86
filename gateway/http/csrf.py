"""The CSRF check: no web page of another site may change anything through a browser on this machine.

Rules: a request that changes something is refused if the browser says that it comes from another site. Browsers send
`Sec-Fetch-Site` (older ones `Origin`), and a page cannot change either; other clients send neither. The check is
needed because the gateway trusts every local client, and a browser sends a POST without a body for any page without
asking.
"""

from collections.abc import Iterable

from .problems import refuse

__all__ = ["SAFE_METHODS", "check_csrf", "is_sent_without_asking"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CONTENT_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
_SAME_SITE = frozenset({b"same-origin", b"none"})
_HEADERS = frozenset({b"sec-fetch-site", b"origin", b"host"})


def is_sent_without_asking(content_types: Iterable[str]) -> bool:
    """Whether a browser sends one of these content types for a page of another site without asking the server."""
    return any(name.partition(";")[0].strip().lower() in _CONTENT_TYPES for name in content_types)


def check_csrf(method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a request that may change something and comes from a page of another site (`cross-site`)."""
    if method in SAFE_METHODS:
        return
    sent = {name: value.strip().lower() for name, value in headers if name in _HEADERS}
    site, origin = sent.get(b"sec-fetch-site"), sent.get(b"origin")
    is_same_origin = origin is None or origin.partition(b"://")[2] == sent.get(b"host")
    is_allowed = is_same_origin if site is None else site in _SAME_SITE
    if not is_allowed:
        raise refuse("cross-site", "A page of another site may not send this request: use the `ensue` command instead.")
