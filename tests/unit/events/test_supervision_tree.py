"""The tree of a pipeline's supervisors: what a step escalates, and what happens to its pipeline then."""

from dataclasses import replace

import pytest

from ensue import Supervision
from ensue.events.policies.retry import Backoff
from ensue.events.supervision.policy import PIPELINE_SUPERVISION, ChildTypeName, How
from ensue.events.supervision.restart_history import ChildHistory, RestartHistory
from ensue.events.supervision.tree import (
    FAILED_STARTS,
    Action,
    Broken,
    Escalated,
    PipelineTree,
    Restarted,
    StartWorker,
    StepPolicy,
    StepSupervisorNode,
    StopWorker,
)

SECOND = 1_000_000
AT_ONCE = Supervision(backoff=Backoff(0.0, 1.0, 0.0, 0.0), intensity=1000)


class Troupe:
    """The tree of a pipeline with two steps, one of two workers; all workers come up and end at once."""

    def __init__(self, never_up: str = "", **policies: Supervision) -> None:
        self.never_up = never_up
        top = policies.get("top", PIPELINE_SUPERVISION)
        steps = [StepPolicy("first", 2, policies.get("first", Supervision())), StepPolicy("second", 1, Supervision())]
        self.tree = PipelineTree("p", top, steps)
        self.now = 0
        self.up: set[tuple[str, int]] = set()
        self.told: list[Action] = []
        self.carry_out(self.tree.start(0))

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, StartWorker):
                self.up.add((action.step, action.slot))
                if action.step != self.never_up:
                    self.tree.came_up(action.step, action.slot, self.now)
            elif isinstance(action, StopWorker):
                self.up.discard((action.step, action.slot))
                self.carry_out(self.tree.ended(action.step, action.slot, How.ORDERED, "told to", self.now))
            else:
                self.told.append(action)

    def crashes(self, step: str, how: How = How.CRASHED) -> None:
        self.ends(step, 0, how)

    def ends(self, step: str, slot: int, how: How) -> None:
        self.now += SECOND // 10
        self.carry_out(self.tree.tick(self.now))
        if (step, slot) in self.up:
            self.up.discard((step, slot))
            self.carry_out(self.tree.ended(step, slot, how, "boom", self.now))

    @property
    def escalations(self) -> list[tuple[str, str, bool]]:
        return [(a.supervisor, a.to, a.failed) for a in self.told if isinstance(a, Escalated)]


def test_five_restarts_in_thirty_seconds_are_allowed_the_sixth_escalates_and_the_step_restarts() -> None:
    troupe = Troupe()
    while not troupe.escalations:
        troupe.crashes("first")
    assert troupe.now < 30 * SECOND
    assert troupe.escalations == [("p/first", "p", False)]
    assert len(troupe.told) == 6
    troupe.now += SECOND
    troupe.carry_out(troupe.tree.tick(troupe.now))
    assert troupe.up == {("first", 0), ("first", 1), ("second", 0)}


def test_a_step_that_escalates_a_fourth_time_within_a_minute_fails_its_pipeline_until_it_is_restarted() -> None:
    troupe = Troupe()
    while not troupe.tree.failed:
        troupe.crashes("first")
    assert troupe.escalations == [("p/first", "p", False)] * 4 + [("p", "", True)]
    assert (troupe.up, troupe.tree.is_quiet, troupe.now < 60 * SECOND) == (set(), True, True)
    troupe.now += 3600 * SECOND
    troupe.carry_out(troupe.tree.tick(troupe.now))
    assert troupe.up == set()
    troupe.carry_out(troupe.tree.restart(troupe.now))
    assert troupe.up == {("first", 0), ("first", 1), ("second", 0)}
    assert troupe.tree.failed == ""


