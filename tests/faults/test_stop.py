"""A served engine is told to stop: once, twice, and not asked any more; and the next one goes on where it ended."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from ensue.cluster.log.open import open_reader
from ensue.events.state.run_status import Status

from ..conformance.engines import until
from .client import Sender, ask, is_ready
from .judge import judge
from .server import Server, kill_all, runs
from .waiting import came

pytestmark = pytest.mark.timeout(120)
EVENTS = 40
READY_SECONDS = 60
STOP_SECONDS = 40
Serve = Callable[..., Server]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a server on the store of this test; each call is another process."""
    begun: list[Server] = []

    def begin(work_seconds: float = 0.01) -> Server:
        begun.append(Server(tmp_path, work_seconds=work_seconds))
        begun[-1].start()
        return begun[-1]

    yield begin
    for server in begun:
        server.end()


async def ready(server: Server) -> None:
    """Return when it takes events in."""
    assert await came(lambda: is_ready(server.port), READY_SECONDS), server.last_words()


async def send(server: Server, first: int = 0) -> dict[str, str]:
    """Send some events; the run of each."""
    sender = Sender(server.port, total=0, rate=1)
    orders = [(n, {"type": "Order", "data": {"n": n, "account": f"a{n % 7}"}}) for n in range(first, first + EVENTS)]
    await asyncio.gather(*(sender.post(f"e-{n}", order) for n, order in orders))
    return sender.acknowledged.runs


async def draining(server: Server) -> None:
    """Return when it takes no more events in."""

    async def is_unready() -> bool:
        return not await is_ready(server.port)

    assert await came(is_unready, 10, poll_seconds=0.01)


async def all_over(server: Server) -> None:
    """Return when no run of its store is alive."""
    with closing(open_reader(server.store)) as reader:
        await until(lambda: not any(Status(status).live for _, status in reader.counts()), READY_SECONDS)


def raylets(server: Server) -> set[int]:
    """The raylets of its Ray."""
    return {pid for pid, title in server.family().items() if "/raylet/raylet" in title}


def attempts(server: Server) -> int:
    """How many times `book` has begun."""
    return len(server.ledger.read_text().splitlines()) if server.ledger.exists() else 0


async def test_sigterm_once_finishes_what_runs_refuses_what_comes_and_exits_0(serve: Serve) -> None:
    server = serve(work_seconds=1.0)
    await ready(server)
    acknowledged = await send(server)
    await until(lambda: attempts(server) > 0)
    server.signal(signal.SIGTERM)
    await draining(server)
    assert (await ask(server.port, "/readyz"))[0] == 503
    assert (await ask(server.port, "/healthz"))[0] == 200
    assert await server.ended(STOP_SECONDS) == 0
    begun = attempts(server)
    again = serve()
    await all_over(again)
    again.signal(signal.SIGTERM)
    assert await again.ended(STOP_SECONDS) == 0
    found = judge(server.store, server.ledger, acknowledged)
    assert (found.faults, found.completed) == ([], EVENTS)
    assert 0 < begun <= EVENTS
    assert found.outside_repeated == 0, "what had begun was finished, so nothing was done again"


async def test_sigterm_twice_ends_it_at_once_and_loses_nothing(serve: Serve) -> None:
    server = serve(work_seconds=20.0)
    await ready(server)
    acknowledged = await send(server)
    await until(lambda: attempts(server) > 0)
    family = set(server.family())
    server.signal(signal.SIGTERM)
    await draining(server)
    server.signal(signal.SIGTERM)
    assert await server.ended(10) == 128 + signal.SIGTERM
    again = serve()
    await all_over(again)
    again.signal(signal.SIGTERM)
    assert await again.ended(STOP_SECONDS) == 0
    assert judge(server.store, server.ledger, acknowledged).faults == []
    await until(lambda: not any(runs(pid) for pid in family))


async def test_kill_9_in_the_middle_of_a_drain_loses_nothing(serve: Serve) -> None:
    server = serve(work_seconds=20.0)
    await ready(server)
    acknowledged = await send(server)
    await until(lambda: attempts(server) > 0)
    server.signal(signal.SIGTERM)
    await draining(server)
    server.signal(signal.SIGKILL)
    assert await server.ended(10) == -signal.SIGKILL
    again = serve()
    await all_over(again)
    again.signal(signal.SIGTERM)
    assert await again.ended(STOP_SECONDS) == 0
    found = judge(server.store, server.ledger, acknowledged)
    assert (found.faults, found.completed) == ([], EVENTS)


async def test_sigterm_is_heard_after_ray_was_replaced_in_the_same_process(serve: Serve) -> None:
    server = serve()
    await ready(server)
    acknowledged = await send(server)
    before = raylets(server)
    kill_all(before)
    assert await came(lambda: bool(raylets(server) - before), READY_SECONDS), server.last_words()
    acknowledged |= await send(server, first=EVENTS)
    await all_over(server)  # so its new workers are up
    server.signal(signal.SIGTERM)
    assert await server.ended(STOP_SECONDS) == 0
    assert judge(server.store, server.ledger, acknowledged).faults == []


async def test_a_rolling_restart_waits_its_turn_loses_nothing_and_repeats_nothing(serve: Serve) -> None:
    old = serve(work_seconds=0.5)
    await ready(old)
    acknowledged = await send(old)
    early = serve()
    assert await early.ended(STOP_SECONDS) == 2
    assert f"is in use by `ensue serve` (pid {old.pid})" in " ".join(early.last_words().split())
    old.signal(signal.SIGTERM)
    new = serve()

    async def is_up() -> bool:
        if new.pid == 0:  # refused: an init system starts it again
            new.start()
        return await is_ready(new.port)

    assert await came(is_up, READY_SECONDS, poll_seconds=0.2), new.last_words()
    assert await old.ended(STOP_SECONDS) == 0
    acknowledged |= await send(new, first=EVENTS)
    await all_over(new)
    new.signal(signal.SIGTERM)
    assert await new.ended(STOP_SECONDS) == 0
    found = judge(new.store, new.ledger, acknowledged)
    assert (found.faults, found.completed, found.outside_repeated) == ([], 2 * EVENTS, 0)
