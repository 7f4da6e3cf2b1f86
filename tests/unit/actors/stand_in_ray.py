"""A Ray that answers what a test says, and the supervisors of a keeper in a time that the test turns."""

import os
from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ensue import Backoff, Supervision
from ensue.actors.pool import keeper_client
from ensue.actors.supervision import keeper, step_supervisor, supervised_worker
from ensue.actors.supervision.host import SupervisorHost
from ensue.actors.supervision.orders import (
    ROOT,
    Adopt,
    KeeperSpec,
    LiveWorker,
    PipelineReport,
    PipelineSpec,
    Report,
    SupervisionTimeouts,
)
from ensue.actors.supervision.root import RootSupervisor
from ensue.cluster.processes import NO_PROCESS, handle_of
from ensue.events.supervision.restart_history import RestartHistory
from ensue.events.supervision.tree import StepPolicy

__all__ = ["QUICK", "SECONDS", "Actor", "Kept", "Ray", "a_pipeline", "a_worker", "keeper_spec", "ray"]
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
        self.named: dict[str, Any] = {}
        self.util = self

    def kill(self, actor: Any, *, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(actor)

    def list_named_actors(self, *, all_namespaces: bool) -> list[Any]:
        assert all_namespaces
        return [{"name": name, "namespace": keeper.NAMESPACE} for name in self.named]

    def get_actor(self, name: str, _namespace: str) -> Any:
        return self.named[name]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(current_actor="the keeper itself")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    stand_in = Ray()
    for module in (keeper_client, keeper, supervised_worker):
        monkeypatch.setattr(module, "ray_module", lambda: stand_in)
    monkeypatch.setattr(step_supervisor, "forget_processes", Mock())
    monkeypatch.setattr(step_supervisor, "find_process", Mock(return_value=None))
    monkeypatch.setattr(keeper, "find_process", Mock(return_value=None))
    monkeypatch.setattr(keeper_client, "forget_processes", Mock())
    return stand_in


def keeper_spec(timeouts: SupervisionTimeouts | None = None) -> KeeperSpec:
    return KeeperSpec(handle_of(os.getpid()), "here", "ensue-0-1", timeouts or SupervisionTimeouts())


def a_pipeline(*steps: str, replicas: int = 1, policy: Supervision = QUICK) -> PipelineSpec:
    """The pipeline `flow`. policy: of the pipeline and of its steps."""
    return PipelineSpec("flow", policy, tuple(StepPolicy(step, replicas, QUICK) for step in steps))


def a_worker(path: str, slot: int, number: int, actor: Any, *, is_up: bool, process: Any = NO_PROCESS) -> LiveWorker:
    return LiveWorker(path, slot, number, actor, process, is_up, has_worked=False)


class Kept:
    """The supervisors of a keeper without its process and its thread."""

    def __init__(
        self,
        pipeline: PipelineSpec,
        *workers: LiveWorker,
        histories: Mapping[str, RestartHistory] | None = None,
        timeouts: SupervisionTimeouts | None = None,
    ) -> None:
        self.now = 1000.0
        self.reports: list[Report] = []
        self.host = SupervisorHost(keeper_spec(timeouts), self.reports.append)
        self.host._clock = SimpleNamespace(now_us=lambda: int(self.now * 1e6))  # type: ignore[assignment]
        self.host.start(RootSupervisor(self.host))
        self.tell(ROOT, Adopt((pipeline,), histories or {}, {}, workers))

    def tell(self, path: str, message: Any) -> None:
        """Put a message into a mailbox, and have all mailboxes emptied."""
        self.host.post(path, message)
        self.passes(0.0)

    def crash(self, path: str) -> None:
        """Have a supervisor raise an exception: a message that it does not know is a bug."""
        self.tell(path, "boom")

    def passes(self, seconds: float) -> None:
        """So much time passes."""
        self.now += seconds
        self.host.watcher.wait(0.0)
        self.host.run(self.now)

    def all(self, kind: type[Any]) -> list[Any]:
        """The reports of a kind."""
        return [report for report in self.reports if isinstance(report, kind)]

    def events(self, kind: type[Any]) -> list[Any]:
        """What was to be announced, of a kind."""
        return [r.event for r in self.reports if isinstance(r, PipelineReport) and isinstance(r.event, kind)]
