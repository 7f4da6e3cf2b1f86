"""OperatorDecisions: what people decide about runs and dead letters: cancel, retry, redrive, discard.

Rules: every decision is a record or a settled letter, and is audited, in one commit. A run that is over comes back by
folding its records into a scratch state, so what is decided about it is decided on what the log says.
"""

from collections.abc import Callable, Collection, Mapping

from ..errors import EnsueError, RunFinished, RunPastPivot, RunUnknown
from ..ids import format_id
from ..pipelines.plan import Plan
from ..state import transitions
from ..state.phases import RunPhase
from ..state.records import Record, RecordKind
from ..state.replay import fold
from ..state.run_status import Status
from ..state.state import Delivery, DeliveryStatus, Run, State
from . import dead_letters as letters
from . import refusals
from .commands import Answer, Audited
from .decision_builder import DecisionBuilder
from .inputs import Cancel, Redrive, Revive

__all__ = ["OperatorDecisions"]

_REVIVED, _CANCELLING = int(RecordKind.REVIVED), int(RecordKind.CANCELLING)
_REDRIVEN, _SETTLED = int(RecordKind.REDRIVEN), int(RecordKind.SETTLED)
_MOST_REVIVED = 100_000
"""Of so many runs it is remembered when they came back; a decision takes milliseconds from reading to deciding."""


class OperatorDecisions:
    """What operators do to the runs of a partition.

    stop: tells workers to stop working on a run. busy: whether a worker still works on a run that is over.
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
        """End a run; what has a key and a pivot end first, what it owes is undone then, and nothing else is started.

        A pivot that is done makes the cancel void: the run goes forward.
        """
        run = self._builder.state.runs.get(entry.run_id)
        error: EnsueError | None = None
        if run is None:
            error = RunUnknown(f"no run {format_id(entry.run_id)} is in flight")
        elif run.pivoted:
            error = RunPastPivot(f"run {format_id(entry.run_id)} is past its pivot: it only goes forward")
        elif run.phase is RunPhase.COMPENSATING:
            error = RunFinished(f"run {format_id(entry.run_id)} is being undone already")
        else:
            self._end(run, entry)
        self._answer(entry.reply, error)

    def _end(self, run: Run, entry: Cancel) -> None:
        builder = self._builder
        builder.decision.audit.append(Audited(entry.who, "run cancel", format_id(run.run_id)))
        self._stop(run)
        if not run.compensations and not _has_to_come_to_its_end(run):
            builder.mark_ended(run, Status.CANCELLED)
            return
        builder.record(run, [_CANCELLING, builder.now_us, entry.who])
        transitions.cancel(builder.state, run)
        builder.settle(run)

    def revive(self, entry: Revive) -> None:
        """Retry all that failed of a run that is over."""
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
                letters.settle(builder.decision, run.run_id, delivery.number, letters.LetterTurn.REDRIVE)
        builder.decision.audit.append(Audited(entry.who, "run retry", format_id(entry.run_id)))
        self._bring_back(run)
        builder.record_keyed(run, [_REVIVED, builder.now_us, discarded])
        transitions.revive(builder.state, run, discarded)
        builder.change(run, Status.RUNNING)
        return None

    def redrive(self, entry: Redrive) -> None:
        """Run a dead letter again, or let it go."""
        run = self._builder.state.runs.get(entry.run_id)
        error: EnsueError | None = None
        if run is not None:
            error = self._decide(entry, run)
        elif entry.discard and not entry.blocked:
            self._note(entry)  # nothing of the run changes, so it need not be loaded either
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
        self._note(entry)
        blocks = delivery is run.compensating
        self._builder.record(run, [_SETTLED, delivery.number, self._builder.now_us, entry.who])
        transitions.discard(self._builder.state, delivery)
        if blocks:
            self._builder.change(run, Status.RUNNING)
            self._builder.settle(run)
        return None

    def _note(self, entry: Redrive) -> None:
        decision = self._builder.decision
        turn = letters.LetterTurn.DISCARD if entry.discard else letters.LetterTurn.REDRIVE
        letters.settle(decision, entry.run_id, entry.delivery, turn)
        action = "letter discard" if entry.discard else "letter edit" if entry.edited else "letter redrive"
        letter = letters.letter_id(entry.run_id, entry.delivery)
        detail = f"event {format_id(entry.edited[0])}" if entry.edited else ""
        decision.audit.append(Audited(entry.who, action, format_id(letter), detail))

    def _run_again(self, entry: Redrive, run: Run, delivery: Delivery) -> EnsueError | None:
        error = refusals.not_again(entry, run, delivery)
        if error is not None:
            return error
        self._note(entry)
        builder = self._builder
        edited = None if entry.edited is None else transitions.edited(delivery, entry.edited)
        fields = [None] * 6 if entry.edited is None else [*entry.edited, _event_id(delivery)]
        discarded = _discarded(run, entry.discarded)
        if run.run_id not in builder.state.runs:
            self._bring_back(run)
        record: Record = [_REDRIVEN, delivery.number, builder.now_us, entry.who, *fields, discarded]
        builder.record_keyed(run, record)
        transitions.redrive(builder.state, run, delivery, edited, discarded)
        builder.change(run, Status.RUNNING)
        return None

    def _fold(self, entry: Revive | Redrive) -> Run | EnsueError:
        """A run that is over, from its records; its deliveries get new places in the order of the partition."""
        builder = self._builder
        if entry.as_of <= self._revived.get(entry.run_id, -1):
            return RunFinished(f"run {format_id(entry.run_id)} was brought back meanwhile: look again")
        if self._busy(entry.run_id):
            return RunFinished(f"run {format_id(entry.run_id)} is still being stopped: try it again in a moment")
        scratch = State(order=builder.state.order)
        runs: dict[int, Run] = {}
        for records in entry.entries:
            fold(scratch, self._plans, runs, entry.number, records)
        run = runs.get(entry.number)
        if run is None:
            return EnsueError(
                "the run is of a version of its pipeline that is not loaded here: start the engine with that code"
            )
        if run.status.live:
            return RunFinished(f"run {format_id(entry.run_id)} has only just ended: try it again")
        if run.status is Status.COMPENSATED:
            return RunFinished(f"run {format_id(entry.run_id)} was undone: start a new one")
        builder.state.order = scratch.order
        return run

    def _bring_back(self, run: Run) -> None:
        """What was read of the log before this is no ground for another decision about the run."""
        self._revived[run.run_id] = self._builder.next_offset
        while len(self._revived) > _MOST_REVIVED:
            del self._revived[next(iter(self._revived))]

    def _answer(self, reply: object, error: EnsueError | None) -> None:
        if reply is not None:
            self._builder.decision.answers.append(Answer(reply, error))


def _discarded(run: Run, numbers: Collection[int]) -> list[int]:
    """Which of these deliveries of a run stay as they are: those that gave up."""
    return [n for n, d in run.deliveries.items() if n in numbers and d.status is DeliveryStatus.FAILED]


def _event_id(delivery: Delivery) -> bytes | None:
    ref = delivery.last_ref
    return None if ref is None else ref.event_id


def _has_to_come_to_its_end(run: Run) -> bool:
    """Whether an attempt is under way that the next event of its key must not run beside, or one of a pivot."""
    leased = (d for d in run.deliveries.values() if d.status is DeliveryStatus.LEASED)
    return any(d.key is not None or d.step.pivot for d in leased)
