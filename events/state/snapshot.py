"""Snapshot: the state of a partition as bytes and back, so that a restart reads only the end of the log.

Rules: `load(dump(state))` equals the state, and later records apply to it as to the original. A snapshot is never
required: the log alone leads to the same state. The log stores a checksum beside it.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, cast

from ..errors import LogCorrupt
from ..model.codec import pack
from ..model.failure import Failure
from ..pipelines.plan import Plan, StepPlan
from .phases import RunPhase
from .run_status import Status
from .state import Compensation, Delivery, DeliveryStatus, Group, RecordedError, Ref, Run, State

__all__ = ["FORMAT", "dump", "load"]

FORMAT = 3
Packed = list[Any]
Runs = dict[int, Run]


def dump(state: State) -> bytes:
    """All live runs, packed."""
    queues = [[*name, [[d.run.number, d.number] for d in queue]] for name, queue in state.key_queues.items()]
    return pack([FORMAT, state.order, [_Writer(run).pack() for run in state.runs.values()], queues])


def load(body: Any, plans: Mapping[str, Plan]) -> tuple[State, Runs]:
    """The state in an unpacked snapshot, and its runs by number; runs of versions that are not loaded are left out.

    Raises:
        LogCorrupt: the snapshot has another format. Read the log from its beginning instead.
    """
    if not _is_ours(body):
        raise LogCorrupt(f"the snapshot does not have format {FORMAT}: the log is read from its beginning")
    order, packed_runs, queues = body[1:]
    return _load(order, packed_runs, queues, plans)


def _is_ours(body: Any) -> TypeGuard[Packed]:
    return isinstance(body, list) and body[:1] == [FORMAT]


def _load(order: int, packed_runs: list[Any], queues: list[Any], plans: Mapping[str, Plan]) -> tuple[State, Runs]:
    state = State(order=order)
    runs: Runs = {}
    for packed in packed_runs:
        plan = plans.get(packed[2])
        if plan is not None and plan.is_version(packed[3]):
            run = _Reader(packed, plan).run
            state.runs[run.run_id] = runs[run.number] = run
            state.size_bytes += run.size_bytes
    for pipeline, step, key, members in queues:
        queue = deque(runs[run].deliveries[number] for run, number in members if run in runs)
        if queue:
            state.key_queues[pipeline, step, key] = queue
    return state, runs


class _Writer:
    """Packs one run. Events and scopes, which are shared, are written once and referred to by their place."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._refs: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._packed_refs: list[Packed] = []
        self._found: list[Group] = []

    def pack(self) -> Packed:
        run = self._run
        root = self._group(run.root)
        deliveries = [self._delivery(d) for d in run.deliveries.values()]
        joins = [[index, [self._side(side) for side in join]] for index, join in (run.joins or {}).items()]
        results = [self._ref(ref) for ref in run.results or ()]
        errors = [[error.step, list(error.failure), *error[2:]] for error in run.errors or ()]
        compensations = [
            [n, undo.step.index, [self._value(v) for v in undo.inputs]] for n, undo in (run.compensations or {}).items()
        ]
        compensating = run.compensating.number if run.compensating else 0
        head = [run.run_id, run.number, run.plan.pipeline, run.plan.version, run.started_us, run.trigger_type]
        life = [run.serial, run.size_bytes, int(run.status), run.dead, int(run.phase), run.pivoted, run.cancelling]
        groups = [self._packed_group(group) for group in self._found]  # grows meanwhile: each may lead to others
        rest = [deliveries, joins, results, errors, compensations, compensating]
        return [*head, life, root, self._packed_refs, groups, *rest]

    def _delivery(self, d: Delivery) -> Packed:
        inputs = [self._value(value) for value in d.inputs]
        places = [self._group(d.scope), self._group(d.group)]
        life = [
            int(d.status),
            d.attempt,
            d.crashes,
            d.engine_losses,
            d.emitted,
            d.first_us,
            d.due_us,
            d.redrives,
            d.is_dead_letter,
            d.edited,
            d.discarded,
        ]
        return [d.number, d.order, d.step.index, inputs, *places, d.key, *life]

    def _value(self, value: Ref | list[Ref]) -> Any:
        return self._ref(value) if isinstance(value, Ref) else [self._ref(ref) for ref in value]

    def _side(self, side: Mapping[Group | None, Iterable[Ref | list[Ref]]]) -> list[Packed]:
        return [[self._group(scope), [self._value(v) for v in queue]] for scope, queue in side.items()]

    def _ref(self, ref: Ref) -> int:
        place = self._refs.get(id(ref))
        if place is None:
            place = self._refs[id(ref)] = len(self._packed_refs)
            self._packed_refs.append([ref.event_id, ref.type, ref.version, ref.data, ref.key, self._group(ref.scope)])
        return place

    def _group(self, group: Group | None) -> int:
        if group is None:
            return -1
        place = self._groups.get(id(group))
        if place is None:
            place = self._groups[id(group)] = len(self._found)
            self._found.append(group)
        return place

    def _packed_group(self, group: Group) -> Packed:
        origin = group.origin.index if group.origin else -1
        gathered = [[*at, [self._ref(ref) for ref in refs]] for at, refs in group.gathered.items()]
        return [self._group(group.parent), origin, group.is_item, list(group.counts.items()), gathered]


