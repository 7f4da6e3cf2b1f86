"""Runs of a served engine, over its HTTP API.

Rules: a problem of the gateway becomes the error that it stands for; whatever keeps it from answering is one line that
says what to do. A proxy of the environment is not asked for what is on this machine.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from ..events.errors import EnsueError, EventInvalid, PipelineInvalid, RunUnknown
from ..events.graph import Graph
from ..events.status import Status
from .cli_exit import WrongUse
from .cli_sources import RunWatch
from .listen import is_loopback
from .progress import Frame, StepLine, causal_order, waits_for
from .schemas import EventsOut, RunDetailOut, RunOut, RunsOut, StepOut

__all__ = ["HttpSource"]

M = TypeVar("M", bound=BaseModel)
_TIMEOUT_SECONDS = 30.0
_NOT_FOUND = 404
_INVALID = frozenset({400, 422})


class HttpSource:
    """A served engine at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            base = httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise WrongUse(f"--url {url!r} is no address: {error}; write http://127.0.0.1:8484") from None
        if base.scheme not in ("http", "https") or not base.host:
            raise WrongUse(f"--url {url!r} is no address: write http://127.0.0.1:8484")
        self._client = httpx.Client(base_url=base, timeout=_TIMEOUT_SECONDS, trust_env=not is_loopback(base.host))

    def runs(self, pipeline: str | None, statuses: Sequence[str], cursor: str | None, limit: int) -> RunsOut:
        given = {"pipeline": pipeline, "cursor": cursor, "limit": limit}
        query: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if statuses:
            query["status"] = list(statuses)
        return self._read(RunsOut, "GET", "/runs", query)

    def run(self, run_id: str) -> RunDetailOut:
        return self._read(RunDetailOut, "GET", _path(run_id))

    def events(self, run_id: str) -> EventsOut:
        return self._read(EventsOut, "GET", _path(run_id, "/events"))

    def watch(self, run_id: str) -> RunWatch:
        return _HttpWatch(self, run_id)

    def cancel(self, run_id: str) -> RunOut:
        return self._read(RunOut, "POST", _path(run_id, "/cancel"))

    def retry(self, run_id: str) -> RunOut:
        return self._read(RunOut, "POST", _path(run_id, "/retry"))

    def graph(self, pipeline: str) -> Graph | None:
        """The graph of a pipeline that is served there."""
        try:
            return Graph.from_json(self._send("GET", f"/pipelines/{pipeline}/graph").content)
        except (RunUnknown, PipelineInvalid):
            return None

    def close(self) -> None:
        self._client.close()

    def _read(self, model: type[M], method: str, path: str, query: Mapping[str, Any] | None = None) -> M:
        answer = self._send(method, path, query)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            msg = f"{self._url} does not answer as this ensue expects"
            raise EnsueError(f"{msg}: is it another program, or another version?") from None

    def _send(self, method: str, path: str, query: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            answer = self._client.request(method, path, params=query)
        except httpx.TimeoutException:
            raise EnsueError(f"{self._url} did not answer within {_TIMEOUT_SECONDS:g} s: is it busy or gone?") from None
        except httpx.HTTPError as error:
            raise EnsueError(_unreachable(self._url, error)) from None
        if answer.is_success:
            return answer
        raise _error_of(answer, self._url)


class _HttpWatch:
    """A run of a served engine; its steps are pictured from the counts that the API gives."""

    def __init__(self, source: HttpSource, run_id: str) -> None:
        self._source = source
        self._run_id = run_id
        self._document = source.run(run_id)
        self._graph = source.graph(self._document.pipeline)

    def frame(self) -> Frame:
        self._document = self._source.run(self._run_id)
        return frame_of(self._document, self._graph)

    def document(self) -> RunDetailOut:
        return self._document

    def close(self) -> None:
        self._source.close()


def frame_of(run: RunDetailOut, graph: Graph | None) -> Frame:
    """The picture of a document."""
    order = [] if graph is None else causal_order(graph, run.trigger_type)
    lines = {name: StepLine(name, waits_for(graph, name)) for name in order}
    for step in run.steps:
        _fill(lines.setdefault(step.name, StepLine(step.name)), step, run)
    finished_us = None if run.finished is None else _micros(run.finished)
    status = Status[run.status.upper()]
    return Frame(
        run.pipeline, run.run_id, run.trigger_type, status, _micros(run.started), finished_us, tuple(lines.values())
    )


def _fill(line: StepLine, step: StepOut, run: RunDetailOut) -> None:
    """The API tells no delivery from another: what was tried again and is not at work now waits for its next attempt."""
    line.attempts, line.running, line.done, line.failed = step.attempts, step.running, step.done, step.failed
    is_waiting = Status[run.status.upper()].live and step.retried and not (step.running or step.done or step.failed)
    line.retrying = 1 if is_waiting else 0
    line.began_us = _micros(run.started)
    took_ms = min(step.total_duration_ms, run.duration_ms or step.total_duration_ms)
    line.ended_us = line.began_us + int(took_ms * 1000)
    line.error = next((f"{e.error}: {e.message}" for e in run.errors if e.step == step.name), "")


def _micros(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


def _path(run_id: str, rest: str = "") -> str:
    if not run_id.replace("-", "").isalnum():
        raise RunUnknown(f"{run_id[:60]!r} is no id of a run: `ensue runs list` shows them")
    return f"/runs/{run_id}{rest}"


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
    if answer.status_code == _NOT_FOUND:
        return RunUnknown(detail)
    return EventInvalid(detail) if answer.status_code in _INVALID else EnsueError(detail)
