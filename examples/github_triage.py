"""GitHub triage: signed webhooks become typed events; branch on size and content, fan out over files, join.

    export GITHUB_WEBHOOK_SECRET=...           # the secret that GitHub signs with
    ensue serve examples/github_triage.py      # then let a repository send its webhooks to /hooks/github

Every delivery that GitHub can send is accepted. Four kinds become events; the others (`ping`, `star`, ...) are answered
with 202 and start no run.

- pull_request: `weigh` branches on its size while `read` looks for topics; both are joined into the answer.
- push: one event for each file that its commits changed; they are inspected in parallel and gathered into a summary.
- issues: `sort_issue` branches on its words.
- check_run: only a failed one leads to an event.
"""
# ruff: noqa: D101, S106 - the name and the fields of an event say what it is; the secret is in the environment

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal, cast

from ensue import Event, Pipeline, Webhook, hooks

Priority = Literal["now", "soon", "whenever"]
Area = Literal["code", "tests", "docs", "build", "secrets"]


# Events that come in.


class PullRequestChanged(Event):
    repository: str
    action: str
    number: int
    title: str
    body: str
    lines: int
    files: int
    labels: list[str]


class Pushed(Event):
    """Files are listed as [change, path]; a file that several commits changed is listed once, with its last change."""

    repository: str
    branch: str
    pusher: str
    commits: int
    forced: bool
    deleted: bool
    files: list[tuple[str, str]]


class IssueChanged(Event):
    repository: str
    action: str
    number: int
    title: str
    body: str
    labels: list[str]


class CheckRunChanged(Event):
    repository: str
    name: str
    conclusion: str
    commit: str
    pull_requests: list[int]


# Events inside the pipeline.


class SmallChange(Event):
    repository: str
    number: int
    lines: int


class LargeChange(Event):
    repository: str
    number: int
    lines: int
    files: int


class Topics(Event):
    names: list[str]


class FileTouched(Event):
    change: str
    path: str


class FileInspected(Event):
    path: str
    area: Area
    worry: str | None


class BugReported(Event):
    repository: str
    number: int
    is_crash: bool


class Wished(Event):
    repository: str
    number: int


# Results.


class Triaged(Event):
    repository: str
    subject: str
    priority: Priority
    labels: list[str]
    summary: str


triage = Pipeline("github-triage", description="What a maintainer should look at first, and why")

LARGE_LINES = 400
CLOSING = frozenset({"closed", "locked", "unlocked"})
ASKING = frozenset({"opened", "edited", "reopened", "labeled"})
FAILING = frozenset({"failure", "timed_out", "action_required"})
MOST_FILES = 1_000
MOST_CHARACTERS = 20_000


@triage.webhook("github", verify=hooks.GitHub(secret_env="GITHUB_WEBHOOK_SECRET"))
def from_github(hook: Webhook) -> PullRequestChanged | Pushed | IssueChanged | CheckRunChanged | None:
    """The event of a delivery; None if there is none for it."""
    translate = TRANSLATORS.get(hook.event or "")
    return None if translate is None else translate(hook.json())


# Pull requests: two steps look at one event, and their answers are joined.


@triage.step
def weigh(change: PullRequestChanged) -> SmallChange | LargeChange | None:
    if change.action in CLOSING:
        return None
    if change.lines <= LARGE_LINES:
        return SmallChange(repository=change.repository, number=change.number, lines=change.lines)
    return LargeChange(repository=change.repository, number=change.number, lines=change.lines, files=change.files)


@triage.step
def read(change: PullRequestChanged) -> Topics:
    return Topics(names=topics_of(change.title, change.body, *change.labels))


@triage.step
def approve(change: SmallChange, topics: Topics) -> Triaged:
    urgent = "security" in topics.names
    return Triaged(
        repository=change.repository,
        subject=f"pull request {change.number}",
        priority="now" if urgent else "soon",
        labels=["small", *topics.names],
        summary=f"{change.lines} lines: one reviewer, today",
    )


