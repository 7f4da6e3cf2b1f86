"""Decide: the one place where inputs become records and commands.

Law: the core decides and never acts. It reads no clock and rolls no dice (times come in, jitter is derived), it may
mutate its own state in place, and nothing it commands may be carried out before its records are committed. If that
commit fails the core is thrown away and rebuilt from the log.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from . import results, transitions
from .book import Book
from .commands import Answer, CancelDeliveries, Credit, Decision, Deliver, Kill
from .dispatch import Pool, WorkerSlot, item_of, plan_leases, size_of
from .errors import DeliveryConflict, EnsueError, Overloaded, RunFinished, RunUnknown
from .failure import Failure, FailureKind
from .ids import format_id
from .inputs import (
    Accepted,
    Cancel,
    Completed,
    Completion,
    Emit,
    Input,
    Known,
    Op,
    Revive,
    StepBroken,
    WorkerDown,
    WorkerUp,
)
from .plan import Plan
from .records import Kind
from .replay import fold
from .state import Delivery, DeliveryStatus, Ref, Run, State
from .status import Status

__all__ = ["Core", "Limits"]

RUN, ATTEMPT, REVIVED = int(Kind.RUN), int(Kind.ATTEMPT), int(Kind.REVIVED)
READY = DeliveryStatus.READY
LEASED = DeliveryStatus.LEASED
WAITING = DeliveryStatus.WAITING
_MOST_DELIVERED_BYTES = 48 * 1024 * 1024
"""More would not fit into a message beside what else is in it (`dispatch.MAX_LEASED_BYTES`)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a partition draws the line.

    runs and size_bytes: how many runs in flight, and how many bytes of their packed events, before new ones are
    refused. crashes: how many attempts of a delivery may end with the process. lost: how many ends of the whole engine
    a delivery may be running at. backlog: how many deliveries may wait for workers before generators are held back.
    """

    runs: int = 250_000
    size_bytes: int = 1 << 30
    crashes: int = 3
    lost: int = 5
    backlog: int = 10_000


class Core:
    """The state of one partition, and what follows from its inputs."""

    def __init__(self, plans: Mapping[str, Plan], book: Book, limits: Limits | None = None) -> None:
        self.plans = dict(plans)
        self.pools = {
            (plan.pipeline, step.name): Pool(plan.pipeline, step.name, step.step.style.endswith("stream"))
            for plan in plans.values()
            for step in plan.steps
        }
        self.workers: dict[int, tuple[WorkerSlot, Pool]] = {}
        self.draining = False
        self._book = book
        self._limits = limits or Limits()
        self._token = book.next_offset  # every lease writes a record, so no core on this log used these before
        self._remembered: dict[tuple[str, str], Known] = {}
        self._owed: dict[tuple[int, int], int] = {}

    @property
    def state(self) -> State:
        """All live runs."""
        return self._book.state

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets."""
        return self._book.next_offset

    def decide(self, inputs: Iterable[Input], now_us: int) -> Decision:
        """What follows from these inputs at this time (microseconds since the epoch)."""
        book = self._book
        book.open(now_us)
        self._remembered.clear()
        book.expire()
        for entry in inputs:
            self._hear(entry)
        self._dispatch()
        self._pay()
        return book.close()

    def resume(self, now_us: int) -> Decision:
        """After a replay: everything that was under way when the last owner ended is ready again."""
        book = self._book
        book.open(now_us)
        alive = [d for run in book.state.runs.values() for d in run.deliveries.values()]
        book.state.fresh.clear()
        for delivery in sorted(alive, key=_order):
            self._resume_delivery(delivery)
        for run in list(book.state.runs.values()):
            book.settle(run)
        self._dispatch()
        return book.close()

    @property
    def backlog(self) -> int:
        """How many deliveries wait for a worker, but for those that wait for a generator.

        Those may wait for the very generator that is held back, and then it would be held back for ever.
        """
        return sum(len(pool.ready) + len(pool.suspects) for pool in self.pools.values() if not pool.streams)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _hear(self, entry: Input) -> None:
        if isinstance(entry, Completed):
            self._completed(entry)
        elif isinstance(entry, Emit):
            self._emit(entry)
        elif isinstance(entry, WorkerUp):
            self._worker_up(entry)
        elif isinstance(entry, WorkerDown):
            self._worker_down(entry)
        elif isinstance(entry, Cancel):
            self._cancel(entry)
        elif isinstance(entry, Revive):
            self._revive(entry)
        elif isinstance(entry, StepBroken):
            self.pools[entry.pipeline, entry.step].broken = entry.message
        else:
            assert_never(entry)

    def _emit(self, emit: Emit) -> None:
        answer = self._refusal(emit)
        if answer is None:
            answer = Accepted(emit.event_id, emit.run_id, duplicate=False)
            self._start(emit)
        if emit.reply is not None:
            self._book.decision.answers.append(Answer(emit.reply, answer))

    def _refusal(self, emit: Emit) -> Accepted | EnsueError | None:
        if emit.sender_id is not None:
            known = emit.known or self._remembered.get((emit.source, emit.sender_id))
            if known is not None and known.digest != emit.digest:
                msg = f"id {emit.sender_id!r} from {emit.source!r} was used before for another body"
                return DeliveryConflict(f"{msg}: send new content under a new id")
            if known is not None:
                return Accepted(known.event_id, known.run_id, duplicate=True)
        if self.draining:
            return Overloaded("the engine is draining: send it again", retry_after_seconds=5.0)
        state = self._book.state
        if len(state.runs) >= self._limits.runs or state.size_bytes >= self._limits.size_bytes:
            return Overloaded(f"{len(state.runs):,} runs are in flight: send it again")
        return None

    def _start(self, emit: Emit) -> None:
        book = self._book
        plan = self.plans[emit.pipeline]
        run = transitions.begin(book.state, emit.run_id, plan, book.now_us, emit.type)
        book.decision.started.append(run)
        book.record(run, [RUN, emit.run_id, plan.pipeline, plan.version, emit.source, emit.sender_id])
        ref = Ref(emit.event_id, emit.type, emit.version, emit.data, emit.key, run.root)
        book.record(run, results.event_record(ref, b"", 0, 0, book.now_us, many=False))
        if emit.sender_id is not None:
            self._remembered[emit.source, emit.sender_id] = Known(emit.digest, emit.event_id, emit.run_id)
            book.decision.seen.append((emit.source, emit.sender_id, emit.digest, emit.run_id, emit.event_id))
        if not transitions.hear(book.state, run, ref):
            run.results = [ref]
        book.settle(run)  # heard by a join alone, nothing is pending either

    def _completed(self, entry: Completed) -> None:
        known = self.workers.get(entry.worker)
        if known is None:
            return
        slot = known[0]
        leases = slot.leases
        spent_us = count = 0
        for item in entry.items:
            op, token = item[0], item[1]
            delivery = leases.get(token)
            if delivery is None:
                continue
            if op == Op.STREAM:
                self._streamed(slot, delivery, item)
            elif op == Op.STUCK:
                self._stuck(slot, token)
            else:
                del leases[token]
                slot.leased_bytes -= size_of(delivery)
                if op == Op.DONE:
                    spent_us += item[2]
                    count += 1
                if delivery.status is LEASED:
                    self._finished(delivery, item)
        if count:
            slot.learn(spent_us / count)

    def _finished(self, delivery: Delivery, item: Completion) -> None:
        book = self._book
        if item[0] == Op.DONE:
            results.done(book, delivery, item)
        elif item[0] == Op.FAIL:
            results.failed(book, delivery, Failure(*item[2:6]), item[6])
        else:
            results.released(book, delivery)
        book.settle(delivery.run)

    def _streamed(self, slot: WorkerSlot, delivery: Delivery, item: Completion) -> None:
        if delivery.status is LEASED:
            results.emitted(self._book, delivery, item[2], item[3], many=True)
            self._owed[slot.worker, item[1]] = item[2] + len(item[3])
        else:
            self._book.decision.cancel.append(CancelDeliveries(slot.worker, [item[1]]))

    def _pay(self) -> None:
        """Let generators go on, unless much waits for workers already: that bounds what is held in memory."""
        if self._owed and self.backlog < self._limits.backlog:
            self._book.decision.credit += [Credit(worker, token, upto) for (worker, token), upto in self._owed.items()]
            self._owed.clear()

    def _stuck(self, slot: WorkerSlot, token: int) -> None:
        slot.stuck.add(token)
        if not slot.closed:
            slot.closed = True
            self._book.decision.kill.append(Kill(slot.worker, "a step did not return in its time"))

    # -- workers -----------------------------------------------------------------------------------------------------

    def _worker_up(self, entry: WorkerUp) -> None:
        if entry.worker in self.workers:
            return
        pool = self.pools[entry.pipeline, entry.step]
        slot = WorkerSlot(entry.worker, entry.concurrency, entry.concurrency)
        pool.workers.append(slot)
        pool.broken = None
        self.workers[entry.worker] = (slot, pool)

    def _worker_down(self, entry: WorkerDown) -> None:
        known = self.workers.pop(entry.worker, None)
        if known is None:
            return
        slot, pool = known
        pool.workers.remove(slot)
        for token, delivery in slot.leases.items():
            if delivery.status is not LEASED:
                continue
            if token in slot.stuck:
                results.timed_out(self._book, delivery)
            elif entry.expected or slot.closed:
                results.released(self._book, delivery)
            else:
                results.crashed(self._book, delivery, entry.message, self._limits.crashes)
            self._book.settle(delivery.run)

    # -- operators ---------------------------------------------------------------------------------------------------

    def _cancel(self, entry: Cancel) -> None:
        run = self._book.state.runs.get(entry.run_id)
        if run is not None:
            self._stop_leases(run)
            self._book.end(run, Status.CANCELLED)
        if entry.reply is not None:
            error = None if run else RunUnknown(f"no run {format_id(entry.run_id)} is in flight")
            self._book.decision.answers.append(Answer(entry.reply, error))

    def _stop_leases(self, run: Run) -> None:
        for worker, (slot, _) in self.workers.items():
            tokens = [token for token, delivery in slot.leases.items() if delivery.run is run]
            if tokens:
                self._book.decision.cancel.append(CancelDeliveries(worker, tokens))

    def _revive(self, entry: Revive) -> None:
        error: EnsueError | None
        if entry.run_id in self._book.state.runs:
            error = RunFinished(f"run {format_id(entry.run_id)} is in flight: there is nothing to retry")
        else:
            error = self._load(entry)
        if entry.reply is not None:
            self._book.decision.answers.append(Answer(entry.reply, error))

    def _load(self, entry: Revive) -> EnsueError | None:
        book = self._book
        scratch = State(order=book.state.order)
        runs: dict[int, Run] = {}
        for records in entry.entries:
            fold(scratch, self.plans, runs, entry.number, records)
        run = runs.get(entry.number)
        if run is None:
            return EnsueError("the run's pipeline version is not loaded here: start the engine with that code")
        if run.status.live:
            return RunFinished(f"run {format_id(entry.run_id)} has only just ended: retry it again")
        if not run.deliveries:
            return RunFinished(f"run {format_id(entry.run_id)} has nothing left to retry")
        book.state.order = scratch.order
        book.record(run, [REVIVED, book.now_us])
        transitions.revive(book.state, run)
        book.change(run, Status.RUNNING)
        return None

    def _resume_delivery(self, delivery: Delivery) -> None:
        book = self._book
        if delivery.status is LEASED:
            transitions.release(delivery, READY)
            delivery.lost += 1
            if delivery.lost >= self._limits.lost:
                text = f"the engine ended {delivery.lost} times while this was running"
                results.give_up(book, delivery, Failure(FailureKind.UNKNOWN, "EngineDied", text))
                return
        if not transitions.may_run(book.state, delivery):
            return
        if delivery.status is WAITING and delivery.due_us > book.now_us:
            book.set_timer(delivery, delivery.due_us)
        elif delivery.status in (READY, WAITING):
            transitions.ready(book.state, delivery)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        fresh = self._book.state.fresh
        for delivery in fresh:
            if delivery.status is READY:
                self.pools[delivery.run.plan.pipeline, delivery.step.name].add(delivery)
        fresh.clear()
        if self.draining:
            return
        for pool in self.pools.values():
            if not (pool.ready or pool.suspects):
                continue
            if pool.workers:
                for slot, deliveries in plan_leases(pool):
                    self._lease(slot, deliveries)
            elif pool.broken is not None:
                self._fail_pending(pool, pool.broken)
        if fresh:
            self._dispatch()

    def _fail_pending(self, pool: Pool, reason: str) -> None:
        """No worker of a step starts: what waits for it fails and says why, rather than wait for ever."""
        waiting = (*pool.suspects, *pool.ready)
        pool.suspects.clear()
        pool.ready.clear()
        for delivery in waiting:
            if delivery.status is READY:
                results.give_up(self._book, delivery, Failure(FailureKind.PERMANENT, "StepBroken", reason))
                self._book.settle(delivery.run)

    def _lease(self, slot: WorkerSlot, deliveries: list[Delivery]) -> None:
        book = self._book
        now_us = book.now_us
        token = self._token
        items = []
        for delivery in deliveries:
            size = size_of(delivery)
            if size > _MOST_DELIVERED_BYTES:
                self._refuse(delivery, size)
                continue
            token += 1
            number = delivery.attempt + 1
            transitions.attempt(delivery, number, now_us)
            slot.leases[token] = delivery
            slot.leased_bytes += size
            ids = results.input_ids(delivery) if number == 1 else []
            book.record(delivery.run, [ATTEMPT, delivery.number, delivery.step.name, number, now_us, ids])
            items.append(item_of(delivery, token))
        self._token = token
        if items:
            book.decision.deliver.append(Deliver(slot.worker, items))

    def _refuse(self, delivery: Delivery, size: int) -> None:
        text = f"{size:,} bytes of events for one call are over the limit of {_MOST_DELIVERED_BYTES:,}: gather less"
        results.give_up(self._book, delivery, Failure(FailureKind.PERMANENT, "CodecError", text))
        self._book.settle(delivery.run)


def _order(delivery: Delivery) -> int:
    return delivery.order
