"""The HTTP connection to a served engine: one request, one document.

Rules: a problem document becomes the matching error of ensue, and a failed connection an error of one line that says
what to do. Proxies from the environment are not used for this machine. Each request names the user, for the audit.
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

__all__ = ["Connection", "user_name"]

M = TypeVar("M", bound=BaseModel)
_TIMEOUT_SECONDS = 30.0
_NOT_FOUND = 404
_INVALID = frozenset({400, 422})
_BY_PROBLEM: Mapping[str, type[EnsueError]] = {
    "urn:ensue:problem:letter-unknown": LetterUnknown,
    "urn:ensue:problem:breaker-unknown": BreakerUnknown,
    "urn:ensue:problem:pipeline-unknown": WrongUse,
}


def user_name() -> str:
    """The name of the user who runs this program."""
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
            raise WrongUse(f"invalid --url {url!r}: {error}; write for example http://127.0.0.1:8484") from None
        if base.scheme not in ("http", "https") or not base.host:
            raise WrongUse(f"invalid --url {url!r}: write for example http://127.0.0.1:8484")
        name = user_name()
        headers = {HEADER: name} if name.isascii() and name.isprintable() else {}
        is_local = is_loopback(base.host)
        self._client = httpx.Client(base_url=base, timeout=_TIMEOUT_SECONDS, trust_env=not is_local, headers=headers)

    def read(
        self, model: type[M], method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> M:
        """Send a request and validate the document in the answer. Raises what `send` raises."""
        answer = self.send(method, path, query, body)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            msg = f"{self._url} sent an unexpected answer"
            raise EnsueError(f"{msg}: check that it is an ensue server of the same version") from None

    def send(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> httpx.Response:
        """Send a request. Raises the error that matches a problem, or `EnsueError` if there is no answer."""
        try:
            answer = self._client.request(method, path, params=query, json=body)
        except httpx.TimeoutException:
            raise EnsueError(
                f"{self._url} did not answer within {_TIMEOUT_SECONDS:g} s: check the log of the server"
            ) from None
        except httpx.HTTPError as error:
            raise EnsueError(_unreachable(self._url, error)) from None
        if answer.is_success:
            return answer
        raise _error_of(answer, self._url)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _unreachable(url: str, error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError):
        return (
            f"no engine answers at {url}: start one (ensue serve TARGET), name another one with --url, "
            "or use a store directly with --store sqlite:///ensue.db"
        )
    return f"{url}: {str(error) or type(error).__name__}; check that it is an ensue server"


def _error_of(answer: httpx.Response, url: str) -> EnsueError:
    try:
        problem: Any = answer.json()
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return EnsueError(
            f"{url} answered {answer.status_code} {answer.reason_phrase}: check that it is an ensue server"
        )
    known = _BY_PROBLEM.get(str(problem.get("type")))
    if known is not None:
        return known(detail)
    if answer.status_code == _NOT_FOUND:
        return RunUnknown(detail)
    return EventInvalid(detail) if answer.status_code in _INVALID else EnsueError(detail)
