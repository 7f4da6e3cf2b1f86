"""WfCommons replay: a graph that is known only at run time, replayed with its own durations.

    python examples/wfcommons_replay.py path/to/trace.json 100      # a hundred times as fast as recorded

The trace of a scientific workflow (WfInstances, schema 1.5) names tasks, their parents and how long each of them took.
Its graph is data, so it is not in the signatures: `go_on` reads from the log which tasks of this run are done, and
releases those whose last parent has just finished. The log has one order, so each task has exactly one last parent.
"""
# ruff: noqa: D101 - the name and the fields of an event say what it is

import asyncio
import json
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from ensue import Context, Engine, Event, Outcome, Pipeline


class Task(BaseModel):
    id: str
    parents: list[str]
    seconds: float


class TraceGiven(Event):
    tasks: list[Task]


class TaskReady(Event):
    task: str
    seconds: float


class TaskDone(Event):
    task: str


class Replayed(Event):
    tasks: int


replay = Pipeline("wfcommons-replay", description="The tasks of a trace, each when its parents are done")


@replay.step
def begin(trace: TraceGiven) -> list[TaskReady]:
    return [TaskReady(task=task.id, seconds=task.seconds) for task in trace.tasks if not task.parents]


@replay.step(replicas=2, timeout=3600)
async def work(ready: TaskReady) -> TaskDone:
    await asyncio.sleep(ready.seconds)
    return TaskDone(task=ready.task)


@replay.step
def go_on(done: TaskDone, ctx: Context) -> list[TaskReady] | Replayed:
    tasks = ctx.events(TraceGiven)[0].tasks
    order = [event.task for event in ctx.events(TaskDone)]
    until_now = set(order[: order.index(done.task) + 1])
    if len(until_now) == len(tasks):
        return Replayed(tasks=len(tasks))
    return [
        TaskReady(task=task.id, seconds=task.seconds)
        for task in tasks
        if done.task in task.parents and until_now.issuperset(task.parents)
    ]


def read_trace(path: Path, speed: float) -> TraceGiven:
    """The tasks of a trace, with run times divided by `speed`."""
    workflow = json.loads(path.read_text())["workflow"]
    seconds = {task["id"]: float(task["runtimeInSeconds"] or 0) for task in workflow["execution"]["tasks"]}
    tasks = workflow["specification"]["tasks"]
    return TraceGiven(
        tasks=[
            Task(id=task["id"], parents=task["parents"], seconds=seconds.get(task["id"], 0.0) / speed) for task in tasks
        ]
    )


def critical_seconds(trace: TraceGiven) -> float:
    """The shortest possible time: that of the longest path from a root to a leaf."""
    left = {task.id: task for task in trace.tasks}
    finish: dict[str, float] = {}
    while left:
        free = [task for task in left.values() if finish.keys() >= set(task.parents)]
        if not free:
            sys.exit("the trace has a circle: " + ", ".join(left))
        for task in free:
            finish[task.id] = task.seconds + max((finish[parent] for parent in task.parents), default=0.0)
            del left[task.id]
    return max(finish.values(), default=0.0)


async def main(path: Path, speed: float) -> Outcome:
    trace = read_trace(path, speed)
    async with Engine(replay, store="memory://") as engine:
        started = time.perf_counter()
        outcome = await (await engine.emit(trace)).result()
        took = time.perf_counter() - started
    print(f"{outcome.status}: {outcome.event!r}")
    print(f"one after another: {sum(task.seconds for task in trace.tasks):7.2f} s")
    print(f"at the least:      {critical_seconds(trace):7.2f} s, the longest way through the graph")
    print(f"it took:           {took:7.2f} s")
    return outcome


if __name__ == "__main__":
    if not 1 < len(sys.argv) <= 3:  # noqa: PLR2004 - the program, a path and perhaps a speed
        sys.exit("usage: python examples/wfcommons_replay.py path/to/trace.json [times as fast: 100]")
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 100.0))  # noqa: PLR2004 - as above
