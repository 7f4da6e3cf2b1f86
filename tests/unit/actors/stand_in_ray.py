"""A Ray that answers what a test says, and what tests of supervisors on their own threads share."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ensue import Backoff, Supervision
from ensue.actors.pool import root_client as root_watch
from ensue.actors.pool import supervisor_clients as branches
from ensue.actors.supervision import pipeline_supervisor, step_supervisor
from ensue.actors.supervision import supervisor_actor as supervising
from ensue.actors.supervision import supervisor_parent as parent
from ensue.actors.supervision.orders import (
    SupervisorSpec,
)
from ensue.actors.supervision.supervisor_actor import SupervisionTimeouts, SupervisorActor
from ensue.cluster.processes import mark_of

__all__ = ["QUICK", "SECONDS", "Actor", "Ray", "awaited", "charter", "first", "ray", "reported", "running"]
SECONDS = 10.0
QUICK = Supervision(backoff=Backoff(0.01, 1.0, 0.01, 0.0))


class Actor:
    """An actor's handle: notes what it is told, and answers once a test does."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.answers: dict[str, Future[Any]] = {}

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Any:
            self.told.append((method, *arguments))
            answer = self.answers[method] = Future()
            return SimpleNamespace(future=lambda: answer)

        def options(**_: Any) -> Any:
            return SimpleNamespace(remote=remote)

        return SimpleNamespace(remote=remote, options=options)


class Ray:
    """The part of Ray that supervisors use."""

    def __init__(self) -> None:
        self.killed: list[Any] = []
        self.util = self

    def kill(self, actor: Any, *, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(actor)

    def list_named_actors(self, *, all_namespaces: bool) -> list[Any]:
        assert all_namespaces
        return []

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(current_actor=None)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    for module in (branches, parent, pipeline_supervisor, root_watch, step_supervisor, supervising):
        if hasattr(module, "ray_module"):
            monkeypatch.setattr(module, "ray_module", lambda: fake)
    monkeypatch.setattr(step_supervisor, "forget_births", Mock())
    monkeypatch.setattr(step_supervisor, "look_up_birth", Mock(return_value=None))
    monkeypatch.setattr(branches, "forget_births", Mock())
    return fake


@pytest.fixture
def running() -> Iterator[Callable[[SupervisorActor], Any]]:
    """Ends the threads of the supervisors of a test."""
    known: list[SupervisorActor] = []

    def run(made: SupervisorActor) -> Any:
        known.append(made)
        return made

    yield run
    for made in known:
        made._life.end()
        made._mail.put(())  # nothing to do, but to see that it is over
    for thread in threading.enumerate():
        if thread.name == "ensue-supervisor":
            thread.join(SECONDS)


def charter(
    name: str, *children: str, policy: Supervision = QUICK, patience: SupervisionTimeouts | None = None
) -> SupervisorSpec:
    family = "ensue-0-1"
    return SupervisorSpec(
        name, children, policy, 1, family, mark_of(os.getpid()), "here", patience or SupervisionTimeouts()
    )


def reported(made: Any, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """All that a supervisor reports, until it is enough."""
    items: list[Any] = []
    upto = 0
    while not enough(items):
        reports = made.reports(upto, SECONDS)
        assert reports.items or reports.standing is not None, items
        upto, items = reports.upto, [*items, *reports.items]
    return items


def first(items: list[Any], kind: type[Any]) -> Any:
    """The first report of a kind."""
    return next((item for item in items if isinstance(item, kind)), None)


def awaited(actor: Actor, method: str) -> Future[Any]:
    """The answer to a call, once it has come."""
    deadline = time.monotonic() + SECONDS
    while method not in actor.answers:
        assert time.monotonic() < deadline, actor.told
        time.sleep(0.001)
    return actor.answers[method]
