"""Each finding is reported for a pipeline that has the mistake, and not for a similar one that is correct."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ensue.events.model.event import Event
from ensue.events.model.failure import StepFailed
from ensue.events.model.webhook import Webhook
from ensue.events.pipelines.check import Finding
from ensue.events.pipelines.pipeline import Pipeline


class A(Event): ...


class B(Event): ...


class C(Event): ...


class D(Event): ...


class E(Event): ...


class Verifying:
    """A verifier with the name of a scheme."""

    body_limit_bytes = 1_000

    def __init__(self, scheme: str = "github") -> None:
        self.scheme = scheme

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        return None


SCOPE = {model.__name__: model for model in (A, B, C, D, E, StepFailed)} | {"Iterator": Iterator, "Webhook": Webhook}


def _made(name: str, signature: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {"__name__": __name__, **SCOPE}
    exec(f"def {name}{signature}: ...", scope)  # noqa: S102 - a signature is all that a check sees
    made: Callable[..., Any] = scope[name]
    return made


def _pipeline(steps: Mapping[str, str], hooks: Mapping[str, str] | None = None, scheme: str = "github") -> Pipeline:
    """A pipeline of steps with these signatures, and of webhooks with these return types."""
    pipeline = Pipeline("checked")
    for name, returns in (hooks or {}).items():
        pipeline.webhook(name, verify=Verifying(scheme))(_made(name, f"(hook: Webhook) -> {returns}"))
    for name, signature in steps.items():
        pipeline.step(_made(name, signature))
    return pipeline


def _findings(steps: Mapping[str, str], hooks: Mapping[str, str] | None = None) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.step) for finding in _pipeline(steps, hooks).check()]


def _only(pipeline: Pipeline) -> Finding:
    (finding,) = pipeline.check()
    return finding


RIGHT: dict[str, dict[str, str]] = {
    "a chain": {"x": "(a: A) -> B", "y": "(b: B) -> C"},
    "a branch": {"x": "(a: A) -> B | C", "y": "(b: B) -> D", "z": "(c: C) -> D"},
    "a branch that meets again as one parameter": {"x": "(a: A) -> B | C", "y": "(e: B | C) -> D"},
    "two branches in parallel that join": {"x": "(a: A) -> B", "y": "(a: A) -> C", "z": "(b: B, c: C) -> D"},
    "a join with the trigger": {"x": "(a: A) -> B", "y": "(a: A, b: B) -> C"},
    "a join of what may not come": {"x": "(a: A) -> B | None", "y": "(a: A) -> C | D", "z": "(b: B, c: C) -> E"},
    "a fan-out and a fan-in": {"x": "(a: A) -> list[B]", "y": "(b: B) -> C", "z": "(cs: list[C]) -> D"},
    "a fan-in with the trigger": {"x": "(a: A) -> Iterator[B]", "z": "(bs: list[B], a: A) -> D"},
    "a list from two branches": {"x": "(a: A) -> B", "y": "(a: A) -> C", "z": "(es: list[B | C]) -> D"},
    "a list of the same from two steps": {"x": "(a: A) -> B", "y": "(a: A) -> B", "z": "(es: list[B]) -> D"},
    "a join within one item of a fan-out": {
        "x": "(a: A) -> list[B]",
        "y": "(b: B) -> C",
        "z": "(b: B) -> D",
        "j": "(c: C, d: D) -> E",
    },
    "a join of an item with what came before": {"x": "(a: A) -> list[B]", "y": "(a: A) -> C", "j": "(b: B, c: C) -> E"},
    "a loop with a way out": {"x": "(a: A) -> B", "y": "(b: B) -> A | C"},
    "a loop that may end with nothing": {"x": "(a: A) -> A | None"},
    "a loop through a list that may be empty": {"x": "(a: A) -> list[A]"},
    "rounds of fan-out and fan-in": {"x": "(a: A) -> list[B]", "y": "(bs: list[B]) -> A | C"},
    "a choice made again in each round, both of which join": {
        "x": "(a: A) -> B | C",
        "y": "(b: B) -> A | None",
        "z": "(b: B, c: C) -> D",
    },
    "a loop that a join lets go": {"s": "(c: C) -> A", "t": "(c: C) -> B", "x": "(a: A, b: B) -> A"},
    "two flows side by side": {"x": "(a: A) -> B", "y": "(c: C) -> D"},
    "an error handler": {"x": "(a: A) -> B"},
}


@pytest.mark.parametrize("steps", RIGHT.values(), ids=RIGHT)
def test_a_legitimate_pipeline_has_no_findings(steps: dict[str, str]) -> None:
    pipeline = _pipeline(steps)
    pipeline.on_error("x")(_made("mend", "(failure: StepFailed) -> None"))
    pipeline.on_error()(_made("mourn", "(failure: StepFailed) -> E"))
    assert pipeline.check() == []


def test_a_pipeline_needs_a_step() -> None:
    finding = _only(Pipeline("empty"))
    assert (finding.code, finding.severity) == ("no-steps", "error")
    assert str(finding) == "error: pipeline empty has no step; add one with @pipeline.step [no-steps]"


@pytest.mark.parametrize(
    ("signature", "clash"),
    [
        ("(one: A, other: A) -> B", True),
        ("(one: A | C, other: list[C]) -> B", True),
        ("(one: A, other: B) -> None", False),
    ],
)
def test_two_parameters_that_accept_the_same_event_are_ambiguous(signature: str, clash: bool) -> None:
    steps = {"s": "(e: E) -> A", "t": "(e: E) -> B", "u": "(e: E) -> list[C]", "x": signature}
    codes = [finding for finding in _findings(steps) if finding[0] == "ambiguous-join"]
    assert codes == ([("ambiguous-join", "x")] if clash else [])


def test_the_ambiguity_names_parameters_and_type_and_says_what_to_write() -> None:
    finding = _only(_pipeline({"x": "(one: A, other: A) -> None"}))
    assert finding.message == "step x: 'one' and 'other' both accept A, so it is not clear which gets which"
    assert "list[A]" in finding.hint
    assert finding.event == "A"


def test_a_join_whose_events_have_no_common_trigger_never_completes() -> None:
    finding = _only(_pipeline({"x": "(a: A) -> B", "y": "(b: B, c: C) -> D"}))
    assert (finding.code, finding.severity, finding.step) == ("join-never-completes", "error", "y")
    assert finding.message == "step y waits for B and C, but no single trigger leads to all of them in one run"


def test_a_join_of_two_branches_of_one_choice_never_completes() -> None:
    finding = _only(_pipeline({"charge": "(a: A) -> B | C", "ship": "(b: B, c: C) -> D"}))
    assert finding.message == "step ship waits for B and C, but charge emits one or the other, never both in one run"
    assert "(B | C)" in finding.hint


def test_nor_does_one_of_what_follows_from_the_two_branches() -> None:
    steps = {"x": "(a: A) -> B | C", "y": "(b: B) -> D", "z": "(c: C) -> E", "j": "(d: D, e: E) -> None"}
    assert _findings(steps) == [("join-never-completes", "j")]
    assert _findings({**steps, "w": "(a: A) -> D"}) == []


def test_a_join_of_items_of_two_fan_outs_never_completes() -> None:
    steps = {"x": "(a: A) -> list[B]", "y": "(a: A) -> list[C]", "j": "(b: B, c: C) -> D"}
    finding = _only(_pipeline(steps))
    assert "come as items of different fan-outs and never meet" in finding.message
    assert _findings({**steps, "j": "(bs: list[B], cs: list[C]) -> D"}) == []
    assert _findings({**steps, "j": "(bs: list[B], c: C) -> D"}) == []


def test_a_join_of_two_kinds_of_item_of_one_fan_out_never_completes() -> None:
    assert _findings({"x": "(a: A) -> list[B | C]", "j": "(b: B, c: C) -> D"}) == [("join-never-completes", "j")]


def test_a_join_that_waits_for_what_only_itself_leads_to_never_completes() -> None:
    finding = next(
        f for f in _pipeline({"j": "(a: A, b: B) -> C", "k": "(c: C) -> B"}).check() if f.severity == "error"
    )
    assert (finding.code, finding.step) == ("join-never-completes", "j")


@pytest.mark.parametrize(
    ("steps", "at"),
    [
        ({"x": "(a: A) -> A"}, "x"),
        ({"x": "(a: A) -> B", "y": "(b: B) -> A"}, "x"),
        ({"s": "(e: E) -> A", "x": "(a: A) -> B", "y": "(b: B) -> A"}, "x"),
        ({"x": "(a: A) -> B | C", "y": "(b: B) -> A", "z": "(c: C) -> A"}, "x"),
        ({"x": "(a: A) -> A", "y": "(a: A) -> B"}, "x"),
        ({"x": "(es: list[A]) -> A"}, "x"),
    ],
)
def test_a_loop_that_can_only_go_on_is_an_error(steps: dict[str, str], at: str) -> None:
    errors = [finding for finding in _pipeline(steps).check() if finding.severity == "error"]
    assert [(finding.code, finding.step) for finding in errors] == [("loop-without-exit", at)]
    assert "this loop never ends" in errors[0].message
    assert "`| None`" in errors[0].hint


def test_two_endless_loops_are_two_findings_in_the_order_of_the_steps() -> None:
    steps = {"x": "(a: A) -> B", "y": "(b: B) -> A", "z": "(c: C) -> C"}
    assert _findings(steps) == [("loop-without-exit", "x"), ("loop-without-exit", "z")]
    first, second = _pipeline(steps).check()
    assert first.message.startswith("x -> y -> x: ")
    assert second.message.startswith("z -> z: ")


def test_what_comes_only_from_a_step_that_cannot_act_is_unreachable() -> None:
    steps = {"x": "(a: A) -> B | C", "j": "(b: B, c: C) -> D", "after": "(d: D) -> E", "last": "(e: E) -> None"}
    assert _findings(steps) == [
        ("join-never-completes", "j"),
        ("unreachable-step", "after"),
        ("unreachable-step", "last"),
    ]
    assert _findings({**steps, "way": "(a: A) -> D"}) == [("join-never-completes", "j")]


def test_a_loop_behind_such_a_step_is_unreachable_too() -> None:
    steps = {"x": "(a: A) -> B | C", "j": "(b: B, c: C) -> D", "loop": "(d: D) -> D | E"}
    assert _findings(steps) == [("join-never-completes", "j"), ("unreachable-step", "loop")]


def test_a_handler_of_what_cannot_act_is_unreachable() -> None:
    pipeline = _pipeline({"x": "(a: A) -> B | C", "j": "(b: B, c: C) -> D"})
    pipeline.on_error("j")(_made("mend", "(failure: StepFailed) -> None"))
    assert [(f.code, f.step) for f in pipeline.check()] == [("join-never-completes", "j"), ("unreachable-step", "mend")]


def test_a_handler_of_all_failures_does_not_receive_those_of_another_handler() -> None:
    pipeline = _pipeline({"x": "(a: A) -> B"})
    pipeline.on_error()(_made("mend", "(failure: StepFailed) -> None"))
    pipeline.on_error("mend")(_made("mourn", "(failure: StepFailed) -> None"))
    assert pipeline.check() == []


def test_in_a_pipeline_with_webhooks_an_event_that_is_never_emitted_is_doubtful() -> None:
    steps = {"x": "(a: A) -> B", "y": "(c: C) -> D"}
    assert _findings(steps) == []
    assert _findings(steps, {"shop": "A"}) == [("nobody-emits", "y")]
    assert _findings(steps, {"shop": "A | C"}) == []


def test_so_is_a_loop_that_nothing_leads_into() -> None:
    loop = {"x": "(a: A) -> None", "y": "(c: C) -> D", "z": "(d: D) -> C | None"}
    assert _findings(loop) == []
    assert _findings(loop, {"shop": "A"}) == [("unreachable-step", "y"), ("unreachable-step", "z")]
    assert _findings(loop, {"shop": "A | C"}) == []


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ("A | B | None", "webhook shop emits B, which no step receives"),
        ("None", "webhook shop emits nothing, so its deliveries are lost"),
    ],
)
def test_a_webhook_that_leads_nowhere_is_doubtful(returns: str, message: str) -> None:
    steps = {"x": "(a: A) -> None"}
    dead_ends = [f for f in _pipeline(steps, {"shop": returns}).check() if f.code == "dead-end"]
    assert [(finding.severity, finding.message) for finding in dead_ends] == [("warning", message)]
    assert _findings(steps, {"shop": "A | None"}) == []


@pytest.mark.parametrize("producer", ["(a: A) -> B", "(a: A) -> B | C"])
def test_a_list_of_what_comes_once_is_doubtful(producer: str) -> None:
    finding = _only(_pipeline({"x": producer, "y": "(bs: list[B]) -> D"}))
    assert (finding.code, finding.severity, finding.step) == ("list-without-fan-out", "warning", "y")
    assert finding.message == "step y: 'bs' is a list, but a run has at most one B"


@pytest.mark.parametrize(("scheme", "codes"), [("insecure", ["insecure-webhook"]), ("github", [])])
def test_a_webhook_that_verifies_nothing_is_doubtful(scheme: str, codes: list[str]) -> None:
    pipeline = _pipeline({"x": "(a: A) -> None"}, {"shop": "A"}, scheme)
    assert [finding.code for finding in pipeline.check()] == codes


def test_errors_come_before_warnings() -> None:
    pipeline = _pipeline({"x": "(a: A) -> A", "y": "(c: C) -> None"}, {"shop": "A"}, "insecure")
    assert [f.severity for f in pipeline.check()] == ["error", "warning", "warning"]


def test_a_deep_and_wide_pipeline_is_checked_at_once() -> None:
    chain = {f"s{n}": f"(a: {'ABCD'[n % 4]}) -> {'ABCD'[(n + 1) % 4]} | E | None" for n in range(120)}
    assert _findings({**chain, "j": "(a: A, e: E) -> None"}) == []
