"""StepSupervisor: the Ray actor that looks after the workers of one step: it has them started, watches and ends them.

Rules: what follows from what is decided by a pure node (`events/supervision/tree.py`); this does it. Workers belong to the
engine, which starts them where this says so: Ray ends them with it, and a supervisor that ends takes none along. A
worker is gone when its process is seen to be gone, and only then is its work given to another. No code of the user's
runs here.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...cluster.clock import SystemClock
from ...cluster.processes import NOBODY, ProcessMark, are_gone, end, is_gone, mark_of
from ...cluster.ray.exit_reasons import how_it_ended, is_orderly
from ...cluster.ray.process_registry import birth_key, forget_births, look_up_birth
from ...cluster.ray.session import ray_module
from ...events.supervision.supervisor import How
from ...events.supervision.tree import Action, StartWorker, StepPolicy, StepSupervisorNode, StopWorker
from .long_poll import SUPERSEDED
from .orders import LiveWorker, SupervisorSpec, WorkerGone, WorkerWanted
from .supervisor_actor import SupervisorActor, send

__all__ = ["StepSupervisor"]

logger = logging.getLogger("ensue.supervisor")
_LOOK_SECONDS = 0.02
_IDLE_SECONDS = 0.25
_MISSES = 3
_GONE_SECONDS = 10.0
_WORD_SECONDS = 1.0
"""So long Ray has to say why a worker is gone. Seen under torture: one death in ten it tells seconds later."""


@dataclass(slots=True, eq=False)
class _Member:
    """The worker in one place. worker: 0 until the engine has started it. ended: why it was told to end. gone: since when."""

    slot: int
    start: int
    started: float
    worker: int = 0
    actor: Any = None
    born: bool = False
    mark: ProcessMark = NOBODY
    up: bool = False
    worked: bool = False
    ended: str | None = None
    how: How = How.ORDERED
    missed: int = 0
    gone: float = 0.0


class StepSupervisor(SupervisorActor):
    """The Ray actor. Detached and named, so that neither its parent nor the engine takes it along when it ends."""

    def __init__(self, charter: SupervisorSpec) -> None:
        self._charter = charter
        pipeline, _, self._step = charter.name.partition("/")
        self._clock = SystemClock()
        self._tree = StepSupervisorNode(pipeline, StepPolicy(self._step, len(charter.children), charter.policy))
        self._node = self._tree.node
        self._members: dict[int, _Member] = {}
        self._living: dict[int, LiveWorker] = {}
        self._starts = itertools.count(1)
        self._parent: Any = None
        self._ceasing = False
        self._stopping = False
        self._pinged = time.monotonic()
        super().__init__(charter.engine, charter.patience)

    def _orders(self) -> Mapping[str, Callable[..., None]]:
        return {
            "adopt": self._adopt,
            "adopted": self._adopted,
            "begin": self._begin,
            "cease": self._cease,
            "forget": self._forget_all,
            "made": self._made,
            "refused": self._refused,
            "hello": self._hello,
            "gone": self._gone,
            "pong": self._pong,
            "opened": self._opened,
            "worked": self._worked,
            "end": self._end_one,
            "stop": self._stop,
        }

    # -- what the engine tells it --------------------------------------------------------------------------------------

    def _adopt(self, history: list[Any] | None, living: list[LiveWorker]) -> None:
        """Go on where the one before it ended, with the workers that are there."""
        if self._stopping:
            return
        if history:
            self._node.restore(history, self._now_us())
        self._living = {worker.slot: worker for worker in living}
        self._begin_or_cease(runs=not self._ceasing)

    def _made(self, slot: int, start: int, worker: int, actor: Any) -> None:
        """The engine has started a worker."""
        member = self._members.get(slot)
        if member is None or member.start != start:
            ray_module().kill(actor, no_restart=True)
        else:
            self._meet(member, worker, actor)
            self._stand()

    def _refused(self, slot: int, start: int, error: BaseException) -> None:
        """Ray does not start a worker."""
        member = self._members.get(slot)
        if member is not None and member.start == start:
            member.ended, member.how = how_it_ended(error), How.UNSTARTED
            self._forget(member)

    def _opened(self, worker: int) -> None:
        """The engine has its lane: it is at work, though it may not have said so here before it ends."""
        member = self._member(worker)
        if member is not None and not member.up:
            self._is_up(member)
            self._stand()

    def _worked(self, worker: int) -> None:
        if (member := self._member(worker)) is not None:
            member.worked = True

    def _end_one(self, worker: int, reason: str, blamed: bool) -> None:  # noqa: FBT001 - a message has no names
        if (member := self._member(worker)) is not None:
            self._end(member, reason, How.CRASHED if blamed else How.ORDERED)

    def _stop(self) -> None:
        """From now on nobody is replaced."""
        self._stopping = True

    # -- what its parent tells it --------------------------------------------------------------------------------------

    def _adopted(self, parent: Any, runs: bool) -> None:  # noqa: FBT001 - as above
        """This is the pipeline's supervisor now. runs: the pipeline was not given up."""
        self._parent = parent
        if any(member.up for member in self._members.values()):
            self._say_working()
        if self._node.gave_up:
            self._see_quiet(self._node.gave_up)
        elif self._ceasing == runs:  # whoever wanted it so is gone
            self._begin_or_cease(runs=runs)

    def _begin_or_cease(self, *, runs: bool) -> None:
        if runs:
            self._begin()
        else:
            self._cease()

    def _begin(self) -> None:
        self._ceasing = False
        self._do(self._tree.start(self._now_us()))
        self._stand()

    def _cease(self) -> None:
        """End all workers, and say when they are gone."""
        self._ceasing = True
        self._do(self._tree.stop(self._now_us()))
        self._see_quiet("it was told to stop")
        self._stand()

    def _forget_all(self) -> None:
        self._tree.forget()
        self._say_history()

    def _say_working(self) -> None:
        if self._parent is not None:
            send(self._parent, "working", self._step)

    def _see_quiet(self, reason: str) -> None:
        if self._parent is not None and self._node.is_quiet and (self._ceasing or self._node.gave_up):
            send(self._parent, "quiet", self._step, self._charter.incarnation, self._node.gave_up, reason)

    # -- what becomes of workers ---------------------------------------------------------------------------------------

    def _meet(self, member: _Member, worker: int, actor: Any) -> None:
        member.worker, member.actor, member.started = worker, actor, time.monotonic()
        if member.ended is not None:
            self._kill(member)
        self._ask("hello", worker, actor.hello.remote())

    def _hello(self, worker: int, error: BaseException | None, at: tuple[str, int] | None) -> None:
        if error is not None or at is None:
            self._gone(worker, error, None)
            return
        member = self._member(worker)
        if member is None:
            return
        self._found(member, *at)
        if not member.up:
            self._is_up(member)
            self._stand()

    def _is_up(self, member: _Member) -> None:
        member.up = True
        self._tree.came_up(member.slot, self._now_us())
        self._ask("gone", member.worker, member.actor.attend.remote())
        self._say_working()

    def _found(self, member: _Member, node: str, pid: int) -> None:
        """It has said where it runs."""
        if member.born:
            return
        member.born, member.started = True, time.monotonic()
        if node == self._charter.node:
            member.mark = mark_of(pid)
            if member.ended is not None:
                end(member.mark)

    def _gone(self, worker: int, error: BaseException | None, said: object) -> None:
        """Ray says that it is gone, or that it has stopped: see to it."""
        member = self._member(worker)
        if member is None or said == SUPERSEDED:
            return
        if member.ended is None:
            member.ended = how_it_ended(error) if error else "it stopped"
            member.how = self._how(member, error)
        self._look_for(member)
        self._kill(member)
        if not member.mark.pid:  # on another node, where Ray's word has to do, or never born
            self._forget(member)

    def _how(self, member: _Member, error: BaseException | None) -> How:
        if not member.up:
            return How.UNSTARTED
        if error is None or is_orderly(error):
            return How.NORMAL
        return How.WORKED if member.worked else How.CRASHED

    def _pong(self, worker: int, error: BaseException | None, _: object) -> None:
        member = self._member(worker)
        if member is not None and error is None:
            member.missed = 0

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        told: list[Action] = []
        for action in actions:
            if isinstance(action, StartWorker):
                self._start(action.slot)
            elif isinstance(action, StopWorker):
                self._end(self._members[action.slot], "its supervisor ended it", How.ORDERED)
            else:
                told.append(action)
        if told:
            self._report(*told)
            self._say_history()

    def _start(self, slot: int) -> None:
        member = self._members[slot] = _Member(slot, next(self._starts), time.monotonic())
        living = self._living.pop(slot, None)
        if living is None:
            self._report(WorkerWanted(slot, member.start))
        else:
            member.mark, member.born, member.worked = living.mark, living.up, living.worked
            self._meet(member, living.worker, living.actor)
            if living.up:
                self._is_up(member)

    def _end(self, member: _Member, reason: str, how: How) -> None:
        if member.ended is None:
            member.ended = reason
            member.how = How.WORKED if how is How.CRASHED and member.worked else how
        self._look_for(member)
        self._kill(member)

    def _kill(self, member: _Member) -> None:
        """Kill the process itself where it is ours to see: Ray's own kill asks the process to end itself."""
        end(member.mark)
        if member.actor is not None:
            ray_module().kill(member.actor, no_restart=True)

    def _forget(self, member: _Member) -> None:
        """It is gone: tell the engine, and do what follows."""
        del self._members[member.slot]
        reason = member.ended or "it stopped"
        if member.worker:
            forget_births(birth_key(self._charter.family, member.worker))
            self._report(WorkerGone(member.worker, reason, member.how is not How.ORDERED, member.up))
        if not self._stopping:
            how = member.how if member.up or member.how is How.ORDERED else How.UNSTARTED
            self._do(self._tree.ended(member.slot, how, reason, self._now_us()))
            self._see_quiet(reason)
        self._stand()

    # -- looking after -------------------------------------------------------------------------------------------------

    def _pause_seconds(self) -> float:
        if any(member.ended is not None for member in self._members.values()):
            return _LOOK_SECONDS
        due_us = self._node.due_us
        if due_us is None:
            return _IDLE_SECONDS
        return min(_IDLE_SECONDS, max(0.0, (due_us - self._now_us()) / 1e6))

    def _tend(self, now: float) -> None:
        for member in list(self._members.values()):
            if member.mark.pid and is_gone(member.mark):
                self._see_gone(member, now)
        if not self._stopping:
            self._do(self._tree.tick(self._now_us()))
        if now - self._pinged >= self._patience.ping_seconds:
            self._ping(late=now - self._pinged > 2 * self._patience.ping_seconds)
            self._pinged = now
            self._stand()

    def _see_gone(self, member: _Member, now: float) -> None:
        """Its process is gone. Ray knows why, and says so at once, or late: it is not waited for."""
        member.gone = member.gone or now
        if member.ended is None and now - member.gone > _WORD_SECONDS:
            self._end(member, "its process was gone", How.CRASHED if member.up else How.UNSTARTED)
        if member.ended is not None:
            self._forget(member)

    def _ping(self, *, late: bool) -> None:
        for member in list(self._members.values()):
            self._look_for(member)
            if not member.up and member.ended is None:
                limit = self._patience.start_seconds
                if member.born and time.monotonic() - member.started > limit:
                    self._end(member, f"it did not come up within {limit:g} s", How.UNSTARTED)
            elif member.ended is None:
                member.missed = 0 if late else member.missed
                if member.missed >= _MISSES:
                    self._end(member, f"it did not answer {_MISSES} pings", How.CRASHED)
                    continue
                member.missed += 1
                self._ask("pong", member.worker, member.actor.ping.remote())

    def _look_for(self, member: _Member) -> None:
        """Where does it run? It has said so before any code of the user's could keep it from saying anything."""
        if member.worker and not member.born:
            at = look_up_birth(birth_key(self._charter.family, member.worker))
            if at is not None:
                self._found(member, *at)

    def _abandon(self) -> None:
        self._stopping = True
        for member in self._members.values():
            self._look_for(member)
            self._kill(member)
        are_gone([m.mark for m in self._members.values() if m.mark.pid], _GONE_SECONDS)

    def _stand(self) -> None:
        """What the engine shows of this step."""
        children = [
            (int(c.name), str(c.status), c.since_us, c.restarts, c.reason, _shown(self._members.get(int(c.name))))
            for c in self._node.children.values()
        ]
        self._show((self._node.gave_up, children))

    def _say_history(self) -> None:
        self._report({self._node.name: self._node.history()})

    def _member(self, worker: int) -> _Member | None:
        return next((m for m in self._members.values() if m.worker == worker), None)

    def _now_us(self) -> int:
        return self._clock.now_us()


def _shown(member: _Member | None) -> tuple[int, int]:
    return (member.worker, member.mark.pid) if member is not None else (0, 0)
