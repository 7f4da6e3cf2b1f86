"""The signed webhook of the benchmark: the same body, the same secret and the same model for every server."""

import json
from hmac import digest

from ensue import Event, Pipeline, Webhook, hooks

__all__ = ["BODY", "SECRET", "SECRET_ENV", "SIGNATURE", "Pushed", "deliveries"]

SECRET_ENV = "ENSUE_BENCHMARK_SECRET"  # noqa: S105 - the name of a variable
SECRET = "a secret of the benchmark"  # noqa: S105 - it guards nothing
BODY_BYTES = 300


class Pushed(Event):
    """A push, as GitHub reports it."""

    repository: str
    ref: str
    sender: str
    size: int
    note: str


deliveries = Pipeline("deliveries")


@deliveries.step
def receive(event: Pushed) -> None:
    """The one subscriber, so that accepted events are processed too."""


@deliveries.webhook("github", verify=hooks.GitHub(secret_env=SECRET_ENV))
def from_github(webhook: Webhook) -> Pushed:
    return Pushed.model_validate(webhook.json())


def _body() -> bytes:
    fields = {"repository": "aurora-lab/telescope", "ref": "refs/heads/main", "sender": "mira", "size": 3}
    room = BODY_BYTES - len(json.dumps({**fields, "note": ""}))
    return json.dumps({**fields, "note": "x" * room}).encode()


BODY = _body()
SIGNATURE = "sha256=" + digest(SECRET.encode(), BODY, "sha256").hex()
