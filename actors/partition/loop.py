"""Partition: the loop that owns a share of the runs. Collect, decide, commit, carry out; then again.

Rules: nothing is carried out before its records are committed. While a batch commits, the next one collects; the loop
never waits for a batch to fill. Only the thread that turns the loop touches the decider, the log and the lanes; other
threads post inputs and read the published views. A commit that fails ends the loop: its state is thrown away, and a
new partition recovers from the log.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ...cluster.clock import Clock
from ...cluster.log.protocol import Log, Snapshot
from ...events.decide.commands import Answer, Decision, RunEnded
from ...events.decide.core import Decider
from ...events.decide.inputs import Completed, Emit, Input, Missing, PriorDelivery
from ...events.errors import CodecError
from ...events.model.codec import pack
from ...events.policies.breaker import BreakerView
from ...events.state.snapshot import dump
from ..transport.messages import Tag, unpack_message
from .batch import batch_of
from .dedup_retention import DedupRetention
from .published_views import PublishedViews

__all__ = ["Links", "Partition", "Watcher"]

logger = logging.getLogger("ensue.partition")
_SNAPSHOT_RECORDS = 500_000
_SNAPSHOT_RUNS = 5_000
"""Above this many live runs no snapshot is taken while the loop turns: it would stand still for 30 us a run, and a
restart would gain nothing. Recovery of 100,000 runs took 2.3 s from a snapshot and 2.2 s from the log
(benchmarks/RESULTS.md)."""


class Links(Protocol):
    """The workers as the partition reaches them; every message may arrive late, or never."""

    def send(self, worker: int, message: bytes) -> None:
        """Send a message to a worker."""
        ...

    def receive(self) -> list[tuple[int, bytes]]:
        """What workers have sent since the last call, without waiting."""
        ...

    def kill(self, worker: int, reason: str) -> None:
        """Kill a worker's process; its end is reported as `WorkerDown`."""
        ...

    def wait(self, timeout_seconds: float | None) -> None:
        """Sleep until a worker has sent something, `wake` is called, or the time is up."""
        ...

    def wake(self) -> None:
        """End a `wait`; may be called from any thread."""
        ...


class Watcher(Protocol):
    """The engine as the partition reports to it, from the partition's thread and after the commit."""

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        """Callers to answer, and runs that ended."""
        ...

    def on_progress(self, run_id: bytes, step: str, done: float, total: float) -> None:
        """A step of a live run reports how far it is."""
        ...

    def on_message(self, worker: int, tag: int, body: Any) -> None:
        """A worker's message that changes no run: a greeting, a log line, a question."""
        ...


