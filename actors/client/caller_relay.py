"""CallerRelay: the `Watcher` of a partition: takes what became of inputs and runs to the callers' event loop.

Rules: the partition calls it after each commit, in bulk: one call into the event loop carries all answers of a commit,
and a commit that concerns no caller makes none.
"""

from collections.abc import Callable
from typing import Any

from ...events.decide.commands import Answer, RunEnded
from .backend import Backend
from .handle_table import HandleTable
from .handles import RunHandle
from .replies import PendingReplies

__all__ = ["CallerRelay"]


class CallerRelay:
    """Settles callers, and keeps the progress of live runs.

    on_message: takes a worker's message that changes no run: worker, tag, body.
    """

    def __init__(
        self,
        backend: Backend,
        handles: HandleTable,
        replies: PendingReplies,
        on_message: Callable[[int, int, Any], None],
    ) -> None:
        self._backend = backend
        self._handles = handles
        self._replies = replies
        self._on_message = on_message
        self.progress: dict[tuple[bytes, str], tuple[float, float]] = {}
        """How far the steps of live runs say they are: (run id, step) to (done, total)."""

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        """Callers to answer, and runs that ended; from the partition's thread."""
        if self.progress:
            self._forget_progress(ended)
        get = self._handles.get
        watched = [(handle, *end) for end in ended if (handle := get(end.run.run_id)) is not None]
        if answers or watched:
            self._backend.call_soon(self._settle, answers, watched)

    def on_progress(self, run_id: bytes, step: str, done: float, total: float) -> None:
        """A step of a live run reports how far it is; from the partition's thread."""
        self.progress[run_id, step] = (done, total)

    def on_message(self, worker: int, tag: int, body: Any) -> None:
        """A worker's message that changes no run; from the partition's thread."""
        self._on_message(worker, tag, body)

    def _settle(self, answers: list[Answer], ended: list[tuple[RunHandle, Any, Any]]) -> None:
        self._replies.settle(answers)
        for handle, run, status in ended:
            handle.finish(run, status)

    def _forget_progress(self, ended: list[RunEnded]) -> None:
        for run, _ in ended:
            for step in run.plan.steps:
                self.progress.pop((run.run_id, step.name), None)
