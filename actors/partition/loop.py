"""Partition: the loop that owns a share of the runs. Collect, decide, commit, carry out; then again.

Law: nothing is carried out before its records are committed. While a batch commits, the next one collects; nothing
waits for a batch to fill. Only the thread that turns the loop touches the core, the log and the lanes. A commit that
fails ends the loop: its state is thrown away, and whoever starts it again reads the log.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ...cluster.clock import Clock
from ...cluster.log.protocol import (
    AuditRow,
    Batch,
    DeadLetter,
    Fact,
    LetterSettled,
    Log,
    RunChange,
    RunStart,
    Seen,
    Snapshot,
)
from ...events.decide.commands import Answer, Decision, Died, RunEnded
from ...events.decide.core import Decider
from ...events.decide.inputs import Completed, Emit, Input, Missing, PriorDelivery
from ...events.errors import CodecError
from ...events.model.codec import pack
from ...events.state.snapshot import dump
from ..transport.messages import Tag, unpack_message
from .dedup_retention import DedupRetention

__all__ = ["Links", "Partition", "Watcher"]

logger = logging.getLogger("ensue.partition")
_SNAPSHOT_RECORDS = 500_000
_SNAPSHOT_RUNS = 5_000
"""With more runs alive the loop would stand still for the snapshot (30 us a run), and a restart would gain nothing:
recovery of 100,000 runs took 2.3 s from a snapshot and 2.2 s from the log (benchmarks/RESULTS.md)."""


class Links(Protocol):
    """The workers as the partition reaches them; every method may be slow to arrive, or never."""

    def send(self, worker: int, message: bytes) -> None:
        """Pass a message on to a worker."""
        ...

    def receive(self) -> list[tuple[int, bytes]]:
        """What workers have sent since the last call, without waiting."""
        ...

    def end(self, worker: int, reason: str) -> None:
        """End a worker's process for certain; its death is reported as `WorkerDown`."""
        ...

    def wait(self, timeout_seconds: float | None) -> None:
        """Sleep until a worker has sent something, `wake` is called, or the time is up."""
        ...

    def wake(self) -> None:
        """End a `wait`; may be called from any thread."""
        ...


class Watcher(Protocol):
    """Who wants to know what became of things; called from the partition's thread, after the commit."""

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        """Callers to answer, and runs that ended."""
        ...

    def hear(self, worker: int, tag: int, body: Any) -> None:
        """Something a worker said that changes no run: progress, a log line, a question."""
        ...