def test_a_pipeline_that_is_one_for_all_restarts_its_other_steps_with_the_one_that_gave_up() -> None:
    troupe = Troupe(top=replace(AT_ONCE, strategy="one_for_all"), first=replace(AT_ONCE, intensity=0))
    troupe.told.clear()
    before = troupe.tree.steps["second"].node.children["0"].since_us
    troupe.crashes("first")
    troupe.carry_out(troupe.tree.tick(troupe.now))
    assert troupe.up == {("first", 0), ("first", 1), ("second", 0)}
    assert troupe.tree.steps["second"].node.children["0"].since_us > before


def test_a_temporary_step_that_gives_up_leaves_the_others_alone() -> None:
    troupe = Troupe(top=replace(PIPELINE_SUPERVISION, child="temporary"), first=replace(AT_ONCE, intensity=0))
    troupe.crashes("first")
    assert (troupe.up, troupe.tree.failed) == ({("second", 0)}, "")
    assert troupe.escalations == [("p/first", "p", False), ("p", "", True)], "and its events wait for an operator"
    told = troupe.told[-1]
    assert isinstance(told, Escalated)
    assert (told.step, told.reason) == (
        "first",
        "it has no worker left, and its children are temporary: more than 0 restarts within 30 s: boom",
    )


@pytest.mark.parametrize(
    ("child", "how", "alarmed"),
    [
        ("temporary", How.CRASHED, True),
        ("temporary", How.UNSTARTED, True),
        ("transient", How.NORMAL, True),
        ("transient", How.CRASHED, False),
        ("permanent", How.NORMAL, False),
    ],
)
def test_a_step_whose_last_worker_is_not_replaced_is_reported_once(
    child: ChildTypeName, how: How, alarmed: bool
) -> None:
    troupe = Troupe(first=replace(AT_ONCE, child=child))
    troupe.ends("first", 1, how)
    assert troupe.escalations == [], "the other one is at work"
    troupe.ends("first", 0, how)
    assert troupe.escalations == ([("p/first", "", True)] if alarmed else [])
    troupe.carry_out(troupe.tree.restart(troupe.now))
    assert troupe.up == {("first", 0), ("first", 1), ("second", 0)}
    assert len(troupe.escalations) == alarmed


def test_starts_that_fail_are_reported_after_five_in_a_row_and_retried_without_limit() -> None:
    troupe = Troupe(never_up="second")
    for _ in range(1000):
        troupe.crashes("second", How.UNSTARTED)
    broken = [action.message for action in troupe.told if isinstance(action, Broken)]
    assert broken[0] == f"no worker of step second starts ({FAILED_STARTS} times in a row): boom"
    assert len(broken) > 1
    assert troupe.escalations == []


@pytest.mark.parametrize(
    ("policy", "replicas", "replaced"),
    [
        (Supervision(), 2, True),
        (Supervision("rest_for_one"), 1, True),
        (Supervision("one_for_all"), 2, False),
        (Supervision(child="temporary"), 1, False),
    ],
)
def test_a_worker_that_worked_is_replaced_before_its_supervisor_is_up_if_no_other_child_is_restarted_with_it(
    policy: Supervision, replicas: int, replaced: bool
) -> None:
    early = StepSupervisorNode("shop", StepPolicy("charge", replicas, policy))
    early.node.restore(RestartHistory((SECOND,), (ChildHistory("0", 1, 4),)), 2 * SECOND)
    told = early.ended_early(0, "killed", 3 * SECOND)
    assert told == (Restarted("charge", "killed", 1, 0.0, expected=False) if replaced else None)
    if replaced:
        assert early.node.history() == RestartHistory((SECOND,), (ChildHistory("0", 1, 5),)), "shown, and not counted"


def test_the_tree_goes_on_with_the_histories_of_an_earlier_process() -> None:
    troupe = Troupe()
    while not troupe.tree.failed:
        troupe.crashes("first")
    again = PipelineTree("p", PIPELINE_SUPERVISION, [StepPolicy("first", 2, Supervision())])
    again.restore(troupe.tree.histories(), troupe.now)
    assert again.failed == troupe.tree.failed
