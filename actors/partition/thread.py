"""The thread that turns a partition, and the supervisor of that partition.

Rules: a partition that fails is thrown away and begins again from the log, after the wait that the policy gives. Where
the log cannot be written nothing is to be counted: it is tried until it can. A fenced partition never begins again.
Where it fails too often that is alarmed, and it is tried all the same, at the longest wait: nobody is above it.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ...cluster.clock import SystemClock
from ...events.errors import LogUnavailable, StaleEpoch
from ...events.supervision.supervisor import PIPELINE_SUPERVISION, Escalate, How, Restart, Supervisor
from ...events.views.health_tree import TreeNode, node
from .loop import Partition

__all__ = ["PartitionThread"]

logger = logging.getLogger("ensue")
_NAME = "partition"
_HUNG_SECONDS = 10.0


class PartitionThread:
    """Turns a partition until it is ended.

    again: recovers a partition from the log, after whatever has to be ended has ended. failed: is told of each failure,
    and of the history to remember. going: is told that a partition that had failed goes on.
    """

    def __init__(
        self,
        partition: Partition,
        again: Callable[[], Partition],
        failed: Callable[[Exception], None],
        going: Callable[[list[Any]], None],
        history: list[Any] | None,
    ) -> None:
        self._partition = partition
        self._again = again
        self._failed = failed
        self._going = going
        self._clock = SystemClock()
        self._node = Supervisor(_NAME, PIPELINE_SUPERVISION, [_NAME])
        if history:
            self._node.restore([*history[:2], ""], self._clock.now_us())
        self._node.start(self._clock.now_us())
        self._ended = threading.Event()
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="ensue-partition", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self, timeout_seconds: float, wake: Callable[[], None]) -> bool:
        """Turn no more, after what workers said last; False where the thread hangs."""
        self._ended.set()
        if self._thread.is_alive():
            wake()
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def hung_seconds(self) -> float:
        """How long something has waited for a turn that does not come; 0 where all is well."""
        waited = time.monotonic() - self._turned
        return waited if self._partition.has_inputs and waited > _HUNG_SECONDS else 0.0

    def tree(self) -> TreeNode:
        """How it stands."""
        child = self._node.children[_NAME]
        status, reason = str(child.status), child.reason or self._node.gave_up
        if self.hung_seconds:
            status, reason = "down", f"it has not turned for {self.hung_seconds:.0f} s, and inputs wait"
        return node("partition", _NAME, status, restarts=child.restarts, since=child.since_us, reason=reason)

    def _serve(self) -> None:
        how: How | None = None
        while not self._ended.is_set():
            try:
                if how is not None:
                    self._partition = self._again()
                    self._node.came_up(_NAME, self._clock.now_us())
                    self._going(self._node.history())
                self._node.came_up(_NAME, self._clock.now_us())
                how = How.CRASHED
                self._partition.resume()
                self._partition.run(self._stop_or_turn)
            except StaleEpoch as error:
                self._node.stop(self._clock.now_us())
                self._failed(error)
                return
            except LogUnavailable as error:
                self._failed(error)
                self._wait(How.UNSTARTED, error)
            except Exception as error:
                logger.exception("the partition failed")
                self._failed(error)
                self._wait(How.CRASHED, error)

    def _stop_or_turn(self) -> bool:
        self._turned = time.monotonic()
        return self._ended.is_set()

    def _wait(self, how: How, error: Exception) -> None:
        """The time until it is to be tried again."""
        seconds = 0.0
        for order in self._node.ended(_NAME, how, str(error), self._clock.now_us()):
            if isinstance(order, Restart):
                seconds = order.wait_us / 1e6
            elif isinstance(order, Escalate):
                seconds = self._node.policy.backoff.max_seconds
                logger.error(
                    "the partition fails again and again (%s); the next try is in %.0f s", order.reason, seconds
                )
        self._ended.wait(seconds)
        self._node.start(self._clock.now_us())
        self._node.tick(self._clock.now_us())
