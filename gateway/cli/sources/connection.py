"""The connection to a served engine: one request, one document.

Rules: a problem of the gateway becomes the error that it stands for; whatever keeps it from answering is one line that
says what to do. A proxy of the environment is not asked for what is on this machine. Whoever asks is named, for the audit.
"""

import getpass
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from ....events.errors import BreakerUnknown, EnsueError, EventInvalid, LetterUnknown, RunUnknown
from ...api.caller import HEADER
from ...http.listen import is_loopback
from ..exit_codes import WrongUse

__all__ = ["Connection", "user"]

M = TypeVar("M", bound=BaseModel)
_TIMEOUT_SECONDS = 30.0
_NOT_FOUND = 404
_INVALID = frozenset({400, 422})
_BY_PROBLEM: Mapping[str, type[EnsueError]] = {
    "urn:ensue:problem:letter-unknown": LetterUnknown,
    "urn:ensue:problem:breaker-unknown": BreakerUnknown,
    "urn:ensue:problem:pipeline-unknown": WrongUse,
}


def user() -> str:
    """The name of whoever runs this program, as the system has it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return "unknown"


class Connection:
    """A served engine at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            base = httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise WrongUse(f"--url {url!r} is no address: {error}; write http://127.0.0.1:8484") from None
        if base.scheme not in ("http", "https") or not base.host:
            raise WrongUse(f"--url {url!r} is no address: write http://127.0.0.1:8484")
        name = user()
        headers = {HEADER: name} if name.isascii() and name.isprintable() else {}
        is_near = is_loopback(base.host)
        self._client = httpx.Client(base_url=base, timeout=_TIMEOUT_SECONDS, trust_env=not is_near, headers=headers)

    def read(
        self, model: type[M], method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> M:
        """The document that answers a request."""
        answer = self.send(method, path, query, body)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            msg = f"{self._url} does not answer as this ensue expects"
            raise EnsueError(f"{msg}: is it another program, or another version?") from None

    def send(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> httpx.Response:
        """The answer to a request. Raises what a problem stands for."""
        try:
            answer = self._client.request(method, path, params=query, json=body)
        except httpx.TimeoutException:
            raise EnsueError(f"{self._url} did not answer within {_TIMEOUT_SECONDS:g} s: is it busy or gone?") from None
        except httpx.HTTPError as error:
            raise EnsueError(_unreachable(self._url, error)) from None
        if answer.is_success:
            return answer
        raise _error_of(answer, self._url)

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


def _unreachable(url: str, error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError):
        return (
            f"no engine answers at {url}: start one (ensue serve TARGET), name another with --url, "
            "or read a store with --store sqlite:///ensue.db"
        )
    return f"{url}: {str(error) or type(error).__name__}; is that an ensue?"


def _error_of(answer: httpx.Response, url: str) -> EnsueError:
    try:
        problem: Any = answer.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return EnsueError(f"{url} answered {answer.status_code} {answer.reason_phrase}: is that an ensue?")
    known = _BY_PROBLEM.get(str(problem.get("type")))
    if known is not None:
        return known(detail)
    if answer.status_code == _NOT_FOUND:
        return RunUnknown(detail)
    return EventInvalid(detail) if answer.status_code in _INVALID else EnsueError(detail)