@triage.step
def plan_review(change: LargeChange, topics: Topics) -> Triaged:
    return Triaged(
        repository=change.repository,
        subject=f"pull request {change.number}",
        priority="now" if "security" in topics.names else "whenever",
        labels=["large", *topics.names],
        summary=f"{change.lines} lines in {change.files} files: ask for it in {1 + change.lines // LARGE_LINES} parts",
    )


# Pushes: one event for each file, gathered into one.


@triage.step
def unfold(push: Pushed) -> list[FileTouched]:
    return [FileTouched(change=change, path=path) for change, path in push.files]


@triage.step(replicas=2)
def inspect(file: FileTouched) -> FileInspected:
    area = area_of(file.path)
    worry = None
    if area == "secrets" and file.change != "removed":
        worry = f"{file.path} looks like a secret"
    elif area == "tests" and file.change == "removed":
        worry = f"{file.path} is a test that went away"
    return FileInspected(path=file.path, area=area, worry=worry)


@triage.step
def summarise(push: Pushed, files: list[FileInspected]) -> Triaged:
    worries = sorted(file.worry for file in files if file.worry)  # files come in the order in which they were finished
    if push.forced:
        worries.append("history was rewritten")
    areas = Counter(sorted(file.area for file in files))
    touched = ", ".join(f"{count} {area}" for area, count in areas.most_common()) or "no files"
    happened = "deleted" if push.deleted else f"commits: {push.commits}, files: {touched}"
    return Triaged(
        repository=push.repository,
        subject=f"push to {push.branch} by {push.pusher}",
        priority="now" if worries else "whenever",
        labels=[*areas],
        summary="; ".join([happened, *worries]),
    )


# Issues and checks.


@triage.step
def sort_issue(issue: IssueChanged) -> BugReported | Wished | None:
    if issue.action not in ASKING:
        return None
    topics = topics_of(issue.title, issue.body, *issue.labels)
    if "bug" in topics or "crash" in topics:
        return BugReported(repository=issue.repository, number=issue.number, is_crash="crash" in topics)
    return Wished(repository=issue.repository, number=issue.number)


@triage.step
def answer_issue(issue: BugReported | Wished) -> Triaged:
    is_bug = isinstance(issue, BugReported)
    is_crash = isinstance(issue, BugReported) and issue.is_crash
    return Triaged(
        repository=issue.repository,
        subject=f"issue {issue.number}",
        priority="now" if is_crash else "soon" if is_bug else "whenever",
        labels=["bug"] if is_bug else ["wish"],
        summary="it crashes: reproduce it" if is_crash else "somebody is waiting for an answer",
    )


@triage.step
def blame(check: CheckRunChanged) -> Triaged | None:
    if check.conclusion not in FAILING:
        return None
    where = ", ".join(f"#{number}" for number in check.pull_requests) or check.commit[:7]
    return Triaged(
        repository=check.repository,
        subject=f"check {check.name}",
        priority="soon",
        labels=["ci"],
        summary=f"{check.conclusion} on {where}",
    )


# Words and paths.

_TOPICS = {
    "crash": r"crash\w*|segfault\w*|panic\w*|traceback",
    "bug": r"bug\w*|fix\w*|broken|wrong|error\w*",
    "security": r"secur\w*|cve-\d+\S*|vulnerab\w*|exploit\w*",
    "docs": r"docs?|readme|documentation|typos?|spelling",
    "performance": r"slow\w*|fast\w*|perf\w*|latency",
}
_TOPIC_PATTERNS = {topic: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for topic, words in _TOPICS.items()}
_SECRETS = re.compile(r"(^|/)(\.env(\.\w+)?|id_(rsa|ed25519)|[^/]*\.(pem|key|p12)|credentials[^/]*)$", re.IGNORECASE)
_BUILD = frozenset({"dockerfile", "makefile", "package.json", "pyproject.toml", "go.mod", "cargo.toml"})


