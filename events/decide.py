"""Decide: the one place where inputs become records and commands.

Law: the core decides and never acts. It reads no clock and rolls no dice (times come in, jitter is derived), it may
mutate its own state in place, and nothing it commands may be carried out before its records are committed. If that
commit fails the core is thrown away and rebuilt from the log.
"""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import Any, assert_never

from . import transitions
from .codec import pack, unpack
from .commands import Answer, CancelDeliveries, Credit, Decision, Deliver, Kill, RunEnded, RunEntry
from .dispatch import Pool, WorkerSlot, item_of, plan_leases, size_of
from .errors import DeliveryConflict, EnsueError, Overloaded, RunFinished, RunUnknown
from .failure import Failure, FailureKind
from .ids import derived_id, format_id
from .inputs import Accepted, Cancel, Completed, Completion, Emit, Input, Known, Op, Revive, WorkerDown, WorkerUp
from .plan import FAILED_TYPE, Plan
from .records import Kind, Record, pack_records
from .replay import fold
from .state import Delivery, DeliveryStatus, Ref, Run, State
from .status import Status

__all__ = ["Core", "Limits"]

RUN, EVENT, ATTEMPT, DONE, FAILED, RELEASED, CRASHED, ENDED, REVIVED = (int(kind) for kind in Kind)
READY = DeliveryStatus.READY
LEASED = DeliveryStatus.LEASED
WAITING = DeliveryStatus.WAITING
_SECOND_US = 1_000_000
FAILURE_INDEX = -1
"""The index of a `StepFailed` among the events of its delivery."""


class Limits:
    """How much the partition holds before it refuses new runs: runs in flight, and bytes of their packed events."""

    __slots__ = ("crashes", "lost", "runs", "size_bytes")

    def __init__(
        self, runs: int = 250_000, size_bytes: int = 1 << 30, crashes: int = 3, lost: int = 5
    ) -> None:
        self.runs = runs
        self.size_bytes = size_bytes
        self.crashes = crashes
        self.lost = lost


