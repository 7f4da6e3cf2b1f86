"""A snapshot reads back, however deep the scopes of a run are nested."""

import pytest

from ensue import Event, Pipeline
from ensue.events.model.codec import unpack
from ensue.events.pipelines.plan import compile_plan
from ensue.events.state.snapshot import dump, load
from ensue.events.state.state import Delivery, Group, Ref, Run, State

DEEP = 5_000


class Order(Event):
    n: int = 0


flow = Pipeline("nested")


@flow.step
def work(event: Order) -> None:
    return None


PLAN = compile_plan(flow.declaration, "1")


def ref(number: int, scope: Group | None) -> Ref:
    return Ref(number.to_bytes(16, "big"), "Order", 1, b"data", None, scope)


@pytest.mark.parametrize("gathered", [False, True])
def test_scopes_that_are_nested_thousands_deep_read_back(*, gathered: bool) -> None:
    run = Run(bytes(16), PLAN, 0, "Order", 1)
    run.root = scope = Group(None)
    for number in range(DEEP):
        inner = Group(scope, PLAN.steps[0], number % 2 == 1, {0: number})
        if gathered:
            scope.gathered[0, 0] = [ref(number, inner)]
        scope = inner
    run.deliveries[1] = Delivery(run, 1, 1, PLAN.steps[0], (ref(DEEP, scope),), scope, None)
    state = State(runs={run.run_id: run})
    again, runs = load(unpack(dump(state)), {"nested": PLAN})
    group = runs[1].deliveries[1].scope
    for number in reversed(range(DEEP)):
        assert group is not None
        assert (group.origin, group.is_item, group.counts) == (PLAN.steps[0], number % 2 == 1, {0: number})
        outer = group.parent
        assert outer is not None
        assert [one.scope for refs in outer.gathered.values() for one in refs] == [group] * gathered
        group = outer
    assert group is runs[1].root
    assert dump(again) == dump(state)