class Partition:
    """One partition: a decider, its log and its links to workers."""

    def __init__(self, decider: Decider, log: Log, epoch: int, *, links: Links, watcher: Watcher, clock: Clock) -> None:
        self.epoch = epoch
        self._decider = decider
        self._log = log
        self._links = links
        self._watcher = watcher
        self._clock = clock
        self._inbox: deque[Input] = deque()
        self._asleep = False
        self._draining = False
        self.refused: list[str] = []
        """The inputs that the last turn refused since they raised."""
        self._due_us: int | None = None
        self._snapshot_at = decider.next_offset
        self._is_sound = True
        self._retention = DedupRetention(log)
        self._views = PublishedViews(decider)

    # -- from any thread ---------------------------------------------------------------------------------------------

    def post(self, entry: Input) -> None:
        """Tell the loop something."""
        self._inbox.append(entry)
        if self._asleep:
            self._wake()

    def post_all(self, entries: Iterable[Input]) -> None:
        """Tell the loop several things at once."""
        self._inbox.extend(entries)
        if self._asleep:
            self._wake()

    def drain(self) -> None:
        """From the next turn on, refuse new events and lease nothing more."""
        self._draining = True
        if self._asleep:
            self._wake()

    def breakers(self, now_us: int) -> list[BreakerView]:
        """The circuit breakers at this time, as they were last published."""
        return [snapshot.view(now_us) for snapshot in self._views.breakers]

    @property
    def has_inputs(self) -> bool:
        """Whether inputs wait for a decision."""
        return bool(self._inbox)

    def _wake(self) -> None:
        self._asleep = False
        self._links.wake()

    # -- from the thread that turns the loop -------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on where the last owner of the log ended."""
        self._is_sound = False
        self._decider.draining |= self._draining
        self._carry_out(self._decider.resume(self._clock.now_us()))

    def run(self, until: Callable[[], bool]) -> None:
        """Turn the loop until told to stop."""
        while not until():
            self.sleep()
            self.turn()
        self.turn()  # for the last messages of workers

    def sleep(self) -> None:
        """Wait until there is something to do."""
        self._asleep = True
        if not self._inbox:
            self._links.wait(self._timeout_seconds())
        self._asleep = False

    def turn(self) -> bool:
        """Collect, decide, commit and carry out once; False if there was nothing to do."""
        inputs = self._collect()
        now_us = self._clock.now_us()
        self._retention.run_if_due(now_us)
        publish_us = self._views.due_us
        if publish_us is not None and now_us >= publish_us:
            self._views.publish()
        if not inputs and (self._due_us is None or now_us < self._due_us):
            return False
        self._is_sound = False
        if self._draining:
            self._decider.draining = True
        self._carry_out(self._decider.decide(inputs, now_us))
        if self._decider.next_offset - self._snapshot_at > _SNAPSHOT_RECORDS and self.live_runs <= _SNAPSHOT_RUNS:
            self.try_snapshot()
        return True

    def publish(self) -> None:
        """Publish the views as they are now."""
        self._views.publish()

    @property
    def live_runs(self) -> int:
        """How many runs are live."""
        return len(self._decider.state.runs)

    def live_run_ids(self) -> frozenset[bytes]:
        """The ids of all live runs, a copy."""
        return frozenset(self._decider.state.runs)

    def save_snapshot(self) -> None:
        """Save the state, so that a restart reads less of the log; never a state that the log does not lead to."""
        if not self._is_sound:
            return
        self._snapshot_at = self._decider.next_offset
        self._log.save_snapshot(Snapshot(self._decider.next_offset, dump(self._decider.state)))

    def try_snapshot(self) -> None:
        """As `save_snapshot`, but a failure is only logged: the log alone leads to the same state."""
        try:
            self.save_snapshot()
        except Exception:
            logger.exception("no snapshot was saved; the log alone leads to the same state")

    @property
    def due_us(self) -> int | None:
        """When a timer wants the loop again (microseconds since the epoch)."""
        return self._due_us

    def _timeout_seconds(self) -> float:
        due_us = self._retention.due_us
        if self._due_us is not None and self._due_us < due_us:
            due_us = self._due_us
        publish_us = self._views.due_us
        if publish_us is not None and publish_us < due_us:
            due_us = publish_us
        return max(0.0, (due_us - self._clock.now_us()) / 1e6)

    def _collect(self) -> list[Input]:
        inputs: list[Input] = []
        for worker, message in self._links.receive():
            self._read(worker, message, inputs)
        inbox = self._inbox
        with_sender_id: list[Emit] = []
        for _ in range(len(inbox)):
            entry = inbox.popleft()
            if isinstance(entry, Emit) and entry.sender_id is not None:
                with_sender_id.append(entry)
            inputs.append(entry)
        if with_sender_id:
            self._look_up(with_sender_id)
        return inputs

    def _read(self, worker: int, message: bytes, inputs: list[Input]) -> None:
        try:
            tag, body = unpack_message(message)
        except CodecError:
            logger.exception("worker %d sent an invalid message; it is ignored", worker)
            return
        if tag == Tag.COMPLETIONS:
            inputs.append(Completed(worker, body))
        elif tag == Tag.MISSING:
            inputs.append(Missing(worker, body))
        else:
            self._pass_on(worker, tag, body)

    def _pass_on(self, worker: int, tag: int, body: Any) -> None:
        """Report what changes no run, and so needs no decision."""
        try:
            if tag == Tag.PROGRESS:
                self._report_progress(worker, *body)
            else:
                self._watcher.on_message(worker, tag, body)
        except Exception:
            logger.exception("a message of worker %d (tag %d) could not be handled; it is ignored", worker, tag)

    def _report_progress(self, worker: int, token: int, done: float, total: float) -> None:
        """Only for a live run: a step may still run, and report, after its run has ended."""
        known = self._decider.workers.get(worker)
        delivery = known[0].leases.get(token) if known is not None else None
        if delivery is not None and delivery.run.run_id in self._decider.state.runs:
            self._watcher.on_progress(delivery.run.run_id, delivery.step.name, done, total)

    def _look_up(self, emits: list[Emit]) -> None:
        """Ask the log which of these events the sender had sent before."""
        seen = self._log.lookup([(emit.source, emit.sender_id or "") for emit in emits])
        for emit in emits:
            row = seen.get((emit.source, emit.sender_id or ""))
            if row is not None:
                emit.known = PriorDelivery(row.digest, row.event_id, row.run_id)

    def _carry_out(self, decision: Decision) -> None:
        if decision.writes:
            self._log.commit(batch_of(decision, self.epoch))
        self._is_sound = True
        self.refused = decision.refused
        for refusal in decision.refused:
            logger.error("%s", refusal)
        self._due_us = decision.due_us
        for deliver in decision.deliver:
            self._links.send(deliver.worker, pack([Tag.DELIVER, deliver.items]))
        for credit in decision.credit:
            self._links.send(credit.worker, pack([Tag.CREDIT, [credit.token, credit.upto]]))
        for cancel in decision.cancel:
            self._links.send(cancel.worker, pack([Tag.CANCEL, cancel.tokens]))
        for recall in decision.recall:
            self._links.send(recall.worker, pack([Tag.RECALL, recall.tokens]))
        for inquiry in decision.inquire:
            self._links.send(inquiry.worker, pack([Tag.INQUIRE, inquiry.tokens]))
        for kill in decision.kill:
            self._links.kill(kill.worker, kill.reason)
        if decision.facts or decision.audit:  # a breaker may have moved, and callers expect to see it
            self._views.publish()
        elif self._views.due_us is None:
            self._views.note_turn(decision.now_us)
        if decision.answers or decision.ended:
            self._watcher.settle(decision.answers, decision.ended)
