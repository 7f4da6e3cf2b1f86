"""simulate: runs a pipeline through the faults of one seed, and checks the result against the laws of the engine.

Rules: the same seed, pipeline and events give the same log, byte for byte, as far as the steps are deterministic. A
broken law is reported with the fewest faults and events that still break it, and with the line that replays it.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import cycle, islice
from typing import Any

from ...events.model.event import Event
from ...events.pipelines.pipeline import Pipeline
from ...events.policies.breaker import declared_breakers
from ..client.handles import Outcome, outcome_of
from ..client.run_queries import finished_run
from .faults import Fault, Faults
from .history import History, describe
from .laws.catalog import Violation, violations
from .shrink import smallest
from .world import World

__all__ = ["Faults", "SimulationFailed", "SimulationReport", "simulate"]

Generate = Callable[[random.Random], Iterable[Event]]
_MOST_RUNS = 80
_LAST_OBSERVATIONS = 12
_WITHIN_SECONDS = 86_400.0
_LAW_OF_CHECK = "check"


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """The result of one seed."""

    seed: int
    digest: str
    """A hash of all entries of the log; the same seed gives the same one."""
    events: tuple[Event, ...]
    """Those that were sent."""
    outcomes: tuple[Outcome, ...]
    """How the run of each event ended, in the order of the events."""
    statuses: Mapping[str, int]
    """How many runs ended with each status."""
    faults: Mapping[str, int]
    """How often each kind of fault happened."""
    virtual_seconds: float
    commits: int
    attempts: int
    history: History = field(repr=False, compare=False)


class SimulationFailed(AssertionError):
    """A law was broken.

    replay: the keyword arguments of `simulate` that break it again, besides the pipeline and the events.
    """

    def __init__(self, text: str, law: str, replay: Mapping[str, Any], report: SimulationReport) -> None:
        super().__init__(text)
        self.law = law
        self.replay = dict(replay)
        self.report = report


@dataclass(frozen=True, slots=True)
class _Scenario:
    """All that a simulation depends on."""

    pipeline: Pipeline
    events: tuple[Event, ...]
    seed: int
    faults: Faults
    check: Callable[[SimulationReport], object] | None
    setup: Callable[[], object] | None
    within_seconds: float


@dataclass(frozen=True, slots=True)
class _Trial:
    """One run of a scenario."""

    report: SimulationReport
    broken: list[Violation]
    faults: list[Fault]
    events: tuple[int, ...]


def simulate(
    pipeline: Pipeline,
    *events: Event | Generate,
    seed: int = 0,
    runs: int | None = None,
    faults: Faults | None = None,
    check: Callable[[SimulationReport], object] | None = None,
    setup: Callable[[], object] | None = None,
    within_seconds: float = _WITHIN_SECONDS,
    shrink: bool = True,
    keep_faults: Collection[str] | None = None,
    keep_events: Collection[int] | None = None,
) -> SimulationReport:
    """Run events through a pipeline in virtual time with faults, and check that no law is broken.

    events: events, or functions that make some from a `random.Random` of the seed.
    runs: how many events to send; by default each of them once.
    faults: what goes wrong, and how often.
    check: is given the report, and raises if something is wrong.
    setup: is called before each run, to forget what an earlier one left behind; shrinking runs it many times.
    within_seconds: how much virtual time may pass once the faults are over.
    keep_faults, keep_events: leave out all others, as the message of a failure says.

    Raises `SimulationFailed`.
    """
    __tracebackhide__ = True
    pipeline = pipeline.with_breakers(declared_breakers(step.breaker for step in pipeline.steps.values()))
    scenario = _Scenario(pipeline, _events(events, seed, runs), seed, faults or Faults(), check, setup, within_seconds)
    trial = _apart(scenario, keep_faults, keep_events)
    if not trial.broken:
        return trial.report
    if shrink:
        trial = _shrunk(scenario, trial)
    raise _failure(scenario, trial)


def _events(given: tuple[Event | Generate, ...], seed: int, runs: int | None) -> tuple[Event, ...]:
    dice = random.Random(f"{seed}/events")  # noqa: S311 - seeded on purpose
    found: list[Event] = []
    for one in given:
        found += [one] if isinstance(one, Event) else one(dice)
    return tuple(found if runs is None else islice(cycle(found), runs if found else 0))


def _apart(scenario: _Scenario, faults: Collection[str] | None, events: Collection[int] | None) -> _Trial:
    """Run a scenario in a thread of its own: the caller's may have an event loop already."""
    found: list[_Trial | BaseException] = []

    def run() -> None:
        try:
            found.append(_run(scenario, faults, events))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread of the caller
            found.append(error)

    thread = threading.Thread(target=run, name="ensue-simulation")
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _run(scenario: _Scenario, faults: Collection[str] | None, events: Collection[int] | None) -> _Trial:
    numbers = tuple(n for n in range(len(scenario.events)) if events is None or n in events)
    chosen = [(n, scenario.events[n]) for n in numbers]
    if scenario.setup is not None:
        scenario.setup()
    state = random.getstate()
    random.seed(scenario.seed)  # so steps that draw from `random` are deterministic too
    try:
        world = World(
            scenario.pipeline,
            chosen,
            scenario.faults,
            scenario.seed,
            keep=faults,
            within_seconds=scenario.within_seconds,
        )
        world.run()
    finally:
        random.setstate(state)
    report = _report(scenario, world, numbers)
    broken = violations(world.history)
    if not broken and scenario.check is not None:
        broken = _checked(scenario.check, report)
    return _Trial(report, broken, world.dice.happened, numbers)


