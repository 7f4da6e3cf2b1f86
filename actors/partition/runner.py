"""PartitionRunner: the partition of an engine from its recovery to its end.

Rules: a partition that failed is replaced only after all of its workers have ended. A partition whose thread
hangs keeps its log open, since the thread may still use it.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from ...cluster.clock import Clock
from ...events.decide.core import Limits
from ...events.errors import EnsueError, StaleEpoch
from ...events.pipelines.plan import Plan
from ...events.supervision.restart_history import RestartHistory
from ...events.views.health_tree import TreeNode
from .loop import Links, Partition, Watcher
from .owned_log import OwnedLog
from .recovery import recover
from .thread import PartitionThread

__all__ = ["PartitionRunner"]

logger = logging.getLogger("ensue")


class PartitionRunner:
    """Recovers partitions of one log, turns them in a thread, and leaves the log in order.

    on_new: is given each new partition, before it is turned.
    """

    def __init__(
        self,
        owned_log: OwnedLog,
        plans: Mapping[str, Plan],
        limits: Limits | None,
        *,
        links: Links,
        watcher: Watcher,
        clock: Clock,
        on_new: Callable[[Partition], None],
    ) -> None:
        self._log = owned_log
        self._plans = plans
        self._limits = limits
        self._links = links
        self._watcher = watcher
        self._clock = clock
        self._on_new = on_new
        self._draining = False
        self._thread: PartitionThread | None = None
        self.resumed_runs = 0
        """How many live runs the last recovery found."""
        self.is_hung = False
        """Whether the thread did not end when it was told to."""
        self.partition = self._recover()
        self._on_new(self.partition)

    def start(
        self,
        void_workers: Callable[[], None],
        on_failure: Callable[[Exception], None],
        on_recovery: Callable[[RestartHistory], None],
        history: RestartHistory,
    ) -> None:
        """Start to turn the partition.

        void_workers: as `restart`. on_failure, on_recovery, history: as `PartitionThread`.
        """
        restart = partial(self.restart, void_workers)
        self._thread = PartitionThread(self.partition, restart, on_failure, on_recovery, history)
        self._thread.start()

    def restart(self, void_workers: Callable[[], None]) -> Partition:
        """Replace a partition that failed.

        void_workers: ends all workers of that partition; raises if they have not ended in time.
        """
        void_workers()
        self.partition = self._recover()
        self._on_new(self.partition)
        return self.partition

    def drain(self) -> None:
        """From now on new events are refused, also by a partition that restarts."""
        self._draining = True
        self.partition.drain()

    def stop(self, timeout_seconds: float, *, release: bool) -> None:
        """End the thread, save a snapshot if runs are live, and give the log back if `release` says so."""
        if self._thread is not None and not self._thread.stop(timeout_seconds, self._links.wake):
            self.is_hung = True
            logger.error(
                "the partition did not end within %.0f s: its log is left open, and not given back", timeout_seconds
            )
            return
        if self.partition.live_runs:
            self.partition.try_snapshot()
        if not release:
            return
        try:
            self._log.log.release(self._log.epoch)
        except EnsueError as error:
            logger.warning("the log was not given back: %s", error)

    def tree(self) -> list[TreeNode]:
        """The partition's part of the health tree."""
        return [] if self._thread is None else [self._thread.tree()]

    def check_owner(self) -> StaleEpoch | None:
        """The error if another engine has taken the log: an engine with nothing to commit would never learn of it."""
        epoch, owner = self._log.reader.owner()
        if epoch <= self._log.epoch:
            return None
        logger.warning("%s has taken over the log", owner or "another engine")
        return StaleEpoch(f"{self._log.store} is at epoch {epoch}, this owner at {self._log.epoch}: it must stop")

    def check_turning(self) -> None:
        """Log an error if the partition hangs."""
        seconds = 0.0 if self._thread is None else self._thread.hung_seconds
        if seconds:
            logger.error("the partition has not turned for %.0f s, and inputs wait", seconds)

    def _recover(self) -> Partition:
        recovered = recover(self._log.log, self._log.epoch, self._plans, self._limits)
        if recovered.live:
            logger.info("resuming %d runs from %s", recovered.live, self._log.store)
        if recovered.stranded:
            logger.warning("%d runs are of pipeline versions that are not loaded: needs_migration", recovered.stranded)
        self.resumed_runs = recovered.live
        recovered.decider.draining = self._draining
        return Partition(
            recovered.decider,
            self._log.log,
            self._log.epoch,
            links=self._links,
            watcher=self._watcher,
            clock=self._clock,
        )
