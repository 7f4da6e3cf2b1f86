"""Picture: a state as plain data, to compare two states and to describe a run that does not end.

Rules: what time alone changes is left out (a retry that is due counts as ready), and so is what a restart forgets on
purpose: a delivery that was with a worker waits for one again, and of two deliveries of one commit either may be first
of its key.
"""

from typing import Any

from ...events.state.state import Delivery, DeliveryStatus, Ref, Run, State

__all__ = ["difference", "pending"]

_ENDED = (DeliveryStatus.FAILED, DeliveryStatus.OVER)


def difference(live: State, replayed: State) -> str:
    """The first difference between the state in memory and the one from the log; empty if they agree."""
    for run_id in sorted(live.runs.keys() | replayed.runs.keys()):
        one, other = live.runs.get(run_id), replayed.runs.get(run_id)
        if one is None or other is None:
            where = "memory" if other is None else "the log"
            return f"run {run_id.hex()} is live only in {where}"
        pictures = _run(one), _run(other)
        for name, value in pictures[0].items():
            if value != pictures[1][name]:
                return f"run {run_id.hex()}, {name}: {value} in memory, {pictures[1][name]} from the log"
    queues = _queues(live), _queues(replayed)
    return "" if queues[0] == queues[1] else f"keys: {queues[0]} in memory, {queues[1]} from the log"


def pending(state: State) -> list[str]:
    """What is unfinished, a line for each delivery."""
    lines: list[str] = []
    for run in state.runs.values():
        lines.append(f"run {run.run_id.hex()} is {run.status.wire}, {run.phase.name}")
        lines += [
            f"  {d.step.name} #{d.number}: {d.status.name}, attempt {d.attempt}, {d.emitted} emitted"
            for d in run.deliveries.values()
        ]
    return lines


def _run(run: Run) -> dict[str, Any]:
    left = [[number, registered.step.name] for number, registered in (run.compensations or {}).items()]
    return {
        "number": run.number,
        "serial": run.serial,
        "phase": run.phase.name,
        "dead": run.dead,
        "life": [run.pivoted, run.cancelling, run.size_bytes],
        "deliveries": {number: _delivery(d) for number, d in sorted(run.deliveries.items())},
        "joins": {index: [_side(side) for side in join] for index, join in (run.joins or {}).items()},
        "results": [ref.event_id.hex() for ref in run.results or ()],
        "errors": [[error.step, error.failure.error, error.delivery, error.handled] for error in run.errors or ()],
        "compensations": left,
        "compensating": run.compensating.number if run.compensating else None,
    }


def _delivery(d: Delivery) -> list[Any]:
    status = d.status.name if d.status in _ENDED else "ALIVE"
    return [d.step.name, [_value(v) for v in d.inputs], d.key, status, d.attempt, d.crashes, d.emitted, d.redrives]


def _side(side: Any) -> list[Any]:
    return sorted(_value(value) for queue in side.values() for value in queue)


def _value(value: Ref | list[Ref]) -> str:
    return value.event_id.hex() if isinstance(value, Ref) else ",".join(ref.event_id.hex() for ref in value)


def _queues(state: State) -> list[Any]:
    """The deliveries that wait for each key; a run that has halted has released it, or will at a restart."""
    waiting = {
        name: sorted((d.run.run_id, d.number) for d in queue if not d.run.phase)
        for name, queue in state.key_queues.items()
    }
    return sorted([*name, places] for name, places in waiting.items() if places)