def _checked(check: Callable[[SimulationReport], object], report: SimulationReport) -> list[Violation]:
    try:
        check(report)
    except Exception as error:  # noqa: BLE001 - the author's check may raise anything
        return [Violation(_LAW_OF_CHECK, f"{type(error).__name__}: {error}")]
    return []


def _report(scenario: _Scenario, world: World, numbers: tuple[int, ...]) -> SimulationReport:
    history = world.history
    store = history.store
    digest = blake2b(digest_size=16)
    for entry in store.entries:
        digest.update(b"%d %d %d " % (entry.offset, entry.run, entry.count))
        digest.update(entry.body)
    reader = world.reader()
    for run_id in [row.run_id for row in sorted(store.runs.values())]:
        found = finished_run(reader, history.plans, run_id)
        if found is not None:
            history.outcomes[run_id] = outcome_of(*found, scenario.pipeline.registry)
    run_ids = [world.clients.runs[n] for n in sorted(world.clients.runs)]
    return SimulationReport(
        seed=scenario.seed,
        digest=digest.hexdigest(),
        events=tuple(scenario.events[n] for n in numbers),
        outcomes=tuple(history.outcomes[run_id] for run_id in run_ids if run_id in history.outcomes),
        statuses=Counter(outcome.status for outcome in history.outcomes.values()),
        faults=Counter(fault.name.partition("#")[0] for fault in world.dice.happened),
        virtual_seconds=world.seconds,
        commits=len(history.commits),
        attempts=world.attempts,
        history=history,
    )


def _shrunk(scenario: _Scenario, trial: _Trial) -> _Trial:
    """The smallest trial that breaks the same law."""
    best = trial
    law = trial.broken[0].law

    def fails(faults: Collection[str], events: Collection[int]) -> bool:
        nonlocal best
        tried = _apart(scenario, faults, events)
        failed = any(violation.law == law for violation in tried.broken)
        if failed:
            best = tried
        return failed

    def fails_fairly(events: Collection[int]) -> bool:
        """A check may rely on all events: fewer are tried only if it holds for them without faults."""
        if law == _LAW_OF_CHECK and (not best.faults or _apart(scenario, (), events).broken):
            return False
        return fails(_names(best), events)

    for _ in range(2):
        smallest(_names(best), lambda faults: fails(faults, best.events), _MOST_RUNS // 2)
        smallest(best.events, fails_fairly, _MOST_RUNS // 2)
    return best


def _names(trial: _Trial) -> list[str]:
    return [fault.name for fault in trial.faults]


def _failure(scenario: _Scenario, trial: _Trial) -> SimulationFailed:
    law = trial.broken[0].law
    replay: dict[str, Any] = {"seed": scenario.seed}
    if scenario.faults != Faults():
        replay["faults"] = scenario.faults
    if scenario.within_seconds != _WITHIN_SECONDS:
        replay["within_seconds"] = scenario.within_seconds
    replay["keep_faults"] = tuple(_names(trial))
    if len(trial.events) < len(scenario.events):
        replay["keep_events"] = trial.events
    lines = [f"seed {scenario.seed} of pipeline {scenario.pipeline.name} breaks the law: {law}"]
    lines += [f"  {violation.law}: {violation.text}" for violation in trial.broken[:5]]
    options = ", ".join(f"{name}={value!r}" for name, value in replay.items())
    lines += ["replay it with", f"  simulate({_name(scenario.pipeline)}, *events, {options}, shrink=False)"]
    lines += [f"{len(trial.faults)} faults:", *(f"  {f.at:9.3f} s  {f.name}  {f.about}" for f in trial.faults[:20])]
    last = trial.report.history.observations[-_LAST_OBSERVATIONS:]
    lines += ["what was seen last:", *(f"  {describe(seen)}" for seen in last)]
    return SimulationFailed("\n".join(lines), law, replay, trial.report)


def _name(pipeline: Pipeline) -> str:
    return pipeline.name.replace("-", "_").replace(".", "_")