class Core:
    """The state of one partition, and what follows from its inputs."""

    def __init__(self, plans: Mapping[str, Plan], next_offset: int, limits: Limits | None = None) -> None:
        self.plans = dict(plans)
        self.state = State()
        self.pools = {
            (plan.pipeline, step.name): Pool(plan.pipeline, step.name) for plan in plans.values() for step in plan.steps
        }
        self.workers: dict[int, tuple[WorkerSlot, Pool]] = {}
        self.next_offset = next_offset
        self.draining = False
        self._limits = limits or Limits()
        self._token = 0
        self._timer = 0
        self._timers: list[tuple[int, int, Delivery]] = []
        self._touched: list[Run] = []
        self._pending_changes: list[tuple[Run, Status, int | None]] = []
        self._remembered: dict[tuple[str, str], Known] = {}
        self._decision = Decision(0)

    def decide(self, inputs: Iterable[Input], now_us: int) -> Decision:
        """What follows from these inputs at this time (microseconds since the epoch)."""
        decision = self._decision = Decision(now_us)
        self._remembered.clear()
        self._expire(now_us)
        for entry in inputs:
            self._hear(entry, now_us)
        self._dispatch(now_us)
        self._close()
        decision.due_us = self._timers[0][0] if self._timers else None
        return decision

    def resume(self, now_us: int) -> Decision:
        """After a replay: everything that was under way when the last owner ended is ready again."""
        decision = self._decision = Decision(now_us)
        alive = [d for run in list(self.state.runs.values()) for d in run.deliveries.values()]
        self.state.fresh.clear()
        for delivery in sorted(alive, key=_order):
            self._resume_delivery(delivery, now_us)
        for run in list(self.state.runs.values()):
            self._settle(run, now_us)
        self._dispatch(now_us)
        self._close()
        decision.due_us = self._timers[0][0] if self._timers else None
        return decision

    @property
    def backlog(self) -> int:
        """How many deliveries wait for a worker."""
        return sum(len(pool.ready) + len(pool.suspects) for pool in self.pools.values())

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _hear(self, entry: Input, now_us: int) -> None:
        if isinstance(entry, Completed):
            self._completed(entry, now_us)
        elif isinstance(entry, Emit):
            self._emit(entry, now_us)
        elif isinstance(entry, WorkerUp):
            self._worker_up(entry)
        elif isinstance(entry, WorkerDown):
            self._worker_down(entry, now_us)
        elif isinstance(entry, Cancel):
            self._cancel(entry, now_us)
        elif isinstance(entry, Revive):
            self._revive(entry, now_us)
        else:
            assert_never(entry)

    def _emit(self, emit: Emit, now_us: int) -> None:
        answer = self._refusal(emit)
        if answer is None:
            answer = Accepted(emit.event_id, emit.run_id, duplicate=False)
            self._start(emit, now_us)
        if emit.reply is not None:
            self._decision.answers.append(Answer(emit.reply, answer))

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
        if len(self.state.runs) >= self._limits.runs or self.state.size_bytes >= self._limits.size_bytes:
            return Overloaded(f"{len(self.state.runs):,} runs are in flight: send it again")
        return None

    def _start(self, emit: Emit, now_us: int) -> None:
        plan = self.plans[emit.pipeline]
        run = transitions.begin(self.state, emit.run_id, plan, now_us, emit.type)
        self._decision.started.append(run)
        self._record(run, [RUN, emit.run_id, plan.pipeline, plan.version, emit.source, emit.sender_id])
        ref = Ref(emit.event_id, emit.type, emit.version, emit.data, emit.key, run.root)
        self._record(run, _event_record(ref, b"", 0, 0, now_us, many=False))
        if emit.sender_id is not None:
            self._remembered[emit.source, emit.sender_id] = Known(emit.digest, emit.event_id, emit.run_id)
            self._decision.seen.append((emit.source, emit.sender_id, emit.digest, emit.run_id, emit.event_id))
        if not transitions.hear(self.state, run, ref):
            run.results = [ref]
        self._settle(run, now_us)

    def _completed(self, entry: Completed, now_us: int) -> None:
        known = self.workers.get(entry.worker)
        if known is None:
            return
        slot = known[0]
        for item in entry.items:
            op, token = item[0], item[1]
            delivery = slot.leases.get(token)
            if delivery is None:
                continue
            if op == Op.STREAM:
                self._stream(slot, delivery, item, now_us)
                continue
            if op == Op.STUCK:
                self._stuck(slot, token)
                continue
            del slot.leases[token]
            slot.leased_bytes -= size_of(delivery)
            if delivery.status is not LEASED:
                continue
            if op == Op.DONE:
                slot.learn(item[2])
                self._done(delivery, item, now_us)
            elif op == Op.FAIL:
                self._failed(delivery, item, now_us)
            else:
                self._released(delivery, now_us)
            self._settle(delivery.run, now_us)

    def _done(self, delivery: Delivery, item: Completion, now_us: int) -> None:
        run = delivery.run
        many = bool(item[4])
        if item[3]:
            self._emitted(delivery, delivery.emitted if many else 0, item[3], now_us, many=many)
        self._record(run, [DONE, delivery.number, delivery.attempt, delivery.emitted, now_us, item[2], many])
        transitions.complete(self.state, delivery, many=many)

    def _stream(self, slot: WorkerSlot, delivery: Delivery, item: Completion, now_us: int) -> None:
        if delivery.status is LEASED:
            self._emitted(delivery, item[2], item[3], now_us, many=True)
            self._decision.credit.append(Credit(slot.worker, item[1], item[2] + len(item[3])))

    def _emitted(
        self, delivery: Delivery, first: int, outputs: list[list[Any]], now_us: int, *, many: bool
    ) -> None:
        """Record and route what a delivery emitted; what an earlier attempt emitted already is passed over."""
        run = delivery.run
        cause = _cause(delivery)
        for index, (type_, version, data, key) in enumerate(outputs, first):
            if index < delivery.emitted:
                continue
            ref = Ref(_derived(delivery, index), type_, version, data, key, None)
            self._record(run, _event_record(ref, cause, delivery.number, index, now_us, many=many))
            transitions.emitted(self.state, delivery, ref, many=many)

    def _failed(self, delivery: Delivery, item: Completion, now_us: int) -> None:
        failure = Failure(item[2], item[3], item[4], item[5])
        wait = item[6]
        if wait is None:
            self._give_up(delivery, failure, now_us)
            return
        due_us = now_us + int(wait * _SECOND_US)
        self._record(delivery.run, _failed_record(delivery, failure, now_us, due_us))
        self._wait(delivery, due_us, now_us)

    def _give_up(self, delivery: Delivery, failure: Failure, now_us: int) -> None:
        run = delivery.run
        self._record(run, _failed_record(delivery, failure, now_us, None))
        transitions.blame(delivery, failure)
        ref = _failure_event(delivery, failure)
        self._record(run, _event_record(ref, _cause(delivery), delivery.number, FAILURE_INDEX, now_us, many=False))
        transitions.failed(self.state, delivery, ref)

    def _released(self, delivery: Delivery, now_us: int) -> None:
        self._record(delivery.run, [RELEASED, delivery.number, delivery.attempt, now_us])
        delivery.attempt -= 1
        transitions.release(delivery, READY)
        transitions.ready(self.state, delivery)

    def _stuck(self, slot: WorkerSlot, token: int) -> None:
        slot.stuck.add(token)
        if not slot.closed:
            slot.closed = True
            self._decision.kill.append(Kill(slot.worker, "a step did not return in its time"))

    # -- workers -----------------------------------------------------------------------------------------------------

    def _worker_up(self, entry: WorkerUp) -> None:
        if entry.worker in self.workers:
            return
        pool = self.pools[entry.pipeline, entry.step]
        slot = WorkerSlot(entry.worker, entry.concurrency, entry.concurrency)
        pool.workers.append(slot)
        self.workers[entry.worker] = (slot, pool)

    def _worker_down(self, entry: WorkerDown, now_us: int) -> None:
        known = self.workers.pop(entry.worker, None)
        if known is None:
            return
        slot, pool = known
        pool.workers.remove(slot)
        for token, delivery in slot.leases.items():
            if delivery.status is not LEASED:
                continue
            if token in slot.stuck:
                self._timed_out(delivery, now_us)
            elif entry.expected or slot.closed:
                self._released(delivery, now_us)
            else:
                self._crashed(delivery, entry.message, now_us)
            self._settle(delivery.run, now_us)

    def _timed_out(self, delivery: Delivery, now_us: int) -> None:
        seconds = delivery.step.step.timeout_seconds
        failure = Failure(FailureKind.TIMEOUT, "TimeoutError", f"did not return within {seconds:g} s; its process was ended")
        wait = delivery.step.step.retry.wait_without_exception(delivery.attempt, delivery.run.run_id)
        item: Completion = [Op.FAIL, 0, *failure, wait]
        self._failed(delivery, item, now_us)

    def _crashed(self, delivery: Delivery, message: str, now_us: int) -> None:
        crashes = delivery.crashes + 1
        wait = delivery.step.step.retry.wait_without_exception(delivery.attempt, delivery.run.run_id)
        if crashes >= self._limits.crashes or wait is None:
            text = f"{message} ({crashes} of its attempts ended with the process)"
            self._give_up(delivery, Failure(FailureKind.UNKNOWN, "WorkerDied", text), now_us)
            return
        due_us = now_us + int(min(wait, 1.0) * _SECOND_US)
        self._record(delivery.run, [CRASHED, delivery.number, delivery.attempt, message, now_us, due_us])
        delivery.crashes = crashes
        self._wait(delivery, due_us, now_us)

    # -- operators ---------------------------------------------------------------------------------------------------

    def _cancel(self, entry: Cancel, now_us: int) -> None:
        run = self.state.runs.get(entry.run_id)
        if run is not None:
            self._stop_leases(run)
            self._end(run, Status.CANCELLED, now_us)
        if entry.reply is not None:
            error = None if run else RunUnknown(f"no run {format_id(entry.run_id)} is in flight")
            self._decision.answers.append(Answer(entry.reply, error))

    def _stop_leases(self, run: Run) -> None:
        for worker, (slot, _) in self.workers.items():
            tokens = [token for token, delivery in slot.leases.items() if delivery.run is run]
            if tokens:
                self._decision.cancel.append(CancelDeliveries(worker, tokens))

    def _revive(self, entry: Revive, now_us: int) -> None:
        error: EnsueError | None = None
        if entry.run_id in self.state.runs:
            error = RunFinished(f"run {format_id(entry.run_id)} is in flight: there is nothing to retry")
        else:
            error = self._load(entry, now_us)
        if entry.reply is not None:
            self._decision.answers.append(Answer(entry.reply, error))

    def _load(self, entry: Revive, now_us: int) -> EnsueError | None:
        scratch = State(order=self.state.order)
        runs: dict[int, Run] = {}
        for records in entry.entries:
            fold(scratch, self.plans, runs, entry.number, records)
        run = runs.get(entry.number)
        if run is None:
            return EnsueError("the run's pipeline version is not loaded here: start the engine with that code")
        if not run.deliveries:
            return RunFinished(f"run {format_id(entry.run_id)} has nothing left to retry")
        self.state.order = scratch.order
        self._record(run, [REVIVED, now_us])
        transitions.revive(self.state, run)
        self._change(run, Status.RUNNING)
        return None

    # -- what happens to deliveries and runs -------------------------------------------------------------------------

    def _wait(self, delivery: Delivery, due_us: int, now_us: int) -> None:
        transitions.release(delivery, WAITING)
        if delivery.run.halting:
            delivery.status = DeliveryStatus.PARKED
        elif due_us <= now_us:
            transitions.ready(self.state, delivery)
        else:
            self._set_timer(delivery, due_us)

    def _set_timer(self, delivery: Delivery, due_us: int) -> None:
        delivery.due_us = due_us
        self._timer += 1
        heappush(self._timers, (due_us, self._timer, delivery))
        run = delivery.run
        if run.status is Status.RUNNING and all(d.status is WAITING for d in run.deliveries.values()):
            self._change(run, Status.WAITING)

    def _expire(self, now_us: int) -> None:
        while self._timers and self._timers[0][0] <= now_us:
            _, _, delivery = heappop(self._timers)
            if delivery.status is WAITING:
                transitions.ready(self.state, delivery)
                if delivery.run.status is Status.WAITING:
                    self._change(delivery.run, Status.RUNNING)

    def _settle(self, run: Run, now_us: int) -> None:
        """End a run that has nothing ahead of it."""
        if not run.deliveries:
            self._end(run, Status.COMPLETED, now_us)
        elif run.halting and not run.leased:
            self._end(run, Status.FAILED, now_us)

    def _end(self, run: Run, status: Status, now_us: int) -> None:
        if self.state.runs.get(run.run_id) is not run:
            return
        self._record(run, [ENDED, int(status), now_us])
        transitions.finish(self.state, run)
        self._change(run, status, now_us)
        self._decision.ended.append(RunEnded(run, status))

    def _change(self, run: Run, status: Status, finished_us: int | None = None) -> None:
        run.status = status
        self._pending_changes.append((run, status, finished_us))

    def _resume_delivery(self, delivery: Delivery, now_us: int) -> None:
        if delivery.status is LEASED:
            transitions.release(delivery, READY)
            delivery.lost += 1
            if delivery.lost >= self._limits.lost:
                text = f"the engine ended {delivery.lost} times while this was running"
                self._give_up(delivery, Failure(FailureKind.UNKNOWN, "EngineDied", text), now_us)
                return
        if delivery.status is WAITING and delivery.due_us > now_us:
            self._set_timer(delivery, delivery.due_us)
        elif delivery.status in (READY, WAITING):
            transitions.ready(self.state, delivery)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _dispatch(self, now_us: int) -> None:
        for delivery in self.state.fresh:
            if delivery.status is READY:
                self.pools[delivery.run.plan.pipeline, delivery.step.name].add(delivery)
        self.state.fresh.clear()
        for pool in self.pools.values():
            if (pool.ready or pool.suspects) and pool.workers:
                for slot, deliveries in plan_leases(pool):
                    self._lease(slot, deliveries, now_us)

    def _lease(self, slot: WorkerSlot, deliveries: list[Delivery], now_us: int) -> None:
        items = []
        token = self._token
        leases = slot.leases
        for delivery in deliveries:
            token += 1
            number = delivery.attempt + 1
            transitions.attempt(delivery, number, now_us)
            leases[token] = delivery
            slot.leased_bytes += size_of(delivery)
            self._record(
                delivery.run,
                [ATTEMPT, delivery.number, delivery.step.name, number, now_us, _input_ids(delivery) if number == 1 else []],
            )
            items.append(item_of(delivery, token))
        self._token = token
        self._decision.deliver.append(Deliver(slot.worker, items))

    def _record(self, run: Run, record: Record) -> None:
        if not run.records:
            self._touched.append(run)
        run.records.append(record)

    def _close(self) -> None:
        """Number the records of this batch, run by run."""
        offset = self.next_offset
        entries = self._decision.entries
        for run in self._touched:
            records = run.records
            if not run.number:
                run.number = offset
            entries.append(RunEntry(offset, run.number, len(records), pack_records(records)))
            offset += len(records)
            run.records = []
        self._touched.clear()
        self.next_offset = offset
        self._decision.changed = [(run.number, status, at) for run, status, at in self._pending_changes]
        self._pending_changes.clear()


