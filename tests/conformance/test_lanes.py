"""Every lane carries messages whole in both directions, and its end is reported.

Order is not promised, nor is arrival where a worker dies; so nothing here looks at either.
"""

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from ensue import Context, Event, Pipeline
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.transport.ray_lane import RemoteLane
from ensue.actors.transport.ray_links import RayLinks
from ensue.actors.worker.worker import Worker
from ensue.cluster.ray import session
from ensue.events.decide.inputs import CompletionKind
from ensue.events.model.codec import pack

from .engines import by_value

pytestmark = pytest.mark.timeout(60)
SECONDS = 20.0


class Order(Event):
    n: int


class Blob(Event):
    data: bytes


flow = Pipeline("lanes")


@flow.step
def work(event: Order | Blob, ctx: Context) -> Order | None:
    if isinstance(event, Blob):
        return Order(n=len(event.data))
    if event.n < 0:
        ctx.log.info("ends")
        import os  # noqa: PLC0415 - the step travels alone

        os._exit(1)
    return Order(n=event.n + 1)


class Lane(Protocol):
    """A worker at the other end of a lane."""

    links: RayLinks

    def gone(self, seconds: float) -> bool:
        """Whether the worker's end is told in time."""
        ...


class LaneUnderRay:
    """A worker of the step above; over the socket of this node, or by Ray calls."""

    def __init__(self, kind: str) -> None:
        ray: Any = importlib.import_module("ray")
        self.links = RayLinks()
        self.lost = threading.Event()
        actor_class: Any = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=8)(Worker)
        self.actor = actor_class.remote(1, flow.steps["work"], list(flow.registry))
        if kind == "zmq":
            self._life = self.actor.serve.remote(self.links.socket.address)
            self.await_(lambda messages: any(unpack_message(m)[0] == Tag.HELLO for m in messages))
        else:
            ray.get(self.actor.hello.remote(), timeout=SECONDS)
            lane = RemoteLane(self.actor, lambda message: self.links.receive_remote(1, message), self.lost.set)
            self.links.add_remote(1, lane)
            lane.start()
            self._life = self.actor.attend.remote()
        self._ray = ray

    def await_(self, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
        messages: list[bytes] = []
        deadline = time.monotonic() + SECONDS
        while not enough(messages):
            assert time.monotonic() < deadline
            self.links.wait(0.1)
            messages += [message for _, message in self.links.receive()]
        return messages

    def completions(self, count: int) -> dict[int, list[Any]]:
        """That many completions, by token."""
        found: dict[int, list[Any]] = {}

        def enough(messages: list[bytes]) -> bool:
            for message in messages:
                tag, body = unpack_message(message)
                if tag == Tag.COMPLETIONS:
                    found.update((item[1], item) for item in body)
            return len(found) >= count

        self.await_(enough)
        return found

    def deliver(self, events: list[tuple[str, dict[str, Any]]]) -> None:
        """Send a delivery for each event, all in one message; tokens count from 1."""
        items = [
            [token, bytes(16), token, 1, 1, 0, [[bytes(16), name, 1, pack(data)]]]
            for token, (name, data) in enumerate(events, 1)
        ]
        self.links.send(1, pack([int(Tag.DELIVER), items]))

    def gone(self, seconds: float) -> bool:
        return bool(self._ray.wait([self._life], timeout=seconds)[0])

    def close(self) -> None:
        self._ray.kill(self.actor)
        self.links.forget(1)
        self.links.close()


@pytest.fixture(params=["zmq", "ray"])
def lane(request: pytest.FixtureRequest, ray_session: session.Session) -> Iterator[LaneUnderRay]:
    by_value(__name__)
    made = LaneUnderRay(request.param)
    yield made
    made.close()


def test_every_delivery_of_a_batch_is_answered(lane: LaneUnderRay) -> None:
    lane.deliver([("Order", {"n": n}) for n in range(500)])
    done = lane.completions(500)
    assert sorted(done) == list(range(1, 501))
    assert {item[0] for item in done.values()} == {CompletionKind.DONE}
    assert done[7][3][0][:3] == ["Order", 1, pack({"n": 7})]


def test_a_batch_of_many_megabytes_comes_through_whole(lane: LaneUnderRay) -> None:
    lane.deliver([("Blob", {"data": bytes(300_000 + n)}) for n in range(20)])
    done = lane.completions(20)
    assert [done[token][3][0][2] for token in range(1, 21)] == [pack({"n": 300_000 + n}) for n in range(20)]


def test_many_small_messages_all_arrive(lane: LaneUnderRay) -> None:
    for token in range(1, 301):
        items = [[token, bytes(16), token, 1, 1, 0, [[bytes(16), "Order", 1, pack({"n": token})]]]]
        lane.links.send(1, pack([int(Tag.DELIVER), items]))
    assert sorted(lane.completions(300)) == list(range(1, 301))


def test_an_idle_worker_sends_signs_of_life(lane: LaneUnderRay) -> None:
    lane.await_(lambda messages: any(unpack_message(message)[0] == Tag.ALIVE for message in messages))
    assert 1 in lane.links.last_message_at


def test_a_worker_that_dies_is_told_and_the_lane_takes_no_harm(lane: LaneUnderRay) -> None:
    lane.deliver([("Order", {"n": -1})])
    assert lane.gone(SECONDS)
    lane.deliver([("Order", {"n": 1})])
    lane.links.wait(0.0)


def test_a_worker_that_is_told_to_stop_says_all_it_has_first(
    lane: LaneUnderRay, request: pytest.FixtureRequest
) -> None:
    lane.deliver([("Order", {"n": n}) for n in range(100)])
    done = lane.completions(1)
    if "zmq" in request.node.name:
        lane.links.send(1, pack([int(Tag.STOP), None]))
    else:
        lane.actor.stop.remote()
    done |= lane.completions(100 - len(done))
    assert sorted(done) == list(range(1, 101))
    assert {item[0] for item in done.values()} <= {CompletionKind.DONE, CompletionKind.RELEASE}
    assert lane.gone(SECONDS)


def test_a_wait_of_a_year_is_ended_by_a_ring() -> None:
    links = RayLinks()
    try:
        ringing = threading.Thread(target=links.wake)
        ringing.start()
        links.wait(366 * 86_400.0)
        ringing.join(SECONDS)
    finally:
        links.close()
