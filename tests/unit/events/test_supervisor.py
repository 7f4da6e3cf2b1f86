"""The rules of supervision: which child is restarted, when, how often, and when the supervisor escalates."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensue import Event, Pipeline, Supervision
from ensue.actors.local import LocalEngine
from ensue.events.drawing.state_table import mermaid_states, rows_of
from ensue.events.errors import EnsueError, PipelineInvalid
from ensue.events.policies.retry import Backoff
from ensue.events.supervision.policy import COUNTED, RESTARTED, How, StrategyName
from ensue.events.supervision.restart_history import RestartHistory
from ensue.events.supervision.supervisor import TRANSITIONS, Escalate, Leave, Restart, Start, Stop, Supervisor

SECOND = 1_000_000
DOCS = Path(__file__).parents[3] / "docs" / "explanation" / "supervision.md"
AT_ONCE = Supervision(backoff=Backoff(0.0, 1.0, 0.0, 0.0), intensity=1000)


class Order(Event):
    n: int


class World:
    """A supervisor whose children come up as soon as they are started, and end as soon as they are told to."""

    def __init__(self, policy: Supervision, children: str = "abc") -> None:
        self.node = Supervisor("it", policy, list(children))
        self.now = 0
        self.log: list[str] = []
        self.escalated = 0
        self.restarts: list[Restart] = []
        self.carry_out(self.node.start(0))

    def carry_out(self, orders: list[Start | Stop | Restart | Leave | Escalate]) -> None:
        for order in orders:
            match order:
                case Start(child):
                    self.log.append(f"+{child}")
                    self.node.came_up(child, self.now)
                case Stop(child):
                    self.log.append(f"-{child}")
                case Restart():
                    self.restarts.append(order)
                case Leave(child):
                    self.log.append(f"!{child}")
                case Escalate():
                    self.escalated += 1
        for order in orders:
            if isinstance(order, Stop):
                self.carry_out(self.node.ended(order.child, How.ORDERED, "told to", self.now))

    def ends(self, child: str, how: How = How.CRASHED) -> None:
        self.carry_out(self.node.ended(child, how, "boom", self.now))

    def passes(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.carry_out(self.node.tick(self.now))

    @property
    def up(self) -> str:
        return "".join(name for name, child in self.node.children.items() if child.status == "up")


@pytest.mark.parametrize(
    ("strategy", "follows"),
    [("one_for_one", "+b"), ("one_for_all", "-c -a +a +b +c"), ("rest_for_one", "-c +b +c")],
)
def test_a_strategy_stops_its_children_in_reverse_order_and_starts_them_in_order(
    strategy: StrategyName, follows: str
) -> None:
    world = World(replace(AT_ONCE, strategy=strategy))
    world.log.clear()
    world.ends("b")
    assert " ".join(world.log) == follows


def test_no_child_is_started_before_all_stopping_children_are_gone() -> None:
    node = Supervisor("it", replace(AT_ONCE, strategy="one_for_all"), "abc")
    assert node.start(0) == [Start("a"), Start("b"), Start("c")]
    for child in "abc":
        node.came_up(child, 0)
    assert [type(order) for order in node.ended("a", How.CRASHED, "boom", 1)] == [Restart, Stop, Stop]
    assert (node.tick(2), node.due_us) == ([], None)
    assert node.ended("c", How.ORDERED, "", 3) == []
    assert node.ended("b", How.CRASHED, "it died of its own meanwhile", 4) == [Start("a"), Start("b"), Start("c")]


@pytest.mark.parametrize(
    ("child", "how", "again"),
    [
        ("permanent", How.NORMAL, True),
        ("permanent", How.CRASHED, True),
        ("transient", How.NORMAL, False),
        ("transient", How.CRASHED, True),
        ("transient", How.UNSTARTED, True),
        ("temporary", How.NORMAL, False),
        ("temporary", How.CRASHED, False),
        ("temporary", How.UNSTARTED, False),
        ("temporary", How.ORDERED, True),
    ],
)
def test_the_type_of_a_child_and_how_it_ended_decide_whether_it_is_restarted(
    child: str, how: How, *, again: bool
) -> None:
    world = World(replace(AT_ONCE, child=child))  # type: ignore[arg-type]  # the names of the table
    world.ends("b", how)
    world.passes(1)
    assert world.up == ("abc" if again else "ac")
    assert ("!b" in world.log) is not again
    assert (how in RESTARTED[world.node.policy.child]) is again


def test_waits_double_with_jitter_up_to_their_limit_and_start_again_after_a_healthy_minute() -> None:
    world = World(Supervision(intensity=1000), "a")
    for _ in range(12):
        world.ends("a")
        world.passes(40)
    waits = [restart.wait_us / SECOND for restart in world.restarts]
    full = [min(0.2 * 2**n, 30.0) for n in range(12)]
    assert all(0.8 * most <= wait <= most for wait, most in zip(waits, full, strict=True))
    world.passes(61)
    world.ends("a")
    assert world.restarts[-1].wait_us <= 0.2 * SECOND


def test_a_child_that_had_done_some_work_is_restarted_without_a_wait() -> None:
    world = World(Supervision(intensity=1000), "a")
    for _ in range(5):
        world.ends("a")
        world.passes(20)
    world.ends("a", How.WORKED)
    assert world.restarts[-1].wait_us == 0
    world.passes(20)
    world.ends("a")
    assert 0.32 * SECOND <= world.restarts[-1].wait_us <= 0.4 * SECOND


@pytest.mark.parametrize("how", [How.WORKED, How.UNSTARTED, How.ORDERED])
def test_what_does_not_count_never_escalates(how: How) -> None:
    world = World(Supervision(intensity=0), "a")
    for _ in range(50):
        world.ends("a", how)
        world.passes(31)
    assert (world.escalated, world.up, how in COUNTED) == (0, "a", False)


def test_giving_up_stops_all_children_and_a_start_resets_the_counters() -> None:
    world = World(replace(AT_ONCE, intensity=1))
    world.ends("b")
    world.log.clear()
    world.ends("b")
    assert (world.log, world.escalated, world.up) == (["-c", "-a"], 1, "")
    assert world.node.gave_up == "more than 1 restarts within 30 s: boom"
    assert {child.status for child in world.node.children.values()} == {"failed"}
    world.carry_out(world.node.start(world.now))
    assert (world.up, world.node.gave_up) == ("abc", "")


def test_a_crash_loop_that_kills_its_supervisor_too_does_not_reset_its_counter() -> None:
    policy = replace(AT_ONCE, intensity=3)
    world = World(policy, "a")
    for crash in range(4):
        history = world.node.history()
        world = World(policy, "a")
        world.node.restore(history, crash * SECOND)
        world.now = crash * SECOND
        world.ends("a")
    assert world.escalated == 1


def test_times_of_a_clock_that_was_ahead_count_as_now() -> None:
    node = Supervisor("it", replace(AT_ONCE, intensity=1), "a")
    node.restore(RestartHistory((10**15,)), 0)
    node.start(0)
    node.came_up("a", 0)
    assert any(isinstance(order, Escalate) for order in node.ended("a", How.CRASHED, "boom", 1))


events = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(How), st.floats(0, 20)), max_size=60)
policies = st.builds(
    Supervision,
    strategy=st.sampled_from(("one_for_one", "one_for_all", "rest_for_one")),
    child=st.sampled_from(("permanent", "transient", "temporary")),
    intensity=st.integers(0, 4),
    period_seconds=st.floats(1, 40),
    backoff=st.builds(Backoff, st.floats(0, 1), st.floats(1, 3), st.floats(1, 10), st.floats(0, 1)),
)


@given(policies, events)
def test_never_more_counted_restarts_than_the_intensity_without_an_escalation(
    policy: Supervision, story: list[tuple[str, How, float]]
) -> None:
    world = World(policy)
    times: list[int] = []
    for child, how, seconds in story:
        alive = child in world.up
        known = len(world.restarts)
        world.ends(child, how)
        if alive and how in COUNTED and len(world.restarts) > known:
            times.append(world.now)
        within = [time for time in times if time > world.now - policy.period_seconds * SECOND]
        assert world.escalated or len(within) <= policy.intensity
        if world.escalated:
            assert world.up == ""
            return
        world.passes(seconds)


@given(policies, events)
def test_every_child_that_should_run_comes_back_and_the_same_history_gives_the_same_orders(
    policy: Supervision, story: list[tuple[str, How, float]]
) -> None:
    worlds = [World(policy), World(policy)]
    for world in worlds:
        for child, how, seconds in story:
            world.ends(child, how)
            world.passes(seconds)
        world.passes(60)
    assert worlds[0].log == worlds[1].log
    if policy.child == "permanent" and not worlds[0].escalated:
        assert worlds[0].up == "abc"


@pytest.mark.parametrize(
    "wrong",
    [{"strategy": "all"}, {"child": "eternal"}, {"intensity": -1}, {"period_seconds": 0}, {"healthy_seconds": -1.0}],
)
def test_an_invalid_policy_is_refused_where_it_is_declared(wrong: dict[str, object]) -> None:
    with pytest.raises(PipelineInvalid, match=next(iter(wrong))):
        Supervision(**wrong)  # type: ignore[arg-type]  # that is the test


def test_pipelines_and_steps_take_their_own_policies() -> None:
    flow = Pipeline("policies", supervision=Supervision("rest_for_one"))

    @flow.step(supervision=Supervision(intensity=1))
    def work(event: Order) -> None: ...

    assert flow.supervision.strategy == "rest_for_one"
    assert flow.steps["work"].supervision.intensity == 1


async def test_the_engine_of_tests_shows_its_steps_too() -> None:
    flow = Pipeline("local")

    @flow.step
    def work(event: Order) -> None: ...

    async with LocalEngine(flow) as engine:
        tree = engine.tree()
        await engine.restart_pipeline("local")
        with pytest.raises(EnsueError, match="no pipeline 'other' is served here"):
            await engine.restart_pipeline("other")
    assert (tree["kind"], tree["status"]) == ("engine", "up")
    assert [step["name"] for step in tree["children"][0]["children"]] == ["work"]
    assert engine.tree()["status"] == "down"


def test_the_diagram_in_the_docs_is_the_one_that_the_code_draws() -> None:
    drawn = mermaid_states(rows_of(TRANSITIONS.items()), start="down")
    assert f"```mermaid\n{drawn}```" in DOCS.read_text(), f"put this into {DOCS.name}:\n{drawn}"
