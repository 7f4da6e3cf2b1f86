"""Supervisor: the Ray actor that looks after one pipeline: it starts its workers, watches, ends and replaces them.

Rules: what follows from what is decided by the pure tree (`events/supervisors.py`); this does it. The supervisors of the
steps are nodes of that tree in this process: a process for each would double those of a pipeline, at about 90 MiB and a
second of CPU apiece. Workers belong to this actor: Ray ends them with it. A worker is gone when its process is seen
to be gone, and only then is its work given to another. No code of the user's runs here.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..cluster.clock import SystemClock
from ..cluster.processes import NOBODY, ProcessMark, are_gone, end, is_gone, mark_of
from ..cluster.session import ray_module
from ..events.step import Resources
from ..events.supervision import How, Supervision
from ..events.supervisors import Action, PipelineTree, StartWorker, StepPolicy, StopWorker
from .deaths import how_it_ended, is_orderly
from .supervising import Patience, Supervising
from .worker_actor import worker_actor

__all__ = [
    "Charter",
    "PipelineSupervisor",
    "StepCharter",
    "WorkerGone",
    "WorkerUpAt",
]

logger = logging.getLogger("ensue.supervisor")
_LOOK_SECONDS = 0.02
_IDLE_SECONDS = 0.25
_MISSES = 3
_NUMBERS = 1 << 20
_GONE_SECONDS = 10.0


class StepCharter(NamedTuple):
    """A step for its supervisor: `code` is the pickled step with its models, opened by workers alone."""

    name: str
    replicas: int
    policy: Supervision
    code: bytes
    claims: Resources


class Charter(NamedTuple):
    """What a supervisor has to know. incarnation: how many there were before it, of all pipelines of this engine."""

    pipeline: str
    policy: Supervision
    steps: list[StepCharter]
    incarnation: int
    histories: Mapping[str, list[Any]]
    engine: ProcessMark
    node: str
    patience: Patience


class WorkerUpAt(NamedTuple):
    """Report: a worker is ready to talk."""

    worker: int
    step: str
    node: str
    mark: ProcessMark
    actor: Any


class WorkerGone(NamedTuple):
    """Report: a worker's process is gone. blamed: what it ran is to count as crashed. was_up: it had come up."""

    worker: int
    step: str
    message: str
    blamed: bool
    was_up: bool


@dataclass(slots=True, eq=False)
class _Member:
    """One worker. ended: why it was told to end; how: what that is to its supervisor."""

    worker: int
    step: str
    slot: int
    started: float
    actor: Any = None
    node: str = ""
    mark: ProcessMark = NOBODY
    up: bool = False
    worked: bool = False
    ended: str | None = None
    how: How = How.ORDERED
    missed: int = 0


