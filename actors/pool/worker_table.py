"""WorkerTable: the workers of an engine, how many there should be, and the wait until they are there.

Rules: one thread adds and removes; any thread may read, and wait.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...cluster.processes import NO_PROCESS, ProcessHandle
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step

__all__ = ["Place", "WorkerEntry", "WorkerTable"]

Place = tuple[str, str]


@dataclass(slots=True, eq=False)
class WorkerEntry:
    """One worker, as the engine knows it."""

    worker: int
    pipeline: str
    step: str
    slot: int
    actor: Any
    process: ProcessHandle = NO_PROCESS
    since: float = 0.0
    """When it answered that it has started, in monotonic seconds; 0 before."""
    is_local: bool = True
    """It runs on the engine's node."""
    is_up: bool = False
    """Its lane is open."""
    has_worked: bool = False
    """It has completed something."""
    ended_at: float = 0.0
    """When it was told to end, in monotonic seconds; 0 before."""
    is_blamed: bool = False
    """What it runs is to blame for its end."""
    is_killed_here: bool = False
    """The engine has killed it, without the keeper, and sees for itself that it is gone."""

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end."""
        return self.ended_at > 0

    def mark_ending(self) -> None:
        """It was told to end."""
        self.ended_at = self.ended_at or time.monotonic()

    @property
    def is_ready(self) -> bool:
        """Whether it has answered that it has started."""
        return self.since > 0

    @property
    def place(self) -> Place:
        """Its pipeline and step."""
        return (self.pipeline, self.step)


class WorkerTable:
    """All workers, and the steps that they belong to."""

    def __init__(self, pipelines: Iterable[Pipeline]) -> None:
        self.steps: dict[Place, Step] = {(p.name, s.name): s for p in pipelines for s in p.steps.values()}
        self.broken: dict[Place, str] = {}
        """Why the last start of a step's worker failed."""
        self.given_up: set[Place] = set()
        """Steps for whose workers `wait_ready` does not wait."""
        self._entries: dict[int, WorkerEntry] = {}
        self._changed = threading.Condition()
        self._is_closed = False

    @property
    def entries(self) -> list[WorkerEntry]:
        """The workers as they are now."""
        return list(self._entries.values())

    def get(self, worker: int) -> WorkerEntry | None:
        """The worker with this number."""
        return self._entries.get(worker)

    def add(self, entry: WorkerEntry) -> None:
        """A worker is being started."""
        self._entries[entry.worker] = entry

    def mark_up(self, entry: WorkerEntry) -> None:
        """The lane of a worker is open."""
        self.broken.pop(entry.place, None)
        self.given_up.discard(entry.place)
        with self._changed:
            entry.is_up = True
            self._changed.notify_all()

    def remove(self, entry: WorkerEntry) -> None:
        """A worker is gone."""
        with self._changed:
            self._entries.pop(entry.worker, None)
            entry.is_up = False
            self._changed.notify_all()

    def give_up(self, places: Iterable[Place], reason: str) -> None:
        """Do not wait for the workers of these steps, for this reason."""
        with self._changed:
            for place in places:
                self.given_up.add(place)
                self.broken[place] = reason
            self._changed.notify_all()

    def close(self) -> None:
        """End `wait_ready`: no worker will come up any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def note_progress(self) -> None:
        """Something happened, so `wait_ready` continues to wait."""
        with self._changed:
            self._changed.notify_all()

    def of(self, pipeline: str) -> set[Place]:
        """The steps of a pipeline."""
        return {place for place in self.steps if place[0] == pipeline}

    def wait_for(self, condition: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait until a condition on the workers holds; False if it does not in time."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_seconds)

    def wait_ready(self, timeout_seconds: float, no_progress_seconds: float) -> bool:
        """Wait until all workers are up; False if some are not in time, or cannot be (`lacking` tells which)."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while self._awaited() and time.monotonic() < deadline:
                if not self._changed.wait(min(no_progress_seconds, deadline - time.monotonic())):
                    break
        return not self.lacking()

    def lacking(self) -> dict[Place, str]:
        """The steps that have fewer workers than they should, and why if that is known."""
        up = self._up()
        return {
            place: self.broken.get(place)
            or f"{up[place]} of {step.replicas} workers are up: is there room for its claims?"
            for place, step in self.steps.items()
            if up[place] < step.replicas
        }

    def _up(self) -> Counter[Place]:
        return Counter(entry.place for entry in self.entries if entry.is_up)

    def _awaited(self) -> bool:
        """Whether a worker is missing that may still come up."""
        up = self._up()
        return not self._is_closed and any(
            up[place] < step.replicas and place not in self.given_up for place, step in self.steps.items()
        )
