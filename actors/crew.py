"""Crew: the workers of an engine as Ray actors. It starts them, watches them, ends them and replaces them.

Rules: all workers start at once; a worker is never restarted by Ray (`max_restarts=0`) but replaced by us, after a
backoff of 0.2 s doubling to 30 s that a minute of health resets. Ended means that the process is seen to be gone.
One thread does all of it, told by messages.
"""

import heapq
import itertools
import logging
import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..cluster.session import Session, ray_module
from ..events.codec import pack
from ..events.errors import PipelineInvalid
from ..events.event import Event
from ..events.inputs import Input, StepBroken, WorkerDown, WorkerUp
from ..events.pipeline import Pipeline
from ..events.step import Step
from .deaths import first_line, how_it_ended
from .links import RayLinks
from .ray_lane import RemoteLane
from .wire import Tag
from .worker import Worker

__all__ = ["Crew", "Member", "check_sendable"]

logger = logging.getLogger("ensue.crew")
_FIRST_BACKOFF_SECONDS = 0.2
_MAX_BACKOFF_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0
_SILENT_SECONDS = 10.0
_CHECK_SECONDS = 2.0
_NO_PROGRESS_SECONDS = 20.0
_FAILED_STARTS = 5
"""So many starts of a step's workers that fail, with no success between them, and what waits for it fails."""


@dataclass(slots=True, eq=False)
class Member:
    """One worker: its step, its actor, its process (0 until it said hello), and why it was ended, if it was.

    blamed: it was ended for its own silence, so what it ran counts as crashed.
    """

    worker: int
    pipeline: Pipeline
    step: Step
    actor: Any
    started: float
    pid: int = 0
    local: bool = True
    up: bool = False
    ended: str | None = None
    blamed: bool = False
    failures: int = 0


