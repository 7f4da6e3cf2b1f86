"""OperatorDecisions: what operators decide about runs and dead letters: cancel, retry, redrive, discard.

Rules: every decision is a record or a settled letter, with an audit row, in one commit. A run that has ended is rebuilt
from its records in a scratch state, so that the decision is made on the log's state of it.
"""

from collections.abc import Callable, Collection, Mapping

from ..errors import CodecError, EnsueError, RunFinished, RunPastPivot, RunUnknown
from ..ids import format_id
from ..pipelines.plan import Plan
from ..state.new_records import cancelling_record, redriven_record, revived_record, settled_record
from ..state.phases import RunPhase
from ..state.replay import fold
from ..state.run_status import Status
from ..state.state import Delivery, DeliveryStatus, Run, State
from . import dead_letters, refusals
from .commands import Answer
from .decision_builder import DecisionBuilder
from .inputs import Cancel, CancelUnloaded, Redrive, Revive

__all__ = ["OperatorDecisions"]

_MOST_REVIVED = 100_000
"""Of how many revived runs the offset is kept; from reading to deciding takes milliseconds."""


class OperatorDecisions:
    """Carries out the decisions of operators.

    stop: tells workers to stop the attempts of a run. busy: whether a worker still has a delivery of a run that ended.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        builder: DecisionBuilder,
        stop: Callable[[Run], None],
        busy: Callable[[bytes], bool],
    ) -> None:
        self._plans = plans
        self._builder = builder
        self._stop = stop
        self._busy = busy
        self._revived: dict[bytes, int] = {}

    def cancel(self, entry: Cancel) -> None:
        """Cancel a run: attempts with a key and pivots end first, then its compensations run.

        If a pivot completes meanwhile, the cancel is void and the run goes forward.
        """
        run = self._builder.state.runs.get(entry.run_id)
        error: EnsueError | None = None
        if run is None:
            error = RunUnknown(f"no run {format_id(entry.run_id)} is in flight")
        elif run.pivoted:
            error = RunPastPivot(f"run {format_id(entry.run_id)} is past its pivot: it only goes forward")
        elif run.phase is RunPhase.COMPENSATING:
            error = RunFinished(f"run {format_id(entry.run_id)} is being compensated already")
        else:
            self._end(run, entry)
        self._answer(entry.reply, error)

    def cancel_unloaded(self, entry: CancelUnloaded) -> None:
        """Cancel a run whose version is not loaded: only its end is recorded, since nothing of it can run here."""
        builder = self._builder
        builder.end_unloaded(entry.number, Status.CANCELLED)
        builder.audit(
            entry.who,
            "run cancel",
            format_id(entry.run_id),
            "its version is not loaded here: no compensation was run",
        )
        self._answer(entry.reply, None)

    def _end(self, run: Run, entry: Cancel) -> None:
        builder = self._builder
        builder.audit(entry.who, "run cancel", format_id(run.run_id))
        self._stop(run)
        if not run.compensations and not _has_to_finish(run):
            builder.mark_ended(run, Status.CANCELLED)
            return
        builder.record(run, cancelling_record(builder.now_us, entry.who))
        builder.settle(run)

    def revive(self, entry: Revive) -> None:
        """Retry what failed in a run that has ended."""
        if entry.run_id in self._builder.state.runs:
            error: EnsueError | None = RunFinished(
                f"run {format_id(entry.run_id)} is in flight: there is nothing to retry"
            )
        else:
            error = self._retry(entry)
        self._answer(entry.reply, error)

    def _retry(self, entry: Revive) -> EnsueError | None:
        builder = self._builder
        run = self._fold(entry)
        if isinstance(run, EnsueError):
            return run
        discarded = _discarded(run, entry.discarded)
        if len(run.deliveries) == len(discarded):
            why = ": what failed of it was discarded" if discarded else ""
            return RunFinished(f"run {format_id(entry.run_id)} has nothing left to retry{why}")
        for delivery in run.deliveries.values():
            if delivery.number in entry.letters:
                dead_letters.settle(builder.decision, run.run_id, delivery.number, dead_letters.LetterSignal.REDRIVE)
        builder.audit(entry.who, "run retry", format_id(entry.run_id))
        self._bring_back(run)
        builder.record_keyed(run, revived_record(builder.now_us, discarded))
        builder.change(run, Status.RUNNING)
        return None

    def redrive(self, entry: Redrive) -> None:
        """Redrive or discard a dead letter."""
        run = self._builder.state.runs.get(entry.run_id)
        error: EnsueError | None = None
        if run is not None:
            error = self._decide(entry, run)
        elif entry.discard and not entry.blocked:
            self._settle(entry)  # the run does not change, so its pipeline need not be loaded
        else:
            folded = self._fold(entry)
            error = folded if isinstance(folded, EnsueError) else self._decide(entry, folded)
        self._answer(entry.reply, error)

    def _decide(self, entry: Redrive, run: Run) -> EnsueError | None:
        delivery = run.deliveries.get(entry.delivery)
        error = refusals.no_letter(run, delivery)
        if delivery is None or error is not None:
            return error
        if not entry.discard:
            return self._run_again(entry, run, delivery)
        self._settle(entry)
        blocks = delivery is run.compensating
        self._builder.record(run, settled_record(delivery.number, self._builder.now_us, entry.who))
        if blocks:
            self._builder.change(run, Status.RUNNING)
            self._builder.settle(run)
        return None

    def _settle(self, entry: Redrive) -> None:
        decision = self._builder.decision
        signal = dead_letters.LetterSignal.DISCARD if entry.discard else dead_letters.LetterSignal.REDRIVE
        dead_letters.settle(decision, entry.run_id, entry.delivery, signal)
        action = "letter discard" if entry.discard else "letter edit" if entry.edited else "letter redrive"
        letter = dead_letters.letter_id(entry.run_id, entry.delivery)
        detail = f"event {format_id(entry.edited[0])}" if entry.edited else ""
        self._builder.audit(entry.who, action, format_id(letter), detail)

    def _run_again(self, entry: Redrive, run: Run, delivery: Delivery) -> EnsueError | None:
        error = refusals.not_again(entry, run, delivery)
        if error is not None:
            return error
        self._settle(entry)
        builder = self._builder
        event_id, type_, version, data, key = entry.edited or [None] * 5
        replaced = None if entry.edited is None else _event_id(delivery)
        discarded = _discarded(run, entry.discarded)
        if run.run_id not in builder.state.runs:
            self._bring_back(run)
        record = redriven_record(
            delivery.number, builder.now_us, entry.who, event_id, type_, version, data, key, replaced, discarded
        )
        builder.record_keyed(run, record)
        builder.change(run, Status.RUNNING)
        return None

    def _fold(self, entry: Revive | Redrive) -> Run | EnsueError:
        """A run that has ended, from its records; its deliveries get new places in the order of the partition."""
        builder = self._builder
        if entry.as_of <= self._revived.get(entry.run_id, -1):
            return RunFinished(f"run {format_id(entry.run_id)} was brought back meanwhile: look again")
        if self._busy(entry.run_id):
            return RunFinished(f"run {format_id(entry.run_id)} is still being stopped: try it again in a moment")
        scratch = State(order=builder.state.order)
        run = self._replayed(entry, scratch)
        if isinstance(run, EnsueError):
            return run
        if run.status.live:
            return RunFinished(f"run {format_id(entry.run_id)} has only just ended: try it again")
        if run.status is Status.COMPENSATED:
            return RunFinished(f"run {format_id(entry.run_id)} was compensated: start a new one")
        builder.state.order = scratch.order
        return run

    def _replayed(self, entry: Revive | Redrive, state: State) -> Run | EnsueError:
        runs: dict[int, Run] = {}
        try:
            for records in entry.entries:
                fold(state, self._plans, runs, entry.number, records)
        except CodecError as error:
            return error
        return runs.get(entry.number) or EnsueError(
            "the run is of a version of its pipeline that is not loaded here: start the engine with that code"
        )

    def _bring_back(self, run: Run) -> None:
        """Refuse later decisions that were made on an older state of the run."""
        self._revived[run.run_id] = self._builder.next_offset
        while len(self._revived) > _MOST_REVIVED:
            del self._revived[next(iter(self._revived))]

    def _answer(self, reply: object, error: EnsueError | None) -> None:
        if reply is not None:
            self._builder.decision.answers.append(Answer(reply, error))


def _discarded(run: Run, numbers: Collection[int]) -> list[int]:
    """Those of these deliveries that gave up: they stay as they are."""
    return [n for n, d in run.deliveries.items() if n in numbers and d.status is DeliveryStatus.FAILED]


def _event_id(delivery: Delivery) -> bytes | None:
    ref = delivery.last_ref
    return None if ref is None else ref.event_id


def _has_to_finish(run: Run) -> bool:
    """Whether an attempt of a pivot is running, or one with a key, beside which the next of its key must not run."""
    leased = (d for d in run.deliveries.values() if d.status is DeliveryStatus.LEASED)
    return any(d.key is not None or d.step.pivot for d in leased)
