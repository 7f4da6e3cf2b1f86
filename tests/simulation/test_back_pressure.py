"""A generator is held back while what it emitted waits for workers, so memory stays bounded."""

from ensue import Event, Pipeline
from ensue.events.decide.core import Decider, Limits
from ensue.events.decide.inputs import Completed, CompletionKind
from ensue.events.model.codec import encode

from .core_driver import CoreDriver


class Start(Event):
    """The trigger."""


class Row(Event):
    """One of very many."""

    n: int


def _pipeline() -> Pipeline:
    p = Pipeline("rows")

    @p.step
    def read(event: Start) -> list[Row]: ...  # type: ignore[empty-body]

    @p.step
    def load(event: Row) -> None: ...

    return p


def test_a_generator_gets_credit_only_while_little_waits_for_workers() -> None:
    driver = CoreDriver(_pipeline(), concurrency=1)
    driver.decider = Decider(driver.plans, driver.builder, Limits(backlog=3))
    driver.held.clear()
    reader, loader = driver.add_worker("read"), driver.add_worker("load")
    driver.emit(Start())
    token = driver.held[reader][0][0]

    def stream(index: int) -> bool:
        output = ["Row", 1, encode(Row(n=index)), None]
        return bool(driver.tell(Completed(reader, [[CompletionKind.STREAM, token, index, [output]]])).credit)

    assert [stream(index) for index in range(5)] == [True, True, True, False, False]
    caught_up = driver.done(loader, driver.held[loader][0], [], many=False)
    assert [credit.upto for credit in caught_up.credit] == [5]
