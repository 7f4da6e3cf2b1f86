"""A mistake in a step, a handler or a webhook is an error at its declaration."""

import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from ensue.events.errors import PipelineInvalid
from ensue.events.model.event import Event
from ensue.events.model.failure import StepFailed
from ensue.events.model.webhook import Webhook
from ensue.events.pipelines.pipeline import Pipeline
from ensue.events.pipelines.step import CallStyle
from ensue.events.policies.retry import NO_RETRY, Retry


class A(Event): ...


class B(Event): ...


class Trusting:
    """Verifies nothing."""

    scheme = "insecure"
    body_limit_bytes = 1_000

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        return None


def sink(event: A) -> None:
    """Swallow it.

    And say no more.
    """


def _from_shop(webhook: Webhook) -> B:
    return B()


def _pipeline() -> Pipeline:
    return Pipeline("orders")


def test_a_step_is_returned_as_it_was_and_has_its_defaults() -> None:
    pipeline = _pipeline()
    assert pipeline.step(sink) is sink
    step = pipeline.steps["sink"]
    assert (step.name, step.target, step.description, step.is_class) == ("sink", sink, "Swallow it.", False)
    assert (step.retry, step.timeout_seconds, step.replicas, step.concurrency) == (Retry(), 60.0, 1, 16)
    assert list(pipeline.registry) == [StepFailed, A]


def test_a_declaration_keeps_what_was_declared_up_to_it() -> None:
    pipeline = _pipeline()
    pipeline.step(sink)
    before = pipeline.declaration
    pipeline.step(name="later")(sink)
    pipeline.webhook("shop", verify=Trusting())(_from_shop)
    assert (before.name, list(before.steps), list(before.endpoints)) == ("orders", ["sink"], [])
    assert before.events == (StepFailed, A)
    after = pipeline.declaration
    assert (list(after.steps), list(after.endpoints)) == (["sink", "later"], ["shop"])
    assert after.events == (StepFailed, A, B)


def test_a_declaration_cannot_be_changed() -> None:
    pipeline = _pipeline()
    pipeline.step(sink)
    declaration: Any = pipeline.declaration
    with pytest.raises(FrozenInstanceError):
        declaration.name = "other"
    with pytest.raises(TypeError):
        declaration.steps["other"] = pipeline.steps["sink"]


def test_options_become_policies() -> None:
    pipeline = _pipeline()
    pipeline.step(
        name="swallow",
        retry=3,
        timeout=5,
        replicas=2,
        concurrency=7,
        num_cpus=0.5,
        num_gpus=1,
        memory=9,
        resources={"tpu": 1},
    )(sink)
    step = pipeline.steps["swallow"]
    assert (step.retry, step.timeout_seconds, step.replicas, step.concurrency) == (Retry(attempts=3), 5, 2, 7)
    claims = step.resources
    assert (claims.cpus, claims.gpus, claims.memory_bytes, claims.custom) == (0.5, 1, 9, {"tpu": 1})


def test_one_attempt_is_no_retry() -> None:
    pipeline = _pipeline()
    pipeline.step(retry=1)(sink)
    assert pipeline.steps["sink"].retry is NO_RETRY


@pytest.mark.parametrize(
    ("options", "at_once"), [({}, 16), ({"num_cpus": 0.5}, 16), ({"num_cpus": 1}, 1), ({"num_gpus": 0.1}, 1)]
)
def test_what_claims_a_processor_works_on_one_event_at_a_time(options: dict[str, Any], at_once: int) -> None:
    pipeline = _pipeline()
    pipeline.step(**options)(sink)
    assert pipeline.steps["sink"].concurrency == at_once


def test_the_call_style_is_seen_from_the_code() -> None:
    pipeline = _pipeline()

    @pipeline.step
    async def waits(event: A) -> None: ...

    @pipeline.step
    def yields(event: A) -> Iterator[B]:
        yield B()

    @pipeline.step
    async def streams(event: A) -> AsyncIterator[B]:
        yield B()

    @pipeline.step
    class Model:
        async def __call__(self, event: A) -> B:
            return B()

    styles = [step.style for step in pipeline.steps.values()]
    assert styles == [CallStyle.ASYNC, CallStyle.SYNC_STREAM, CallStyle.ASYNC_STREAM, CallStyle.ASYNC]
    assert pipeline.steps["Model"].is_class
    assert pipeline.steps["waits"].concurrency == 256


