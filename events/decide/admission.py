"""Admission: an event from outside, or a notice of the engine's own, becomes a run.

Rules: what is refused leaves no trace; what is accepted is in the log with this batch. The same id of the same sender
is one run, whatever is sent how often.
"""

from collections.abc import Mapping

from ..errors import DeliveryConflict, EnsueError, Overloaded
from ..pipelines.plan import Plan
from ..state import transitions
from ..state.records import RecordKind
from ..state.state import Ref
from . import results
from .commands import Answer
from .decision_builder import DecisionBuilder
from .inputs import Accepted, Announce, Emit, PriorDelivery
from .limits import Limits

__all__ = ["NOTICE_SOURCE", "Admission"]

NOTICE_SOURCE = "ensue"
"""The source of runs that a notice began."""
_RUN = int(RecordKind.RUN)


class Admission:
    """The way in."""

    def __init__(self, plans: Mapping[str, Plan], builder: DecisionBuilder, limits: Limits) -> None:
        self.draining = False
        self._plans = plans
        self._builder = builder
        self._limits = limits
        self._remembered: dict[tuple[str, str], PriorDelivery] = {}

    def open(self) -> None:
        """Begin a batch: what the last one accepted is in the log by now."""
        self._remembered.clear()

    def emit(self, emit: Emit) -> None:
        """Accept or refuse an event from outside."""
        answer = self._refusal(emit)
        if answer is None:
            answer = Accepted(emit.event_id, emit.run_id, duplicate=False)
            self._start(emit)
        if emit.reply is not None:
            self._builder.decision.answers.append(Answer(emit.reply, answer))

    def announce(self, notice: Announce) -> None:
        """Start a run wherever somebody hears a notice, but for the pipeline of a step that would hear of itself."""
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
        if emit.sender_id is not None:
            known = emit.known or self._remembered.get((emit.source, emit.sender_id))
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
        run = transitions.begin(builder.state, emit.run_id, plan, builder.now_us, emit.type)
        builder.decision.started.append(run)
        builder.record(run, [_RUN, emit.run_id, plan.pipeline, plan.version, emit.source, emit.sender_id])
        ref = Ref(emit.event_id, emit.type, emit.version, emit.data, emit.key, run.root)
        builder.record(run, results.event_record(ref, b"", 0, 0, builder.now_us, many=False))
        if emit.sender_id is not None:
            self._remembered[emit.source, emit.sender_id] = PriorDelivery(emit.digest, emit.event_id, emit.run_id)
            builder.decision.seen.append((emit.source, emit.sender_id, emit.digest, emit.run_id, emit.event_id))
        if not transitions.hear(builder.state, run, ref):
            run.results = [ref]
        builder.settle(run)  # heard by a join alone, nothing is pending either
