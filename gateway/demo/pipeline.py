"""The pipeline of the demo: what a maintainer should look at first, and why.

    push          unfold ─▶ inspect, file by file, in parallel ─▶ summarise ─▶ Triaged
    pull_request  weigh ─▶ Routine | Serious ─┐
    and issues    read ──▶ Topics ────────────┴▶ assign | escalate ─▶ Triaged

Rules: a step takes about a second, as if it called a service, so that one can watch it. Each attempt is noted first in
the file that ENSUE_DEMO_JOURNAL names, so the demo knows what really ran.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from ...events.model.context import Context
from ...events.model.event import Event
from ...events.model.webhook import Webhook
from ...events.pipelines.pipeline import Pipeline
from ..ingest.signing import GitHub

__all__ = ["JOURNAL_ENV", "SECRET_ENV", "triage"]

JOURNAL_ENV = "ENSUE_DEMO_JOURNAL"
SECRET_ENV = "GITHUB_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable, not its value
SERIOUS_LINES = 400
_MOST_FILES = 100
_MOST_CHARACTERS = 10_000
_TOPICS = {
    "crash": ("crash", "segfault", "panic", "traceback"),
    "security": ("secur", "cve-", "vulnerab", "token"),
    "docs": ("readme", "typo", "docs", "spelling"),
    "speed": ("slow", "fast", "cache", "latency"),
}


class Pushed(Event):
    """A push, with the files that its commits touched."""

    repository: str
    branch: str
    pusher: str
    files: list[str]


class PullRequestOpened(Event):
    """A pull request, and its size in lines."""

    repository: str
    number: int
    text: str
    lines: int


class IssueOpened(Event):
    """An issue."""

    repository: str
    number: int
    text: str


class FileTouched(Event):
    """One file of a push."""

    path: str


class FileInspected(Event):
    """An inspected file, and what is wrong with it."""

    path: str
    worry: str | None


class Routine(Event):
    """A change that anybody can review."""

    subject: str


class Serious(Event):
    """A change that needs an expert."""

    subject: str
    why: str


class Topics(Event):
    """The topics of a change."""

    names: list[str]


class Triaged(Event):
    """The result of every run."""

    subject: str
    priority: Literal["now", "today", "some day"]
    summary: str


triage = Pipeline("triage", description="What a maintainer should look at first, and why")


@triage.webhook("github", verify=GitHub(secret_env=SECRET_ENV))
def from_github(hook: Webhook) -> Pushed | PullRequestOpened | IssueOpened | None:
    """The event of a delivery, or None to ignore it."""
    translate = _TRANSLATORS.get(hook.event or "")
    return None if translate is None else translate(hook.json())


@triage.step
async def unfold(push: Pushed, ctx: Context) -> list[FileTouched]:
    """Emit one event for each file."""
    await _work(ctx, 0.3)
    return [FileTouched(path=path) for path in push.files]


@triage.step(concurrency=2)
async def inspect(file: FileTouched, ctx: Context) -> FileInspected:
    """Look for secrets, in two files at a time."""
    await _work(ctx, 1.2)
    is_secret = file.path.endswith((".pem", ".key", ".env"))
    return FileInspected(path=file.path, worry=f"{file.path} is a secret" if is_secret else None)


@triage.step
async def summarise(push: Pushed, files: list[FileInspected], ctx: Context) -> Triaged:
    """Join all inspected files of the push."""
    await _work(ctx, 0.5)
    worries = sorted(file.worry for file in files if file.worry)
    return Triaged(
        subject=f"push to {push.branch}",
        priority="now" if worries else "some day",
        summary="; ".join(worries) or f"{len(files)} files, nothing to worry about",
    )


@triage.step
async def weigh(change: PullRequestOpened | IssueOpened, ctx: Context) -> Routine | Serious:
    """Branch by the size and the text of the change."""
    await _work(ctx, 0.8)
    subject = f"{'pull request' if isinstance(change, PullRequestOpened) else 'issue'} {change.number}"
    if isinstance(change, PullRequestOpened) and change.lines > SERIOUS_LINES:
        return Serious(subject=subject, why=f"{change.lines} lines")
    if "crash" in _topics(change.text):
        return Serious(subject=subject, why="somebody is stuck")
    return Routine(subject=subject)


@triage.step
async def read(change: PullRequestOpened | IssueOpened, ctx: Context) -> Topics:
    """Find the topics, in parallel with `weigh`."""
    await _work(ctx, 0.6)
    return Topics(names=_topics(change.text))


@triage.step
async def assign(routine: Routine, topics: Topics, ctx: Context) -> Triaged:
    """Join both for a routine change."""
    await _work(ctx, 0.5)
    return Triaged(subject=routine.subject, priority="today", summary=f"for anybody, {_listed(topics)}")


@triage.step
async def escalate(serious: Serious, topics: Topics, ctx: Context) -> Triaged:
    """Join both for a serious change."""
    await _work(ctx, 4.0)
    return Triaged(subject=serious.subject, priority="now", summary=f"{serious.why}, {_listed(topics)}")


async def _work(ctx: Context, seconds: float) -> None:
    """Stand in for real work: note the attempt in the journal, and wait."""
    _note(ctx)
    await asyncio.sleep(seconds)


def _note(ctx: Context) -> None:
    """Append one line to the journal; a line this short is written whole or not at all."""
    journal = os.environ.get(JOURNAL_ENV)
    if journal:
        line = {"run": ctx.run_id, "step": ctx.step, "key": ctx.idempotency_key, "attempt": ctx.attempt}
        with Path(journal).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "time": time.time()}) + "\n")


def _topics(text: str) -> list[str]:
    lower = text.lower()
    return [topic for topic, words in _TOPICS.items() if any(word in lower for word in words)]


def _listed(topics: Topics) -> str:
    return f"about {' and '.join(topics.names)}" if topics.names else "about the code"


def _push(payload: Any) -> Pushed:
    commits = _items(payload, "commits")
    paths = [path for commit in commits for kind in ("added", "modified") for path in _items(commit, kind)]
    texts = [path[:_MOST_CHARACTERS] for path in paths if isinstance(path, str)]
    return Pushed(
        repository=_text(payload, "repository", "full_name"),
        branch=_text(payload, "ref").removeprefix("refs/heads/"),
        pusher=_text(payload, "pusher", "name"),
        files=list(dict.fromkeys(texts))[:_MOST_FILES],
    )


def _pull_request(payload: Any) -> PullRequestOpened | None:
    if _text(payload, "action") not in ("opened", "reopened", "synchronize", "ready_for_review"):
        return None
    change = _at(payload, "pull_request")
    return PullRequestOpened(
        repository=_text(payload, "repository", "full_name"),
        number=_number(change, "number"),
        text=f"{_text(change, 'title')} {_text(change, 'body')}",
        lines=_number(change, "additions") + _number(change, "deletions"),
    )


def _issue(payload: Any) -> IssueOpened | None:
    if _text(payload, "action") not in ("opened", "reopened"):
        return None
    issue = _at(payload, "issue")
    return IssueOpened(
        repository=_text(payload, "repository", "full_name"),
        number=_number(issue, "number"),
        text=f"{_text(issue, 'title')} {_text(issue, 'body')}",
    )


def _at(payload: object, *path: str) -> object:
    for name in path:
        payload = cast("Mapping[str, object]", payload).get(name) if isinstance(payload, Mapping) else None
    return payload


def _text(payload: object, *path: str) -> str:
    value = _at(payload, *path)
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else ""


def _number(payload: object, *path: str) -> int:
    value = _at(payload, *path)
    return min(max(value, 0), 2**53) if isinstance(value, int) else 0


def _items(payload: object, *path: str) -> list[object]:
    value = _at(payload, *path)
    return cast("list[object]", value) if isinstance(value, list) else []


_TRANSLATORS: Mapping[str, Callable[[Any], Pushed | PullRequestOpened | IssueOpened | None]] = {
    "push": _push,
    "pull_request": _pull_request,
    "issues": _issue,
}