class _Reader:
    """Unpacks one run."""

    def __init__(self, packed: Packed, plan: Plan) -> None:
        run_id, number, _, _, started_us, trigger_type, life, root, refs, groups = packed[:10]
        deliveries, joins, results, errors, compensations, compensating = packed[10:]
        self._plan = plan
        self._groups = [Group(None, None, bool(g[2]), dict(g[3])) for g in groups]
        self._refs = [Ref(r[0], r[1], r[2], r[3], r[4], self._group(r[5])) for r in refs]
        for group, (parent, origin, _, _, gathered) in zip(self._groups, groups, strict=True):
            group.parent = self._group(parent)
            group.origin = plan.steps[origin] if origin >= 0 else None
            group.gathered = {(at[0], at[1]): [self._refs[r] for r in at[2]] for at in gathered}
        self.run = Run(run_id, plan, started_us, trigger_type, number)
        self.run.serial, self.run.size_bytes, self.run.status, self.run.dead = (
            life[0],
            life[1],
            Status(life[2]),
            life[3],
        )
        self.run.phase, self.run.pivoted, self.run.cancelling = RunPhase(life[4]), life[5], life[6]
        self.run.root = self._group(root)
        self.run.deliveries = {d[0]: self._delivery(d) for d in deliveries}
        self.run.leased = sum(d.status is DeliveryStatus.LEASED for d in self.run.deliveries.values())
        self.run.joins = {index: [self._side(side) for side in join] for index, join in joins} or None
        self.run.results = [self._refs[r] for r in results] or None
        self.run.errors = [RecordedError(e[0], Failure(*e[1]), *e[2:]) for e in errors] or None
        self.run.compensations = {
            n: Compensation(plan.steps[i], tuple(self._value(v) for v in vs)) for n, i, vs in compensations
        } or None
        self.run.compensating = self.run.deliveries.get(compensating)

    def _delivery(self, packed: Packed) -> Delivery:
        number, order, _, inputs, scope, group, key, status, *life = packed
        step: StepPlan = self._plan.steps[int(packed[2])]
        values = tuple(self._value(value) for value in inputs)
        delivery = Delivery(self.run, number, order, step, values, self._group(scope), key, DeliveryStatus(status))
        (
            delivery.attempt,
            delivery.crashes,
            delivery.engine_losses,
            delivery.emitted,
            delivery.first_us,
            delivery.due_us,
        ) = life[:6]
        delivery.redrives, delivery.is_dead_letter, delivery.edited, delivery.discarded = life[6:]
        delivery.group = self._group(group)
        return delivery

    def _value(self, value: Any) -> Ref | list[Ref]:
        return self._refs[value] if isinstance(value, int) else [self._refs[r] for r in cast("list[int]", value)]

    def _side(self, side: list[Packed]) -> dict[Group | None, deque[Ref | list[Ref]]]:
        return {self._group(scope): deque(self._value(v) for v in values) for scope, values in side}

    def _group(self, place: int) -> Group | None:
        return self._groups[place] if place >= 0 else None
