"""Sites: what changes something is never asked for by a web page of another site.

A browser sends such a request on any page's behalf, without asking, where it has no body: to a gateway that trusts
whoever is local, that would be an operator's hand. Browsers say whence a request comes (`Sec-Fetch-Site`, older ones
`Origin`), and a page cannot change what they say; other clients send neither.
"""

from collections.abc import Iterable

from .problems import refuse

__all__ = ["check_site"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({b"same-origin", b"none"})
_TELLING = frozenset({b"sec-fetch-site", b"origin", b"host"})


def check_site(method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a request that may change something and comes from a page of another site."""
    if method in _SAFE:
        return
    told = {name: value.strip().lower() for name, value in headers if name in _TELLING}
    site, origin = told.get(b"sec-fetch-site"), told.get(b"origin")
    same = origin is None or origin.partition(b"://")[2] == told.get(b"host")
    ours = same if site is None else site in _OURS
    if not ours:
        raise refuse("cross-site", "A page of another site may not ask for this: use the `ensue` command or the API.")
