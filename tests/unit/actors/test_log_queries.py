"""A step's query of the log gets the events or the reason why not, and never harms the engine."""

import logging
import threading
from typing import Any

import pytest

from ensue import Event, Pipeline
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker import log_queries as asking
from ensue.actors.worker.log_queries import Questions, answer
from ensue.cluster.log.memory.log import MemoryLog
from ensue.cluster.log.protocol import Batch, Reader, RunStart
from ensue.events.errors import CodecError, EnsueError, LogUnavailable
from ensue.events.pipelines.plan import compile_plan
from ensue.events.state.records import Entry, EventRecord, RecordKind, pack_records

RUN = bytes(16)


class Order(Event):
    n: int = 0


flow = Pipeline("asks")


@flow.step
def work(event: Order) -> None:
    return None


PLANS = {"asks": compile_plan(flow.declaration, "1")}


def past(body: bytes) -> Reader:
    """The reader of a log in which one run has this entry."""
    log = MemoryLog()
    epoch = log.acquire("test")
    log.commit(Batch(epoch, [Entry(1, 1, 1, body)], [RunStart(1, RUN, "asks", "1", "Order", 0)]))
    return log.reader()


ONE_EVENT = pack_records([EventRecord(RecordKind.EVENT, bytes(16), "Order", 1, b"an order", None, b"", 0, 0, 0)])


def asked(reader: Reader) -> Any:
    """What a step hears that asks this reader for the orders of the run."""
    questions: Questions

    def say(tag: Tag, body: Any) -> None:
        assert tag == Tag.ASK
        told, reply = unpack_message(answer(reader, PLANS, body))
        assert told == Tag.ANSWER
        questions.take_answer(reply)

    questions = Questions(say)
    return questions.ask(RUN, "Order")


def test_a_step_that_asks_for_earlier_events_gets_them() -> None:
    assert asked(past(ONE_EVENT)) == [[1, b"an order"]]


def test_an_answer_over_the_bound_of_a_message_is_refused_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MAX_MESSAGE_BYTES", 10)
    with pytest.raises(CodecError, match="type Order cannot be read: they have 17 bytes, over the limit of 10"):
        asked(past(ONE_EVENT))


def test_a_log_that_cannot_be_read_now_is_worth_another_try() -> None:
    reader = past(ONE_EVENT)
    reader.close()
    with pytest.raises(LogUnavailable, match="closed"):
        asked(reader)


@pytest.mark.parametrize("body", [b"\xc1", pack_records([(int(RecordKind.EVENT),)])])
def test_an_invalid_record_fails_the_step_that_asked_for_it(body: bytes) -> None:
    with pytest.raises(EnsueError, match="earlier events of type Order cannot be read"):
        asked(past(body))


def test_a_reason_that_is_not_unicode_is_sent_escaped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="ensue")  # such a reason cannot travel in a test's report

    def fail(*_: object) -> None:
        raise OSError("no file \udcff")

    monkeypatch.setattr(asking, "earlier_events", fail)
    with pytest.raises(LogUnavailable, match=r"no file \\udcff"):
        asked(past(ONE_EVENT))


def test_a_question_that_nobody_answers_is_given_up_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_ANSWER_SECONDS", 0.0)
    said: list[Any] = []
    questions = Questions(lambda tag, body: said.append(body))
    with pytest.raises(TimeoutError, match="the log did not answer within 0 s"):
        questions.ask(RUN, "Order")
    questions.take_answer([said[0][0], [[1, b"late"]]])


def test_each_of_many_that_ask_at_once_gets_its_own_answer() -> None:
    said: list[Any] = []
    both, heard = threading.Semaphore(0), dict[str, Any]()

    def say(tag: Tag, body: Any) -> None:
        said.append(body)
        both.release()

    questions = Questions(say)

    def ask(name: str) -> None:
        heard[name] = questions.ask(RUN, name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert both.acquire(timeout=20)
    for number, _, name in reversed(said):
        questions.take_answer([number, [[1, name.encode()]]])
    for thread in threads:
        thread.join(20)
    assert heard == {"a": [[1, b"a"]], "b": [[1, b"b"]]}
