"""The operations of an operator on a served engine, over its HTTP API."""

from typing import Any
from urllib.parse import quote

from ....events.errors import LetterUnknown
from ...schemas.dead_letters import DecidedOut, LetterDetailOut, LetterOut, LettersOut, RedrivenOut
from ...schemas.pipelines import RestartedOut
from ...schemas.status import BreakerOut, BreakersOut, StatusOut
from .connection import Connection
from .dead_letter_filter import DeadLetterFilter

__all__ = ["HttpOperations"]


class HttpOperations:
    """The operations on a served engine at `url`."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)

    def dead(self, filters: DeadLetterFilter, state: str, cursor: str | None, limit: int) -> LettersOut:
        query: dict[str, Any] = {**filters, "state": state, "limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        return self._connection.read(LettersOut, "GET", "/dead", query)

    def letter(self, letter_id: str) -> LetterDetailOut:
        return self._connection.read(LetterDetailOut, "GET", _letter(letter_id))

    def redrive(self, letter_id: str, data: Any) -> str:
        body = None if data is None else {"data": data}
        return self._connection.read(RedrivenOut, "POST", _letter(letter_id, "/redrive"), body=body).run_id

    def discard(self, letter_id: str) -> None:
        self._connection.read(LetterOut, "DELETE", _letter(letter_id))

    def decide_all(self, action: str, filters: DeadLetterFilter, limit: int | None) -> DecidedOut:
        body: dict[str, Any] = {**filters, "limit": limit, "all": not filters}
        return self._connection.read(DecidedOut, "POST", f"/dead/{action}", body=body)

    def breakers(self) -> BreakersOut:
        return self._connection.read(BreakersOut, "GET", "/breakers")

    def force(self, name: str, *, opens: bool, seconds: float | None) -> BreakerOut:
        path = f"/breakers/{quote(name, safe='/')}/{'open' if opens else 'close'}"
        body = {"seconds": seconds} if opens and seconds is not None else None
        return self._connection.read(BreakerOut, "POST", path, body=body)

    def status(self) -> StatusOut:
        return self._connection.read(StatusOut, "GET", "/status")

    def restart(self, pipeline: str) -> RestartedOut:
        return self._connection.read(RestartedOut, "POST", f"/pipelines/{quote(pipeline, safe='')}/restart")

    def close(self) -> None:
        self._connection.close()


def _letter(letter_id: str, rest: str = "") -> str:
    if not letter_id.replace("-", "").isalnum():
        raise LetterUnknown(f"{letter_id[:60]!r} is not the id of a dead letter: `ensue dead list` shows the ids")
    return f"/dead/{letter_id}{rest}"
