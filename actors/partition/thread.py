"""PartitionThread: the thread that turns a partition, and the supervisor of that partition.

Rules: a partition that fails is thrown away; another one recovers from the log after the wait that the policy gives.
A log that cannot be written counts as no restart: the recovery is tried until it can. A fenced partition never
restarts. A partition that fails too often is logged as an error and still restarted, at the longest wait: it has no
supervisor above it.
"""

import logging
import threading
import time
from collections.abc import Callable

from ...cluster.clock import SystemClock
from ...events.errors import LogUnavailable, StaleEpoch
from ...events.supervision.restart_history import RestartHistory
from ...events.supervision.supervisor import PIPELINE_SUPERVISION, Escalate, How, Restart, Supervisor
from ...events.views.health_tree import TreeNode, node
from .loop import Partition

__all__ = ["PartitionThread"]

logger = logging.getLogger("ensue")
_NAME = "partition"
_HUNG_SECONDS = 10.0


class PartitionThread:
    """Turns a partition until it is stopped.

    recover: makes the next partition from the log, once everything of the failed one has ended.
    on_failure: is told of each failure.
    on_recovery: is told that a partition has recovered, with the history of restarts to keep.
    history: what the supervisor of the partition remembers of earlier restarts.
    """

    def __init__(
        self,
        partition: Partition,
        recover: Callable[[], Partition],
        on_failure: Callable[[Exception], None],
        on_recovery: Callable[[RestartHistory], None],
        history: RestartHistory,
    ) -> None:
        self._partition = partition
        self._recover = recover
        self._on_failure = on_failure
        self._on_recovery = on_recovery
        self._clock = SystemClock()
        self._supervisor = Supervisor(_NAME, PIPELINE_SUPERVISION, [_NAME])
        self._supervisor.restore(history.forgiven(), self._clock.now_us())
        self._supervisor.start(self._clock.now_us())
        self._status = self._current_status()
        self._stopping = threading.Event()
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="ensue-partition", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float, wake: Callable[[], None]) -> bool:
        """Take the last messages of workers, and end the thread; False if it hangs."""
        self._stopping.set()
        if self._thread.is_alive():
            wake()
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def hung_seconds(self) -> float:
        """How long inputs have waited for a turn, if that is too long; else 0."""
        waited = time.monotonic() - self._turned
        return waited if self._partition.has_inputs and waited > _HUNG_SECONDS else 0.0

    def tree(self) -> TreeNode:
        """The partition's part of the health tree; from any thread."""
        hung_seconds = self.hung_seconds
        if not hung_seconds:
            return {**self._status}
        reason = f"it has not turned for {hung_seconds:.0f} s, and inputs wait"
        return {**self._status, "status": "down", "reason": reason}

    def _current_status(self) -> TreeNode:
        child = self._supervisor.children[_NAME]
        reason = child.reason or self._supervisor.gave_up
        return node("partition", _NAME, str(child.status), restarts=child.restarts, since=child.since_us, reason=reason)

    def _serve(self) -> None:
        how: How | None = None
        while not self._stopping.is_set():
            try:
                if how is not None:
                    self._partition = self._recover()
                    self._mark_up()
                    self._on_recovery(self._supervisor.history())
                self._mark_up()
                how = How.CRASHED
                self._partition.resume()
                self._partition.run(self._note_turn)
            except StaleEpoch as error:
                self._supervisor.stop(self._clock.now_us())
                self._status = self._current_status()
                self._on_failure(error)
                return
            except LogUnavailable as error:
                self._on_failure(error)
                self._wait(How.UNSTARTED, error)
            except Exception as error:
                logger.exception("the partition failed; another one recovers from the log")
                self._on_failure(error)
                self._wait(How.CRASHED, error)

    def _mark_up(self) -> None:
        self._supervisor.came_up(_NAME, self._clock.now_us())
        self._status = self._current_status()

    def _note_turn(self) -> bool:
        """Called at each turn; True if it is the last."""
        self._turned = time.monotonic()
        return self._stopping.is_set()

    def _wait(self, how: How, error: Exception) -> None:
        """Wait until the next try is due."""
        seconds = 0.0
        for order in self._supervisor.ended(_NAME, how, str(error), self._clock.now_us()):
            if isinstance(order, Restart):
                seconds = order.wait_us / 1e6
            elif isinstance(order, Escalate):
                seconds = self._supervisor.policy.backoff.max_seconds
                logger.error("the partition keeps failing (%s); the next try is in %.0f s", order.reason, seconds)
        self._status = self._current_status()
        self._stopping.wait(seconds)
        self._supervisor.start(self._clock.now_us())
        self._supervisor.tick(self._clock.now_us())
        self._status = self._current_status()