def test_events_and_steps_may_be_local_to_a_function() -> None:
    class Local(Event): ...

    pipeline = _pipeline()

    @pipeline.step
    class Model:
        def __call__(self, event: "Local") -> "list[Local]":
            return [event]

    @pipeline.step(retry=2)
    def plain(event: "Local") -> "Local | None": ...

    @pipeline.on_error(plain)
    def mend(event: "StepFailed") -> "Local | None": ...

    assert pipeline.registry["Local"] is Local
    assert pipeline.steps["mend"].failed_steps == frozenset({"plain"})


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 101, "...", "a\n"])
def test_names_of_pipelines_and_webhooks_fit_into_an_address(name: str) -> None:
    with pytest.raises(PipelineInvalid, match=r"pipeline name .* use letters, digits"):
        Pipeline(name)
    with pytest.raises(PipelineInvalid, match=r"webhook name .* use letters, digits"):
        _pipeline().webhook(name, verify=Trusting())


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb"])
def test_names_of_steps_are_printable(name: str) -> None:
    with pytest.raises(PipelineInvalid, match=r"step name .* printable"):
        _pipeline().step(name=name)(sink)


def test_two_steps_of_one_name_are_refused() -> None:
    pipeline = _pipeline()
    pipeline.step(sink)
    with pytest.raises(PipelineInvalid, match="pipeline orders has two steps named 'sink': rename one, or pass name="):
        pipeline.step(sink)
    pipeline.step(name="other")(sink)
    assert list(pipeline.steps) == ["sink", "other"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout_seconds is 0"),
        ({"timeout": math.nan}, "timeout_seconds is nan"),
        ({"timeout": math.inf}, "timeout_seconds is inf"),
        ({"replicas": 0}, "replicas is 0; at least 1"),
        ({"concurrency": 0}, "concurrency is 0; at least 1"),
        ({"num_cpus": -1}, "num_cpus is -1"),
        ({"num_gpus": math.nan}, "num_gpus is nan"),
        ({"memory": -5}, "memory is -5"),
        ({"num_cpus": 0.00001}, "num_cpus is 1e-05: the least that Ray counts is 0.0001"),
        ({"num_gpus": 1.5}, "num_gpus is 1.5: more than one GPU must be a whole number"),
        ({"memory": 2e9}, "memory is 2000000000.0: write whole bytes"),
        ({"resources": {"tpu": -1}}, "tpu is -1"),
        ({"resources": {"tpu": None}}, "tpu is None: write a number"),
        ({"resources": {"CPU": 1}}, r"write num_cpus=1 instead of resources=\{'CPU': 1\}"),
        ({"resources": {"GPU": 0.5}}, r"write num_gpus=0.5 instead of resources=\{'GPU': 0.5\}"),
        ({"resources": {"memory": 9}}, r"write memory=9 instead of resources=\{'memory': 9\}"),
        ({"resources": {"object_store_memory": 9}}, "Ray reserves the name 'object_store_memory'"),
        ({"resources": {"bundle": 1}}, "Ray reserves the name 'bundle'"),
        ({"resources": {"": 1}}, "'' is not the name of a resource: write ASCII characters"),
        ({"resources": {"größe": 1}}, "'größe' is not the name of a resource"),
        ({"resources": {7: 1}}, "7 is not the name of a resource"),
        ({"retry": 0}, "must be at least 1"),
    ],
)
def test_invalid_policies_are_refused(options: dict[str, Any], message: str) -> None:
    pipeline = _pipeline()
    with pytest.raises(PipelineInvalid, match=message):
        pipeline.step(**options)(sink)
    assert not pipeline.steps


def test_a_class_without_a_call_is_no_step() -> None:
    class Empty: ...

    with pytest.raises(PipelineInvalid, match="step class Empty has no __call__"):
        _pipeline().step(Empty)


@pytest.mark.parametrize("code", [functools.partial(sink), Trusting()])
def test_an_object_is_no_step(code: Callable[..., Any]) -> None:
    with pytest.raises(PipelineInvalid, match="a step is a function, or a class with __call__"):
        _pipeline().step(code)


def test_a_generator_has_to_say_that_it_yields() -> None:
    def yields(event: A) -> B:  # type: ignore[misc]
        yield B()  # pyright: ignore[reportReturnType]

    async def streams(event: A) -> B:  # type: ignore[misc]
        yield B()  # pyright: ignore[reportReturnType]

    with pytest.raises(PipelineInvalid, match=r"step yields yields: .* -> Iterator\[B\]"):
        _pipeline().step(yields)
    with pytest.raises(PipelineInvalid, match=r"step streams yields: .* -> AsyncIterator\[B\]"):
        _pipeline().step(streams)


def test_two_events_of_one_name_are_refused() -> None:
    class Other(Event, type="A"): ...

    pipeline = _pipeline()
    pipeline.step(sink)

    def clash(event: Other) -> None: ...

    with pytest.raises(PipelineInvalid, match="two event classes share the type 'A'"):
        pipeline.step(clash)
    assert list(pipeline.steps) == ["sink"]


