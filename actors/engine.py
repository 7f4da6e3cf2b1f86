"""Engine: the one place that wires log, core, partition, Ray and workers together.

Rules: the partition has a thread of its own; callers live in an event loop, and the two meet in bulk. An engine that
loses its log or its partition begins again from the log; one that was fenced off stays down.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from ..cluster import session as ray_session
from ..cluster.clock import SystemClock
from ..cluster.stores import open_log
from ..events.codec import pack
from ..events.decide import Limits
from ..events.errors import EnsueError, LogUnavailable, StaleEpoch
from ..events.inputs import Input
from ..events.pipeline import Pipeline
from .crew import Crew, check_sendable
from .face import EngineFace
from .garbage import CalmCollector
from .links import RayLinks
from .partition import Partition
from .past import earlier_events, finished_run
from .recovery import recover
from .steplog import format_line
from .wire import Tag

__all__ = ["Engine"]

T = TypeVar("T")
logger = logging.getLogger("ensue")
steps_logger = logging.getLogger("ensue.steps")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_READY_SECONDS = 120.0
_RETRY_SECONDS = 1.0
_JOIN_SECONDS = 10.0


class Engine(EngineFace):
    """Runs pipelines on Ray, durably.

    store: a URL as in SQLAlchemy (`sqlite:///ensue.db`, four slashes for an absolute path, `memory://`).
    address: an existing Ray ("auto", "host:port"); None starts an embedded one that only this machine can reach.

    `async with Engine(pipeline) as engine:` resumes what the store holds, starts all workers, and stops them at the
    end. Raises `PipelineInvalid`, `LogUnavailable`, `RayUnavailable`.
    """

    def __init__(
        self,
        *pipelines: Pipeline,
        store: str = "sqlite:///ensue.db",
        address: str | None = None,
        num_cpus: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(pipelines, store, SystemClock())
        self._address = address
        self._num_cpus = num_cpus
        self._limits = limits
        self._ended = threading.Event()
        self._outgoing: list[Input] = []
        self._exits = ExitStack()
        self._grace_seconds = 0.0

    async def start(self) -> None:
        """Open the log, resume what it holds, connect to Ray and start all workers."""
        self._state = "starting"
        self._ended.clear()
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._open)
            await asyncio.to_thread(self._connect)
            await self._await_workers()
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._shut, 0.0))
            self._state = "stopped"
            raise
        if self._state == "starting":
            self._state = "ready"

    async def stop(self, grace_seconds: float = 30.0) -> None:
        """Accept nothing more, let what runs finish in its grace, and end. What is left goes on at the next start."""
        if self._state in ("new", "stopped"):
            return
        self._state = "draining"
        self._drain()
        await asyncio.to_thread(self._shut, grace_seconds)
        self._fail_waiting(EnsueError("the engine has stopped; the run goes on when it starts again"))
        self._state = "stopped"

    @property
    def session(self) -> ray_session.Session:
        """The Ray that this engine uses."""
        return self._session

    def workers(self) -> list[dict[str, Any]]:
        """The workers as they are now: number, pipeline, step, process id, whether they are up."""
        return [
            {"worker": m.worker, "pipeline": m.pipeline.name, "step": m.step.name, "pid": m.pid, "up": m.up}
            for m in self._crew.members
        ]

    def hear(self, worker: int, tag: int, body: Any) -> None:
        """Called by the partition with what a worker says besides completions."""
        if tag == Tag.HELLO:
            self._crew.up(worker)
        elif tag == Tag.LOG:
            steps_logger.log(_LEVELS.get(body[0], logging.INFO), "%s", format_line(body))
        elif tag == Tag.PROGRESS:
            self._note_progress(worker, body)
        elif tag == Tag.ASK:
            events = earlier_events(self._reader, self._plans, body[1], body[2])
            self._links.send(worker, pack([int(Tag.ANSWER), [body[0], events]]))

    def _note_progress(self, worker: int, body: list[Any]) -> None:
        slot = self._partition.core.workers.get(worker)
        delivery = slot[0].leases.get(body[0]) if slot else None
        if delivery is not None:
            self.progress[delivery.run.run_id, delivery.step.name] = (body[1], body[2])

    def _post_all(self, entries: Sequence[Input]) -> None:
        """Coalesced: all that callers emit in one turn of the event loop becomes one batch."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.extend(entries)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        self._partition.post_all(outgoing)

    async def _aside(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(function, *arguments)

    def _post(self, entry: Input) -> None:
        self._partition.post(entry)

    def _open(self) -> None:
        self._log = open_log(self.store)
        self._exits.callback(self._log.close)

    def _connect(self) -> None:
        CalmCollector.begin()
        self._exits.callback(CalmCollector.end)
        self._session = ray_session.start(self._address, num_cpus=self._num_cpus)
        self._exits.callback(ray_session.stop, self._session)
        check_sendable(self.pipelines.values())
        self._epoch = self._take_over(self._log, f"{os.uname().nodename}:{os.getpid()}")
        self._exits.callback(self._reader.close)
        self._links = RayLinks(self._session.folder)
        self._exits.callback(self._links.close)
        self._crew = Crew(self._session, self._links, self._post)
        self._partition = self._recover()
        self._thread = threading.Thread(target=self._turn, name="ensue-partition", daemon=True)
        self._thread.start()
        self._exits.callback(self._end_partition)
        self._crew.start(self.pipelines.values())
        self._exits.callback(lambda: self._crew.stop(self._grace_seconds))

    def _recover(self) -> Partition:
        recovered = recover(self._log, self._epoch, self._plans, self._limits)
        if recovered.alive:
            logger.info("resuming %d runs from %s", recovered.alive, self.store)
        if recovered.stranded:
            logger.warning("%d runs are of pipeline versions that are not loaded: needs_migration", recovered.stranded)
        recovered.core.draining = self._state == "draining"
        return Partition(recovered.core, self._log, self._epoch, links=self._links, watcher=self, clock=self._clock)

    async def _await_workers(self) -> None:
        if not await asyncio.to_thread(self._crew.wait_ready, _READY_SECONDS):
            for (pipeline, step), message in self._crew.lacking().items():
                logger.error(
                    "step %s of pipeline %s lacks workers, and goes on without them: %s", step, pipeline, message
                )
        await asyncio.to_thread(ray_session.check_listeners, self._session)

    def _turn(self) -> None:
        """The partition's thread: turns the loop, and begins again from the log where the log could not be written."""
        failed = False
        while not self._ended.is_set():
            try:
                if failed:
                    self._begin_again()
                failed = True  # until it ended as it should
                self._partition.resume()
                self._partition.run(self._ended.is_set)
            except StaleEpoch as error:
                self._failed(error)
                self._crew.abandon()
                return
            except LogUnavailable as error:
                self._failed(error)
            except Exception as error:
                logger.exception("the partition failed")
                self._failed(error)

    def _begin_again(self) -> None:
        """What was being said when the partition failed is void: workers are ended, and their work is given out anew."""
        self._crew.end_all("the partition begins again from the log")
        self._ended.wait(_RETRY_SECONDS)
        self._partition = self._recover()
        self._crew.introduce_all()
        self._loop.call_soon_threadsafe(self._recheck)
        if self._state.startswith("failed"):
            self._state = "ready"

    def _recheck(self) -> None:
        """Handles of runs that ended in the commit whose outcome nobody heard."""
        alive = self._partition.core.state.runs
        for handle in list(self._handles.values()):
            if handle.raw_id in alive:
                continue
            try:
                found = finished_run(self._reader, self._plans, handle.raw_id)
            except EnsueError:
                continue  # it was never committed, and whoever emitted it knows
            if found is not None:
                handle.finish(*found)

    def _failed(self, error: Exception) -> None:
        logger.error("the partition stopped: %s", error)
        if self._state != "draining":
            self._state = f"failed: {error}"
        self._loop.call_soon_threadsafe(self._fail_waiting, error)

    def _shut(self, grace_seconds: float) -> None:
        """Undo what `start` did, in reverse, as far as it came."""
        self._grace_seconds = grace_seconds
        self._exits.close()

    def _end_partition(self) -> None:
        self._ended.set()
        self._links.wake()
        self._thread.join(_JOIN_SECONDS)
        try:
            if not self._thread.is_alive() and self._partition.core.state.runs:
                self._partition.save_snapshot()
        except EnsueError as error:  # fenced off, or the disk is full: the log alone leads to the same state
            logger.warning("no snapshot was saved: %s", error)

    def _drain(self) -> None:
        """From now on new events are refused, here and in a partition that begins again."""
        self._partition.core.draining = True