def _order(delivery: Delivery) -> int:
    return delivery.order


def _cause(delivery: Delivery) -> bytes:
    ref = delivery.last_ref
    return ref.event_id if ref is not None else b""


def _derived(delivery: Delivery, index: int) -> bytes:
    if delivery.step.single:
        return derived_id(_cause(delivery), delivery.step.name, index)
    return derived_id(delivery.run.run_id, f"{delivery.step.name}#{delivery.number}", index)


def _input_ids(delivery: Delivery) -> list[bytes]:
    ids: list[bytes] = []
    for value in delivery.inputs:
        if isinstance(value, Ref):
            ids.append(value.event_id)
        else:
            ids += [ref.event_id for ref in value]
    return ids


def _event_record(ref: Ref, cause: bytes, delivery: int, index: int, now_us: int, *, many: bool) -> Record:
    return [EVENT, ref.event_id, ref.type, ref.version, ref.data, ref.key, cause, delivery, index, now_us, many]


def _failed_record(delivery: Delivery, failure: Failure, now_us: int, retry_us: int | None) -> Record:
    return [FAILED, delivery.number, delivery.attempt, *failure, now_us, retry_us]


def _failure_event(delivery: Delivery, failure: Failure) -> Ref:
    cause = delivery.last_ref
    fields = {
        "step": delivery.step.name,
        "event_type": cause.type if cause else "",
        "event_id": format_id(cause.event_id) if cause else "",
        "data": unpack(cause.data) if cause else {},
        "kind": str(failure.kind),
        "error": failure.error,
        "message": failure.message,
        "attempts": delivery.attempt,
    }
    return Ref(_derived(delivery, FAILURE_INDEX), FAILED_TYPE, 1, pack(fields), None, None)