def test_a_handler_names_steps_by_their_code_or_by_their_name() -> None:
    pipeline = _pipeline()
    pipeline.step(name="first")(sink)
    pipeline.step(name="second")(sink)

    @pipeline.on_error(sink)
    def both(failure: StepFailed) -> None: ...

    @pipeline.on_error("second", retry=1, timeout=5)
    def one(failure: StepFailed) -> None: ...

    @pipeline.on_error()
    def every(failure: StepFailed) -> None: ...

    filters = {name: step.failed_steps for name, step in pipeline.steps.items()}
    assert filters["first"] is None
    assert filters["both"] == frozenset({"first", "second"})
    assert filters["one"] == frozenset({"second"})
    assert filters["every"] == frozenset()
    assert (pipeline.steps["one"].retry, pipeline.steps["one"].timeout_seconds) == (NO_RETRY, 5)


def test_a_handler_of_a_step_that_is_not_there_is_refused_at_once() -> None:
    pipeline = _pipeline()
    pipeline.step(name="first")(sink)
    for step in ("third", "sink"):
        with pytest.raises(
            PipelineInvalid, match=rf"on_error\({step}\): pipeline orders has no such step \(known: first\)"
        ):
            pipeline.on_error(step)


def test_a_handler_declared_without_brackets_is_refused() -> None:
    def mend(failure: StepFailed) -> None: ...

    with pytest.raises(
        PipelineInvalid, match=r"on_error\(mend\): .*write @orders.on_error\(\) for the failures of all"
    ):
        _pipeline().on_error(mend)


def test_a_handler_has_a_parameter_of_step_failed() -> None:
    with pytest.raises(PipelineInvalid, match="error handler sink: annotate a parameter with StepFailed"):
        _pipeline().on_error()(sink)


def test_a_handler_of_a_compensation_is_refused_since_its_failure_is_for_the_operator() -> None:
    pipeline = _pipeline()
    pipeline.step(name="take")(sink)

    @pipeline.compensate("take")
    def give_back(event: A) -> None: ...

    for step in (give_back, "give_back"):
        with pytest.raises(
            PipelineInvalid, match=r"on_error\(give_back\): .*a step with a parameter of CompensationBl"
        ):
            pipeline.on_error("take", step)


def test_a_failure_that_would_wait_for_another_event_is_refused() -> None:
    pipeline = _pipeline()

    def plain(failure: StepFailed, event: A) -> None: ...
    def either(event: A, failure: StepFailed | B) -> None: ...
    def beside_a_list(failure: StepFailed, events: list[A]) -> None: ...
    def failures(failures: list[StepFailed], event: A) -> None: ...

    for code in (plain, either, beside_a_list, failures):
        for add in (pipeline.step, pipeline.on_error()):
            with pytest.raises(PipelineInvalid, match=f"step {code.__name__}: .*, emit an event of your own, and join"):
                add(code)


def test_failures_are_received_alone_or_gathered_beside_other_lists() -> None:
    pipeline = _pipeline()

    def alone(failure: StepFailed | B) -> None: ...
    def failures(failures: list[StepFailed]) -> None: ...
    def report(events: list[A], failures: list[StepFailed]) -> None: ...

    for code in (alone, failures, report):
        pipeline.step(code)
    assert list(pipeline.steps) == ["alone", "failures", "report"]


def test_a_webhook_says_what_it_may_emit() -> None:
    pipeline = _pipeline()

    @pipeline.webhook("shop", verify=Trusting(), content_types=["text/plain"])
    def from_shop(hook: Webhook) -> A | B | None: ...

    endpoint = pipeline.endpoints["shop"]
    assert (endpoint.models, endpoint.content_types, endpoint.function) == ((A, B), ("text/plain",), from_shop)
    assert "B" in pipeline.registry


def test_a_webhook_without_a_return_annotation_and_a_second_of_its_name_are_refused() -> None:
    pipeline = _pipeline()

    def silent(hook: Webhook): ...  # type: ignore[no-untyped-def]  # noqa: ANN202

    def loud(hook: Webhook) -> A: ...  # type: ignore[empty-body]

    with pytest.raises(PipelineInvalid, match="webhook shop has no return annotation"):
        pipeline.webhook("shop", verify=Trusting())(silent)
    pipeline.webhook("shop", verify=Trusting())(loud)
    with pytest.raises(PipelineInvalid, match="two webhooks named 'shop'"):
        pipeline.webhook("shop", verify=Trusting())(loud)