class Partition:
    """One partition: a core, its log and its links to workers."""

    def __init__(self, decider: Decider, log: Log, epoch: int, *, links: Links, watcher: Watcher, clock: Clock) -> None:
        self.decider = decider
        self.epoch = epoch
        self._log = log
        self._links = links
        self._watcher = watcher
        self._clock = clock
        self._inbox: deque[Input] = deque()
        self._asleep = False
        self._due_us: int | None = None
        self._snapshot_at = decider.next_offset
        self._is_sound = True
        self._forgetting = DedupRetention(log)

    def post(self, entry: Input) -> None:
        """Tell the loop something; from any thread."""
        self._inbox.append(entry)
        if self._asleep:
            self._asleep = False
            self._links.wake()

    def post_all(self, entries: Iterable[Input]) -> None:
        """Tell the loop several things at once; from any thread."""
        self._inbox.extend(entries)
        if self._asleep:
            self._asleep = False
            self._links.wake()

    def resume(self) -> None:
        """Go on where the last owner of the log ended."""
        self._is_sound = False
        self._carry_out(self.decider.resume(self._clock.now_us()))

    def run(self, until: Callable[[], bool]) -> None:
        """Turn the loop until told to stop."""
        while not until():
            self.sleep()
            self.turn()
        self.turn()  # what workers said last

    def sleep(self) -> None:
        """Wait until there is something to do."""
        self._asleep = True
        if not self._inbox:
            self._links.wait(self._timeout_seconds())
        self._asleep = False

    def turn(self) -> bool:
        """Collect, decide, commit and carry out once; False where there was nothing to do."""
        inputs = self._collect()
        now_us = self._clock.now_us()
        self._forgetting.tend(now_us)
        if not inputs and (self._due_us is None or now_us < self._due_us):
            return False
        self._is_sound = False
        self._carry_out(self.decider.decide(inputs, now_us))
        if (
            self.decider.next_offset - self._snapshot_at > _SNAPSHOT_RECORDS
            and len(self.decider.state.runs) <= _SNAPSHOT_RUNS
        ):
            self.try_snapshot()
        return True

    def save_snapshot(self) -> None:
        """Keep the state as it is now, so that a restart reads less of the log; not one that the log does not lead to."""
        if not self._is_sound:
            return
        self._snapshot_at = self.decider.next_offset
        self._log.save_snapshot(Snapshot(self.decider.next_offset, dump(self.decider.state)))

    def try_snapshot(self) -> None:
        """As `save_snapshot`, where one that fails is no reason to do anything else: the log alone leads to the state."""
        try:
            self.save_snapshot()
        except Exception:
            logger.exception("no snapshot was saved; the log alone leads to the same state")

    @property
    def due_us(self) -> int | None:
        """When a timer wants the loop again."""
        return self._due_us

    @property
    def has_inputs(self) -> bool:
        """Whether something waits to be decided."""
        return bool(self._inbox)

    def _timeout_seconds(self) -> float:
        due_us = self._forgetting.due_us if self._due_us is None else min(self._due_us, self._forgetting.due_us)
        return max(0.0, (due_us - self._clock.now_us()) / 1e6)

    def _collect(self) -> list[Input]:
        inputs: list[Input] = []
        for worker, message in self._links.receive():
            self._read(worker, message, inputs)
        inbox = self._inbox
        keyed: list[Emit] = []
        for _ in range(len(inbox)):
            entry = inbox.popleft()
            if isinstance(entry, Emit) and entry.sender_id is not None:
                keyed.append(entry)
            inputs.append(entry)
        if keyed:
            self._recall(keyed)
        return inputs

    def _read(self, worker: int, message: bytes, inputs: list[Input]) -> None:
        try:
            tag, body = unpack_message(message)
        except CodecError:
            logger.exception("worker %d sent no message; it is passed over", worker)
            return
        if tag == Tag.COMPLETIONS:
            inputs.append(Completed(worker, body))
        elif tag == Tag.MISSING:
            inputs.append(Missing(worker, body))
        else:
            self._tell(worker, tag, body)

    def _tell(self, worker: int, tag: int, body: Any) -> None:
        """Pass on what changes no run, and so is worth no turn either."""
        try:
            self._watcher.hear(worker, tag, body)
        except Exception:
            logger.exception("what worker %d said (tag %d) could not be heard; it is passed over", worker, tag)

    def _recall(self, emits: list[Emit]) -> None:
        """Ask the log which of these the sender had sent before."""
        seen = self._log.lookup([(e.source, e.sender_id or "") for e in emits])
        for emit in emits:
            row = seen.get((emit.source, emit.sender_id or ""))
            if row is not None:
                emit.known = PriorDelivery(row.digest, row.event_id, row.run_id)

    def _carry_out(self, decision: Decision) -> None:
        if decision.writes:
            self._log.commit(self._batch(decision))
        self._is_sound = True
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
            self._links.end(kill.worker, kill.reason)
        if decision.answers or decision.ended:
            self._watcher.settle(decision.answers, decision.ended)

    def _batch(self, decision: Decision) -> Batch:
        started = [
            RunStart(run.number, run.run_id, run.plan.pipeline, run.plan.version, run.trigger_type, run.started_us)
            for run in decision.started
        ]
        changed = [RunChange(run, int(status), at) for run, status, at in decision.changed]
        seen = [
            Seen(source, sender_id, digest, run_id, event_id, decision.now_us)
            for source, sender_id, digest, run_id, event_id in decision.seen
        ]
        batch = Batch(self.epoch, decision.entries, started, changed, seen)
        if decision.facts or decision.dead or decision.settled or decision.audit:
            _add_operations(batch, decision)
        return batch


def _add_operations(batch: Batch, decision: Decision) -> None:
    """What is not part of every batch: what to remember, dead letters, and what operators did."""
    now_us = decision.now_us
    batch.facts = [Fact(kind, name, body, now_us) for kind, name, body in decision.facts]
    batch.dead = [_letter(died) for died in decision.dead]
    batch.settled = [LetterSettled(letter_id, state) for letter_id, state in decision.settled]
    batch.audit = [AuditRow(now_us, who, action, subject, detail) for who, action, subject, detail in decision.audit]


def _letter(died: Died) -> DeadLetter:
    run, fault = died.run, died.error
    return DeadLetter(
        letter_id=died.letter_id,
        run=run.number,
        run_id=run.run_id,
        delivery=died.delivery,
        pipeline=run.plan.pipeline,
        step=fault.step,
        event_type=died.event_type,
        event_id=died.event_id,
        kind=str(fault.failure.kind),
        error=fault.failure.error,
        message=fault.failure.message,
        attempts=fault.attempts,
        time_us=died.time_us,
        blocked=died.blocked,
    )
