"""The caller of an operator's route, as the audit names it.

Rules: the address of the request is always included. The name that a client sends in `Ensue-Who`, as the command line
does, is added to it; it is not verified.
"""

from typing import Annotated

from fastapi import Depends, Request

__all__ = ["HEADER", "Caller"]

HEADER = "ensue-who"
_LONGEST_NAME = 64


def _caller(request: Request) -> str:
    host = request.client.host if request.client else "unknown"
    given = request.headers.get(HEADER, "").strip()
    if given and given.isprintable() and len(given) <= _LONGEST_NAME:
        return f"http {host} ({given})"
    return f"http {host}"


Caller = Annotated[str, Depends(_caller)]
