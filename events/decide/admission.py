"""Admission: an event from outside, or a notice of the engine, starts a run.

Rules: a refused event leaves no trace; an accepted one is in the log with this batch. The same id of the same sender is
one run, however often it is sent.
"""

from collections.abc import Mapping

from ..errors import DeliveryConflict, EnsueError, EventInvalid, Overloaded
from ..model.arguments import is_text
from ..pipelines.plan import Plan
from ..state.new_records import event_record, run_record
from .commands import Answer
from .decision_builder import DecisionBuilder
from .inputs import Accepted, Announce, Emit, PriorDelivery
from .limits import Limits

__all__ = ["NOTICE_SOURCE", "Admission"]

NOTICE_SOURCE = "ensue"
"""The source of runs that a notice started."""


class Admission:
    """Accepts or refuses events, and starts their runs."""

    def __init__(self, plans: Mapping[str, Plan], builder: DecisionBuilder, limits: Limits) -> None:
        self.draining = False
        self._plans = plans
        self._builder = builder
        self._limits = limits
        self._accepted: dict[tuple[str, str], PriorDelivery] = {}
        """What this batch accepted, by source and sender's id: the log does not have it yet."""

    def open(self) -> None:
        """Begin a batch: what the last one accepted is in the log by now."""
        self._accepted.clear()

    def emit(self, emit: Emit) -> None:
        """Accept or refuse an event from outside."""
        answer = (
            self._refusal(emit) if _is_storable(emit) else EventInvalid("an event that cannot be stored is refused")
        )
        if answer is None:
            answer = Accepted(emit.event_id, emit.run_id, duplicate=False)
            self._start(emit)
        if emit.reply is not None:
            self._builder.decision.answers.append(Answer(emit.reply, answer))

    def announce(self, notice: Announce) -> None:
        """Start a run of each pipeline that subscribes to a notice, unless the notice is about a subscribing step."""
        for plan in self._plans.values():
            hearers = {step.name for step, _ in plan.subscriptions.get(notice.type, ())}
            if hearers and not any((plan.pipeline, step) in notice.about for step in hearers):
                self._start(
                    Emit(
                        plan.pipeline,
                        self._builder.fresh_id(plan.pipeline),
                        self._builder.fresh_id(notice.type),
                        notice.type,
                        notice.version,
                        notice.data,
                        source=NOTICE_SOURCE,
                    )
                )

    def _refusal(self, emit: Emit) -> Accepted | EnsueError | None:
        """The answer to an event that starts no run; None if it may start one."""
        if emit.sender_id is not None:
            known = emit.known or self._accepted.get((emit.source, emit.sender_id))
            if known is not None and known.digest != emit.digest:
                msg = f"id {emit.sender_id!r} from {emit.source!r} was used before for another body"
                return DeliveryConflict(f"{msg}: send new content under a new id")
            if known is not None:
                return Accepted(known.event_id, known.run_id, duplicate=True)
        if self.draining:
            return Overloaded("the engine is draining: send it again", retry_after_seconds=5.0)
        state = self._builder.state
        if len(state.runs) >= self._limits.runs or state.size_bytes >= self._limits.size_bytes:
            return Overloaded(f"{len(state.runs):,} runs are in flight: send it again")
        return None

    def _start(self, emit: Emit) -> None:
        builder = self._builder
        plan = self._plans[emit.pipeline]
        record = run_record(emit.run_id, plan.pipeline, plan.version, emit.source, emit.sender_id)
        run = builder.begin(plan, record)
        builder.record(
            run,
            event_record(
                emit.event_id, emit.type, emit.version, emit.data, emit.key, b"", 0, 0, builder.now_us, many=False
            ),
        )
        if emit.sender_id is not None:
            self._accepted[emit.source, emit.sender_id] = PriorDelivery(emit.digest, emit.event_id, emit.run_id)
            builder.decision.seen.append((emit.source, emit.sender_id, emit.digest, emit.run_id, emit.event_id))
        builder.settle(run)  # if only a join takes the event, no delivery is open either


def _is_storable(emit: Emit) -> bool:
    """Whether its fields can be packed and read again: once they are recorded, nothing can take them back."""
    data, version = emit.data, emit.version
    return (
        data.__class__ is bytes
        and version.__class__ is int
        and emit.run_id.__class__ is bytes
        and emit.event_id.__class__ is bytes
        and is_text(emit.type)
        and is_text(emit.source)
        and (emit.key is None or is_text(emit.key))
        and (emit.sender_id is None or is_text(emit.sender_id))
    )
