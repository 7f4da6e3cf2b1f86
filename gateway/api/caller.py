"""Who acts: the name that the audit keeps of whoever asks for something over HTTP.

Rules: where the request came from is always said; the name that a client gives of itself (`Ensue-Who`, as the command
line does) stands beside it and proves nothing.
"""

from typing import Annotated

from fastapi import Depends, Request

__all__ = ["HEADER", "Who"]

HEADER = "ensue-who"
_LONGEST = 64


def _who(request: Request) -> str:
    host = request.client.host if request.client else "unknown"
    given = request.headers.get(HEADER, "").strip()
    if given and given.isprintable() and len(given) <= _LONGEST:
        return f"http {host} ({given})"
    return f"http {host}"


Who = Annotated[str, Depends(_who)]
