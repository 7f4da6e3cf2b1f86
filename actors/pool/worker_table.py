"""WorkerTable: the workers of an engine as it knows them, how many there should be, and the wait until they are there.

Rules: one thread adds and removes; any may look, and wait.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...cluster.processes import NOBODY, ProcessMark
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step

__all__ = ["Place", "WorkerEntry", "WorkerTable"]

Place = tuple[str, str]


@dataclass(slots=True, eq=False)
class WorkerEntry:
    """One worker: its actor, its process once it is ready to talk (`since` then), and whether its lane is open.

    worked: it has got something done. ended_at: when it was told to end. blamed: for what it runs. lost: there is no supervisor to end it, so its end is
    seen to from here.
    """

    worker: int
    pipeline: str
    step: str
    slot: int
    actor: Any
    mark: ProcessMark = NOBODY
    since: float = 0.0
    local: bool = True
    up: bool = False
    worked: bool = False
    ended_at: float = 0.0
    blamed: bool = False
    lost: bool = False

    @property
    def ended(self) -> bool:
        """Whether it was told to end."""
        return self.ended_at > 0

    def end(self) -> None:
        """It is told to end."""
        self.ended_at = self.ended_at or time.monotonic()

    @property
    def is_met(self) -> bool:
        """Whether it has been ready to talk."""
        return self.since > 0

    @property
    def place(self) -> Place:
        """Its pipeline and step."""
        return (self.pipeline, self.step)


class WorkerTable:
    """All workers, and the steps that want them."""

    def __init__(self, pipelines: Iterable[Pipeline]) -> None:
        self.steps: dict[Place, Step] = {(p.name, s.name): s for p in pipelines for s in p.steps.values()}
        self.broken: dict[Place, str] = {}
        self.given_up: set[Place] = set()
        self._members: dict[int, WorkerEntry] = {}
        self._changed = threading.Condition()

    @property
    def members(self) -> list[WorkerEntry]:
        """The workers as they are now."""
        return list(self._members.values())

    def get(self, worker: int) -> WorkerEntry | None:
        """The worker of this number."""
        return self._members.get(worker)

    def add(self, member: WorkerEntry) -> None:
        """A worker is being started."""
        self._members[member.worker] = member

    def came_up(self, member: WorkerEntry) -> None:
        """A worker's lane is open."""
        self.broken.pop(member.place, None)
        self.given_up.discard(member.place)
        with self._changed:
            member.up = True
            self._changed.notify_all()

    def remove(self, member: WorkerEntry) -> None:
        """A worker is gone."""
        with self._changed:
            self._members.pop(member.worker, None)
            member.up = False
            self._changed.notify_all()

    def give_up(self, places: Iterable[Place], reason: str) -> None:
        """Nobody is to wait for workers there, for this reason."""
        with self._changed:
            for place in places:
                self.given_up.add(place)
                self.broken[place] = reason
            self._changed.notify_all()

    def progress(self) -> None:
        """Something goes on: whoever waits may wait on."""
        with self._changed:
            self._changed.notify_all()

    def of(self, pipeline: str) -> set[Place]:
        """The steps of a pipeline."""
        return {place for place in self.steps if place[0] == pipeline}

    def wait_for(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait until a condition holds that depends on workers; False where it does not in time."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_seconds)

    def wait_ready(self, timeout_seconds: float, no_progress_seconds: float) -> bool:
        """Wait until all workers are up; False where some are not in time, or cannot be (`lacking` says which)."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while self._awaited() and time.monotonic() < deadline:
                if not self._changed.wait(min(no_progress_seconds, deadline - time.monotonic())):
                    break
        return not self.lacking()

    def lacking(self) -> dict[Place, str]:
        """The steps that have fewer workers than they should, and why as far as it is known."""
        up = self._up()
        return {
            place: self.broken.get(place)
            or f"{up[place]} of {step.replicas} workers are up: is there room for its claims?"
            for place, step in self.steps.items()
            if up[place] < step.replicas
        }

    def _up(self) -> Counter[Place]:
        return Counter(member.place for member in self.members if member.up)

    def _awaited(self) -> bool:
        """Whether a worker is missing that may still come."""
        up = self._up()
        return any(up[place] < step.replicas and place not in self.given_up for place, step in self.steps.items())