class Crew:
    """All workers of an engine. `post` tells the partition of those that come and go."""

    def __init__(self, session: Session, links: RayLinks, post: Callable[[Input], None]) -> None:
        self._session = session
        self._links = links
        self._post = post
        self._queue: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._members: dict[int, Member] = {}
        self._numbers = itertools.count(1)
        self._due: list[tuple[float, int, Pipeline, Step, int]] = []
        self._ready = threading.Condition()
        self._wanted: dict[tuple[str, str], int] = {}
        self._failed_starts: Counter[tuple[str, str]] = Counter()
        self._stopping = False
        self._checked = 0.0
        self.broken: dict[str, str] = {}
        self._thread = threading.Thread(target=self._serve, name="ensue-crew", daemon=True)
        links.ender = self.end

    def start(self, pipelines: Iterable[Pipeline]) -> None:
        """Start every worker of every step, in parallel."""
        for pipeline in pipelines:
            for step in pipeline.steps.values():
                self._wanted[pipeline.name, step.name] = step.replicas
                for _ in range(step.replicas):
                    self._queue.put(("start", pipeline, step, 0))
        self._thread.start()

    def wait_ready(self, timeout_seconds: float) -> bool:
        """Wait until all workers are up; False where some are not in time, or cannot be (`lacking` says which).

        Those that come up later, when Ray has room for them, are as welcome.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._ready:
            while self._awaited() and time.monotonic() < deadline:
                patience = min(_NO_PROGRESS_SECONDS, deadline - time.monotonic())
                if not self._ready.wait(patience):
                    break
        return not self.lacking()

    def lacking(self) -> dict[tuple[str, str], str]:
        """The steps that have fewer workers than they should, by (pipeline, step), and why as far as it is known."""
        up = self._up()
        return {
            place: self.broken.get(place[1]) or f"{up[place]} of {wanted} workers are up: is there room for its claims?"
            for place, wanted in list(self._wanted.items())
            if up[place] < wanted
        }

    def end(self, worker: int, reason: str) -> None:
        """End a worker's process for certain; from any thread."""
        self._queue.put(("end", worker, reason))

    def end_all(self, reason: str) -> None:
        """End every worker's process; each is replaced."""
        for worker in list(self._members):
            self.end(worker, reason)

    def introduce_all(self) -> None:
        """Tell a partition that begins again of the workers that are up."""
        self._queue.put(("introduce",))

    def abandon(self) -> None:
        """End every worker's process, and replace none: this engine owns the log no more."""
        self._stopping = True
        self.end_all("its engine was fenced off")

    def stop(self, grace_seconds: float) -> None:
        """Wind all workers down: what runs gets its grace, then their processes end."""
        self._stopping = True
        for member in list(self._members.values()):
            if member.up and member.local:
                self._links.send(member.worker, pack([int(Tag.STOP), None]))
            elif member.up:
                member.actor.stop.remote()
        deadline = time.monotonic() + grace_seconds
        with self._ready:
            self._ready.wait_for(lambda: not any(m.up for m in self._members.values()), grace_seconds)
        for member in list(self._members.values()):
            self._kill(member)
        self._queue.put(("stop",))
        self._thread.join(max(1.0, deadline - time.monotonic()))

    @property
    def members(self) -> list[Member]:
        """The workers as they are now."""
        return list(self._members.values())

    def _up(self) -> Counter[tuple[str, str]]:
        return Counter((m.pipeline.name, m.step.name) for m in self.members if m.up)

    def _awaited(self) -> bool:
        """Whether a worker is missing that may still come."""
        up = self._up()
        return any(
            up[place] < wanted and self._failed_starts[place] < _FAILED_STARTS for place, wanted in self._wanted.items()
        )

    def _serve(self) -> None:
        while True:
            try:
                message = self._queue.get(timeout=self._pause_seconds())
            except queue.Empty:
                message = ("check",)
            if message[0] == "stop":
                return
            try:
                self._handle(message)
            except Exception:
                logger.exception("the crew could not %s", message[0])

    def _pause_seconds(self) -> float:
        if self._due:
            return min(_CHECK_SECONDS, max(0.0, self._due[0][0] - time.monotonic()))
        return _CHECK_SECONDS

    def _handle(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("start", pipeline, step, failures):
                self._begin(pipeline, step, failures)
            case ("hello", worker, outcome):
                self._hello(worker, outcome)
            case ("gone", worker, outcome):
                self._gone(worker, outcome)
            case ("end", worker, reason):
                self._end(worker, reason)
            case ("introduce",):
                for member in self.members:
                    if member.up and member.ended is None:
                        self._introduce(member)
            case _:
                self._check()
        self._start_due()

    def _begin(self, pipeline: Pipeline, step: Step, failures: int) -> None:
        if self._stopping:
            return
        worker = next(self._numbers)
        models: list[type[Event]] = list(pipeline.registry)
        actor = _actor_class(step).remote(worker, step, models)
        self._members[worker] = Member(worker, pipeline, step, actor, time.monotonic(), failures=failures)
        self._ask("hello", worker, actor.hello.remote())

    def _ask(self, what: str, worker: int, reference: Any) -> None:
        def tell(outcome: Any) -> None:
            self._queue.put((what, worker, outcome))

        reference.future().add_done_callback(tell)

    def _hello(self, worker: int, outcome: Any) -> None:
        member = self._members.get(worker)
        if member is None:
            return
        if outcome.exception() is not None:
            self._gone(worker, outcome)
            return
        node, member.pid = outcome.result()
        member.local = _is_here(node, self._session)
        if member.local:
            self._ask("gone", worker, member.actor.serve.remote(self._links.socket.address))
        else:
            lane = RemoteLane(
                member.actor,
                lambda message: self._links.take_remote(worker, message),
                lambda: self.end(worker, "a call to it failed"),
            )
            self._links.add_remote(worker, lane)
            lane.start()
            self._ask("gone", worker, member.actor.attend.remote())
            self.up(worker)

    def up(self, worker: int) -> None:
        """A worker's lane is open; from any thread."""
        member = self._members.get(worker)
        if member is None or member.up:
            return
        self._links.heard[worker] = time.monotonic()
        self.broken.pop(member.step.name, None)
        self._failed_starts.pop((member.pipeline.name, member.step.name), None)
        self._introduce(member)
        with self._ready:
            member.up = True
            self._ready.notify_all()

    def _introduce(self, member: Member) -> None:
        step = member.step
        self._post(WorkerUp(member.worker, member.pipeline.name, step.name, step.concurrency))

    def _gone(self, worker: int, outcome: Any) -> None:
        member = self._members.pop(worker, None)
        if member is None:
            return
        self._links.forget(worker)
        error = outcome.exception()
        message = member.ended or (how_it_ended(error) if error else "it stopped")
        self._kill(member, gently=error is None)
        if member.up:
            expected = self._stopping or (member.ended is not None and not member.blamed)
            self._post(WorkerDown(worker, f"worker of step {member.step.name} ended: {message}", expected))
        elif not self._stopping:
            self._did_not_start(member, message)
        with self._ready:
            member.up = False
            self._ready.notify_all()
        if not self._stopping:
            self._replace(member, message)

    def _did_not_start(self, member: Member, message: str) -> None:
        place = (member.pipeline.name, member.step.name)
        self.broken[member.step.name] = message
        self._failed_starts[place] += 1
        if self._failed_starts[place] >= _FAILED_STARTS:
            text = (
                f"no worker of step {member.step.name} starts ({self._failed_starts[place]} times in a row): {message}"
            )
            self._post(StepBroken(*place, text))

    def _replace(self, member: Member, message: str) -> None:
        healthy = time.monotonic() - member.started > _HEALTHY_SECONDS
        failures = 0 if healthy else member.failures
        wait = min(_FIRST_BACKOFF_SECONDS * 2.0**failures, _MAX_BACKOFF_SECONDS)
        logger.warning("step %s: %s; starting another worker in %.1f s", member.step.name, message, wait)
        entry = (time.monotonic() + wait, next(self._numbers), member.pipeline, member.step, failures + 1)
        heapq.heappush(self._due, entry)

    def _start_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, pipeline, step, failures = heapq.heappop(self._due)
            self._begin(pipeline, step, failures)

    def _end(self, worker: int, reason: str, *, blamed: bool = False) -> None:
        member = self._members.get(worker)
        if member is not None:
            member.ended = reason
            member.blamed = blamed
            self._kill(member)

    def _kill(self, member: Member, *, gently: bool = False) -> None:
        """Kill the process itself where it is ours to see: Ray's own kill asks the process to end itself."""
        if member.local and member.pid and not gently:
            try:
                os.kill(member.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        ray_module().kill(member.actor, no_restart=True)

    def _check(self) -> None:
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        listened = self._links.listened  # while the partition itself was busy nobody was silent
        self._links.wake()
        for member in list(self._members.values()):
            silent = listened - self._links.heard.get(member.worker, listened)
            if member.up and member.ended is None and silent > _SILENT_SECONDS:
                self._end(member.worker, f"it was silent for {silent:.0f} s", blamed=True)


def check_sendable(pipelines: Iterable[Pipeline]) -> None:
    """See that every step can travel to a worker. Raises `PipelineInvalid`."""
    dumps = ray_module().cloudpickle.dumps
    for pipeline in pipelines:
        for step in pipeline.steps.values():
            try:
                dumps((step, list(pipeline.registry)))
            except Exception as error:  # whatever the author's objects raise
                reason = first_line(error)
                raise PipelineInvalid(
                    f"step {step.name} cannot be sent to a worker, since what it refers to cannot be pickled ({reason}): "
                    "open files, connections and locks inside the step, or in __init__ of a step class"
                ) from error


def _is_here(node: str, session: Session) -> bool:
    return node == session.node_id


def _actor_class(step: Step) -> Any:
    claims = step.resources
    options: dict[str, Any] = {
        "num_cpus": claims.cpus,
        "num_gpus": claims.gpus or None,
        "memory": claims.memory_bytes,
        "resources": dict(claims.custom) or None,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 8,  # serve or attend, collect, 4 deliver, hello, stop
    }
    return ray_module().remote(**{k: v for k, v in options.items() if v is not None})(Worker)