class PipelineSupervisor(Supervising):
    """The Ray actor. Detached and named, so that neither the root nor the engine takes it along when it ends."""

    def __init__(self, charter: Charter) -> None:
        self._charter = charter
        self._clock = SystemClock()
        self._numbers = itertools.count(1)
        self._members: dict[int, _Member] = {}
        self._steps = {step.name: step for step in charter.steps}
        self._tree = PipelineTree(charter.pipeline, charter.policy, [StepPolicy(*step[:3]) for step in charter.steps])
        self._stopping = False
        self._pinged = time.monotonic()
        self._classes: dict[str, Any] = {}
        self._me = ray_module().get_runtime_context().current_actor
        super().__init__(charter.engine, charter.patience)
        self.tell("begin")

    # -- messages ------------------------------------------------------------------------------------------------------

    def _orders(self) -> Mapping[str, Callable[..., None]]:
        return {
            "begin": self._begin,
            "born": self._born,
            "hello": self._hello,
            "gone": self._gone,
            "pong": self._pong,
            "worked": self._worked,
            "end": self._end_one,
            "end_all": self._end_all,
            "stop": self._stop,
            "restart": self._restart,
        }

    def _end_one(self, worker: int, reason: str, blamed: bool) -> None:  # noqa: FBT001 - a message has no names
        self._end(worker, reason, How.CRASHED if blamed else How.ORDERED)

    def _end_all(self, reason: str) -> None:
        for worker in list(self._members):
            self._end(worker, reason, How.ORDERED)

    def _stop(self) -> None:
        """From now on nobody is replaced."""
        self._stopping = True

    def _begin(self) -> None:
        self._tree.restore(self._charter.histories, self._now_us())
        if not self._tree.failed:
            self._do(self._tree.start(self._now_us()))
        self._stand()

    def _restart(self) -> None:
        """Begin anew, whatever was: every worker, and every counter at zero."""
        now_us = self._now_us()
        self._do(self._tree.restart(now_us))
        self._report(self._tree.histories())
        self._stand()

    def _born(self, worker: int, node: str, pid: int) -> None:
        member = self._members.get(worker)
        if member is None or member.node:
            return
        member.node, member.started = node, time.monotonic()
        if node == self._charter.node:
            member.mark = mark_of(pid)
            if member.ended is not None:
                end(member.mark)
        self._stand()

    def _hello(self, worker: int, error: BaseException | None, at: tuple[str, int] | None) -> None:
        if error is not None or at is None:
            self._gone(worker, error, None)
            return
        self._born(worker, *at)  # the message of its birth may be late
        member = self._members.get(worker)
        if member is None:
            return
        member.up = True
        self._tree.came_up(member.step, member.slot, self._now_us())
        self._ask("gone", worker, member.actor.attend.remote())
        self._stand()
        self._report(WorkerUpAt(worker, member.step, member.node, member.mark, member.actor))

    def _gone(self, worker: int, error: BaseException | None, _: object) -> None:
        """Ray says that it is gone, or that it has stopped: see to it."""
        member = self._members.get(worker)
        if member is None:
            return
        if member.ended is None:
            member.ended = how_it_ended(error) if error else "it stopped"
            member.how = self._how(member, error)
        self._kill(member)
        if not member.mark.pid:  # on another node, where Ray's word has to do, or never born
            self._forget(member)

    def _how(self, member: _Member, error: BaseException | None) -> How:
        if not member.up:
            return How.UNSTARTED
        if error is None or is_orderly(error):
            return How.NORMAL
        return How.WORKED if member.worked else How.CRASHED

    def _worked(self, worker: int) -> None:
        member = self._members.get(worker)
        if member is not None:
            member.worked = True

    def _pong(self, worker: int, error: BaseException | None, _: object) -> None:
        member = self._members.get(worker)
        if member is not None and error is None:
            member.missed = 0

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        told: list[Action] = []
        for action in actions:
            if isinstance(action, StartWorker):
                self._start(action.step, action.slot)
            elif isinstance(action, StopWorker):
                self._end(self._worker_in(action.step, action.slot), "its supervisor ended it", How.ORDERED)
            else:
                told.append(action)
        if told:
            self._report(*told, self._tree.histories())

    def _start(self, step: str, slot: int) -> None:
        worker = (self._charter.incarnation % 4096) * _NUMBERS + next(self._numbers) % _NUMBERS
        member = self._members[worker] = _Member(worker, step, slot, time.monotonic())
        try:
            member.actor = self._class_of(step).remote(worker, self._steps[step].code, self._me)
            self._ask("hello", worker, member.actor.hello.remote())
        except Exception as error:  # whatever Ray refuses it for: a start that failed as any other
            logger.exception("a worker of step %s cannot be started", step)
            self.tell("gone", worker, error, None)

    def _class_of(self, step: str) -> Any:
        if step not in self._classes:
            self._classes[step] = worker_actor(self._steps[step].claims)
        return self._classes[step]

    def _worker_in(self, step: str, slot: int) -> int:
        found = (m.worker for m in self._members.values() if (m.step, m.slot) == (step, slot))
        return next(found, 0)

    def _end(self, worker: int, reason: str, how: How) -> None:
        member = self._members.get(worker)
        if member is None:
            return
        if member.ended is None:
            member.ended = reason
            member.how = How.WORKED if how is How.CRASHED and member.worked else how
        self._kill(member)

    def _kill(self, member: _Member) -> None:
        """Kill the process itself where it is ours to see: Ray's own kill asks the process to end itself."""
        end(member.mark)
        if member.actor is not None:
            ray_module().kill(member.actor, no_restart=True)

    def _forget(self, member: _Member) -> None:
        """It is gone: tell the engine, and do what follows."""
        del self._members[member.worker]
        reason = member.ended or "it stopped"
        blamed = member.how in (How.CRASHED, How.WORKED, How.NORMAL)
        self._report(WorkerGone(member.worker, member.step, reason, blamed, member.up))
        if not self._stopping:
            how = member.how if member.up or member.how is How.ORDERED else How.UNSTARTED
            self._do(self._tree.ended(member.step, member.slot, how, reason, self._now_us()))
        self._stand()

    # -- looking after -------------------------------------------------------------------------------------------------

    def _pause_seconds(self) -> float:
        if any(member.ended is not None for member in self._members.values()):
            return _LOOK_SECONDS
        due_us = self._tree.due_us
        if due_us is None:
            return _IDLE_SECONDS
        return min(_IDLE_SECONDS, max(0.0, (due_us - self._now_us()) / 1e6))

    def _tend(self, now: float) -> None:
        for member in list(self._members.values()):
            if member.ended is not None and member.mark.pid and is_gone(member.mark):
                self._forget(member)
        if not self._stopping:
            self._do(self._tree.tick(self._now_us()))
        if now - self._pinged >= self._patience.ping_seconds:
            self._ping(late=now - self._pinged > 2 * self._patience.ping_seconds)
            self._pinged = now
            self._stand()

    def _ping(self, *, late: bool) -> None:
        for member in list(self._members.values()):
            if member.mark.pid and is_gone(member.mark):  # and Ray has not told us
                self._end(member.worker, "its process was gone", How.CRASHED if member.up else How.UNSTARTED)
            elif not member.up and member.ended is None:
                waited = time.monotonic() - member.started
                if member.node and waited > self._patience.start_seconds:
                    self._end(
                        member.worker, f"it did not come up within {self._patience.start_seconds:g} s", How.UNSTARTED
                    )
            elif member.ended is None:
                member.missed = 0 if late else member.missed
                if member.missed >= _MISSES:
                    self._end(member.worker, f"it did not answer {_MISSES} pings", How.CRASHED)
                    continue
                member.missed += 1
                self._ask("pong", member.worker, member.actor.ping.remote())

    def _abandon(self) -> None:
        self._stopping = True
        for member in self._members.values():
            self._kill(member)
        are_gone([m.mark for m in self._members.values() if m.mark.pid], _GONE_SECONDS)

    def _stand(self) -> None:
        """What the engine shows of this pipeline."""
        steps: dict[str, Any] = {}
        workers = {(m.step, m.slot): m for m in self._members.values()}
        for name, node in self._tree.steps.items():
            children = [
                (int(c.name), str(c.status), c.since_us, c.restarts, c.reason, _shown(workers.get((name, int(c.name)))))
                for c in node.children.values()
            ]
            steps[name] = (node.gave_up, children)
        self._show((self._tree.failed, steps))

    def _now_us(self) -> int:
        return self._clock.now_us()


def _shown(member: _Member | None) -> tuple[int, int]:
    return (member.worker, member.mark.pid) if member is not None else (0, 0)