def topics_of(*texts: str) -> list[str]:
    """The topics of the texts."""
    return [topic for topic, pattern in _TOPIC_PATTERNS.items() if any(pattern.search(text) for text in texts)]


def area_of(path: str) -> Area:
    """The kind of the file at a path."""
    parts = PurePosixPath(path.lower()).parts
    name = parts[-1] if parts else ""
    if _SECRETS.search(path):
        return "secrets"
    if any(part in ("test", "tests", "spec") for part in parts) or name.startswith("test_"):
        return "tests"
    if any(part in ("doc", "docs") for part in parts) or name.endswith((".md", ".rst", ".txt")):
        return "docs"
    if name in _BUILD or ".github" in parts or name.endswith((".lock", ".yml", ".yaml")):
        return "build"
    return "code"


# GitHub's payloads. Any field may be null or missing, whatever its documentation says.


def at(payload: object, *path: str) -> object:
    """The value at a path of names; None if there is none."""
    for name in path:
        payload = cast("Mapping[str, object]", payload).get(name) if isinstance(payload, Mapping) else None
    return payload


def text(payload: object, *path: str) -> str:
    """A text, shortened; empty if there is none."""
    value = at(payload, *path)
    return value[:MOST_CHARACTERS] if isinstance(value, str) else ""


def number(payload: object, *path: str) -> int:
    """A count; 0 if there is none."""
    value = at(payload, *path)
    return min(max(value, 0), 2**53) if isinstance(value, int) else 0


def items(payload: object, *path: str) -> list[object]:
    """A list; empty if there is none."""
    value = at(payload, *path)
    return cast("list[object]", value) if isinstance(value, list) else []


def names(values: Iterable[object]) -> list[str]:
    """The names of labels and the like."""
    return [name for value in values if (name := text(value, "name"))]


def _pull_request(payload: object) -> PullRequestChanged | None:
    change = at(payload, "pull_request")
    if not change:
        return None
    return PullRequestChanged(
        repository=text(payload, "repository", "full_name"),
        action=text(payload, "action"),
        number=number(change, "number"),
        title=text(change, "title"),
        body=text(change, "body"),
        lines=number(change, "additions") + number(change, "deletions"),
        files=number(change, "changed_files"),
        labels=names(items(change, "labels")),
    )


def _push(payload: object) -> Pushed:
    commits = items(payload, "commits")
    files = {
        path[:MOST_CHARACTERS]: change
        for commit in commits
        for change in ("added", "modified", "removed")
        for path in items(commit, change)
        if isinstance(path, str)
    }
    return Pushed(
        repository=text(payload, "repository", "full_name"),
        branch=text(payload, "ref").removeprefix("refs/heads/").removeprefix("refs/tags/"),
        pusher=text(payload, "pusher", "name"),
        commits=len(commits),
        forced=at(payload, "forced") is True,
        deleted=at(payload, "deleted") is True,
        files=[(change, path) for path, change in list(files.items())[:MOST_FILES]],
    )


def _issue(payload: object) -> IssueChanged | None:
    issue = at(payload, "issue")
    if not issue:
        return None
    return IssueChanged(
        repository=text(payload, "repository", "full_name"),
        action=text(payload, "action"),
        number=number(issue, "number"),
        title=text(issue, "title"),
        body=text(issue, "body"),
        labels=names(items(issue, "labels")),
    )


def _check_run(payload: object) -> CheckRunChanged | None:
    check = at(payload, "check_run")
    if not check:
        return None
    return CheckRunChanged(
        repository=text(payload, "repository", "full_name"),
        name=text(check, "name"),
        conclusion=text(check, "conclusion"),
        commit=text(check, "head_sha"),
        pull_requests=[number(request, "number") for request in items(check, "pull_requests")],
    )


TRANSLATORS: Mapping[str, Callable[[Any], PullRequestChanged | Pushed | IssueChanged | CheckRunChanged | None]] = {
    "pull_request": _pull_request,
    "push": _push,
    "issues": _issue,
    "check_run": _check_run,
}
