"""Bug 3: the database restarts while an engine recovers, and its work is never resumed.

Seen: DBOS 716, 546: the recovery thread lost its connection once, ended, and was not restarted.

Mutant: `except LogUnavailable` of `PartitionThread._serve` (actors/partition/thread.py) returns after `_on_failure`;
tried 2026-11-21: red (under Ray).
Mutant: `resume_delivery` (events/decide/resuming.py) returns where a delivery is LEASED; tried 2026-11-21: red (all).
Mutant: `recover` (actors/partition/recovery.py) reads nothing instead of `log.live(after)`; tried 2026-11-21: red
(all).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ensue import Engine, Event, Pipeline
from ensue.actors import local
from ensue.actors.local import LocalEngine
from ensue.cluster.log.open import open_log
from ensue.events.errors import EnsueError, LogUnavailable

from ..conformance.engines import ON_RAY, Rig, Trace, until

pytestmark = pytest.mark.timeout(120)
RUNS = 5


class Order(Event):
    n: int


class Item(Event):
    n: int


class Restarting:
    """A log whose database is away: from the call of `goes_at` on, as often as `times` says, each call raises."""

    def __init__(self, log: Any, goes_at: str, times: int = 1) -> None:
        self.goes_at = goes_at
        self.left = times
        self.raised = 0
        self._log = log
        self._away = False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._log, name)
        return self._watched(name, value) if callable(value) and name not in ("close", "reader") else value

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._away = self._away or name == self.goes_at
            if self._away and self.left:
                self.left -= 1
                self.raised += 1
                raise LogUnavailable("the database is restarting")
            return method(*arguments)

        return call


def held_up(trace: Trace) -> Pipeline:
    """Its step begins and does not end, until `go on` is in the trace."""
    flow = Pipeline("held-up")

    @flow.step
    async def work(event: Order) -> Item:
        trace.note(f"begins {event.n}")
        await until(lambda: "go on" in trace.lines)
        return Item(n=event.n)

    return flow


def begun(trace: Trace) -> int:
    return len({line for line in trace.lines if line.startswith("begins")})


async def start_and_emit(engine: LocalEngine) -> None:
    await engine.start()
    await engine.idle()  # what it resumed is committed in its first turn
    await engine.emit(Order(n=RUNS))


@pytest.mark.parametrize(
    "call", ["acquire", "define", "snapshots", "live", "live_runs", "facts", "next_offset", "commit"]
)
async def test_a_start_that_the_database_broke_off_strands_nothing_for_the_next(
    tmp_path: Path, trace: Trace, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    flow, store = held_up(trace), f"sqlite:///{tmp_path / 'ensue.db'}"
    first = LocalEngine(flow, store=store)
    await first.start()
    ids = [run.id for run in await first.emit_many([Order(n=n) for n in range(RUNS)])]
    await until(lambda: begun(trace) == RUNS)
    first.crash()
    trace.note("go on")
    broken: list[Restarting] = []

    def opened(url: str) -> Any:
        broken.append(Restarting(open_log(url), call, times=0 if broken else 1))
        return broken[-1]

    monkeypatch.setattr(local, "open_log", opened)
    second = LocalEngine(flow, store=store)
    with pytest.raises(EnsueError, match="the database is restarting"):
        await start_and_emit(second)
    assert broken[0].raised == 1
    if second.state() != "new":
        second.crash()
    broken[0].close()
    async with LocalEngine(flow, store=store) as third:
        outcomes = [await (await third.run(run_id)).result(30) for run_id in ids]
    assert [outcome.events for outcome in outcomes] == [[Item(n=n)] for n in range(RUNS)]


@ON_RAY
async def test_an_engine_whose_database_goes_away_again_in_its_recovery_tries_until_all_runs_end(
    rig: Rig, trace: Trace
) -> None:
    engine = await rig.start(held_up(trace))
    assert isinstance(engine, Engine)
    runs = await engine.emit_many([Order(n=n) for n in range(RUNS)])
    await until(lambda: begun(trace) == RUNS)
    away: Any = Restarting(engine._log.log, "live", times=3)
    engine._log.log = away
    going: Any = Restarting(away, "commit")
    assert engine._runner is not None
    engine._runner.partition._log = going
    with pytest.raises(LogUnavailable, match="the database is restarting"):
        await engine.emit(Order(n=RUNS))
    trace.note("go on")
    outcomes = [await run.result(60) for run in runs]
    assert [outcome.events for outcome in outcomes] == [[Item(n=n)] for n in range(RUNS)]
    assert away.raised == 3
    await until(lambda: engine.state() == "ready")
    assert (await (await engine.emit(Order(n=7))).result(30)).events == [Item(n=7)]
