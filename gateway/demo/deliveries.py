"""The deliveries of the demo: webhooks of a small, invented repository, signed as GitHub signs them.

Rules: the payloads have GitHub's format, reduced to the usual fields.
"""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

__all__ = ["DELIVERIES", "DemoDelivery", "headers_of"]

_REPOSITORY = {
    "id": 731_204_118,
    "name": "telescope",
    "full_name": "aurora-lab/telescope",
    "private": False,
    "html_url": "https://github.com/aurora-lab/telescope",
    "default_branch": "main",
    "owner": {"login": "aurora-lab", "id": 55_120_903, "type": "Organization"},
}


@dataclass(frozen=True, slots=True)
class DemoDelivery:
    """One webhook delivery."""

    id: str
    """The id of the delivery (`X-GitHub-Delivery`)."""
    kind: str
    """The kind of event (`X-GitHub-Event`)."""
    title: str
    """The name that the demo shows for it."""
    body: bytes


def headers_of(delivery: DemoDelivery, secret: str) -> dict[str, str]:
    """The headers that GitHub sends with a delivery."""
    return {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/demo",
        "x-github-event": delivery.kind,
        "x-github-delivery": delivery.id,
        "x-hub-signature-256": f"sha256={hmac.new(secret.encode(), delivery.body, sha256).hexdigest()}",
    }


def _delivery(kind: str, title: str, sender: str, payload: Mapping[str, Any]) -> DemoDelivery:
    complete = {**payload, "repository": _REPOSITORY, "sender": {"login": sender, "type": "User"}}
    guid = str(uuid5(NAMESPACE_URL, title))
    return DemoDelivery(guid, kind, title, json.dumps(complete).encode())


def _push(branch: str, sender: str, *commits: dict[str, Any]) -> DemoDelivery:
    payload: dict[str, Any] = {
        "ref": f"refs/heads/{branch}",
        "before": _sha(f"{branch} before"),
        "after": commits[-1]["id"],
        "created": False,
        "deleted": False,
        "forced": False,
        "pusher": {"name": sender, "email": f"{sender}@aurora-lab.example"},
        "commits": list(commits),
        "head_commit": commits[-1],
    }
    return _delivery("push", f"push to {branch}", sender, payload)


def _commit(message: str, *, added: tuple[str, ...] = (), modified: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "id": _sha(message),
        "message": message,
        "distinct": True,
        "author": {"name": "Mira Sol", "username": "mira"},
        "added": list(added),
        "modified": list(modified),
        "removed": [],
    }


def _pull_request(
    number: int, title: str, body: str, sender: str, *, added: int, deleted: int, files: int
) -> DemoDelivery:
    change: dict[str, Any] = {
        "number": number,
        "state": "open",
        "title": title,
        "body": body,
        "draft": False,
        "merged": False,
        "user": {"login": sender, "type": "User"},
        "labels": [],
        "additions": added,
        "deletions": deleted,
        "changed_files": files,
        "commits": 1 + files // 5,
    }
    payload: dict[str, Any] = {"action": "opened", "number": number, "pull_request": change}
    return _delivery("pull_request", f"pull request {number}", sender, payload)


def _issue(number: int, title: str, body: str, sender: str) -> DemoDelivery:
    issue: dict[str, Any] = {
        "number": number,
        "state": "open",
        "title": title,
        "body": body,
        "user": {"login": sender, "type": "User"},
        "labels": [],
        "comments": 0,
    }
    return _delivery("issues", f"issue {number}", sender, {"action": "opened", "issue": issue})


def _sha(text: str) -> str:
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


DELIVERIES = (
    _push(
        "main",
        "mira",
        _commit("Point at the comet", added=("telescope/comet.py", "tests/test_comet.py"), modified=("README.md",)),
        _commit("Deploy from here", added=("deploy/run.sh", "deploy/prod.key"), modified=("pyproject.toml",)),
        _commit("Track it for an hour", modified=("telescope/motor.py", "telescope/comet.py", "docs/tracking.md")),
    ),
    _pull_request(
        418,
        "Rewrite the motor control",
        "Replaces the polling loop. Latency goes down from 40 ms to 3 ms; tokens of the old API are refused now.",
        "jonas",
        added=1240,
        deleted=310,
        files=24,
    ),
    _pull_request(
        419, "Fix a typo in the README", "teh telescope -> the telescope", "lena", added=1, deleted=1, files=1
    ),
    _issue(
        97,
        "Crash when the dome closes",
        "Segfault in libdome after about an hour, traceback below.",
        "observer-42",
    ),
    _push(
        "night-mode",
        "jonas",
        _commit("Dim the lights", added=("telescope/lights.py",), modified=("telescope/dome.py", "docs/night.md")),
    ),
    _delivery("ping", "ping", "mira", {"zen": "Keep it logically awesome.", "hook_id": 480_112_233}),
)
