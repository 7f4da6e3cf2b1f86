"""The small costs: the codec, `decide`, `import ensue`, and a run that waits in the partition's memory."""

import gc
import subprocess
import sys
import time
from collections.abc import Callable

from ensue.events.decide.inputs import Completed, CompletionKind, Input
from ensue.events.model.codec import decode, encode
from ensue.events.state.new_records import event_record
from ensue.events.state.records import pack_records, unpack_records

from ..core_drive import CoreDrive
from ..figures import Figure, Settings, spread
from ..pipelines import LOADS, Placed
from ..processes import rss_bytes
from ..words import SMALL

__all__ = ["measure_codec", "measure_decide", "measure_import", "measure_waiting"]

_EVENTS_PER_RUN = 4
_REPEATS = 5
_HOUR_SECONDS = 3_600.0
_IMPORT = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"


def measure_codec(settings: Settings) -> list[Figure]:
    """Microseconds an event, for encoding and decoding."""
    event = LOADS["W1"].event(1)
    data = encode(event)
    record = event_record(bytes(16), "Placed", 1, data, None, bytes(16), 1, 0, 1_767_225_600_000_000, many=False)
    body = pack_records([record])
    count = settings.size(50_000, 10_000)
    costs: dict[str, Callable[[], object]] = {
        "codec: encode an event": lambda: encode(event),
        "codec: decode and validate an event": lambda: decode(Placed, data, 1),
        "codec: pack an event's record": lambda: pack_records([record]),
        "codec: unpack an event's record": lambda: unpack_records(body),
    }
    figures = [
        spread(what, (SMALL, what, "none", "us"), [_cost_us(call, count) for _ in range(_REPEATS)])
        for what, call in costs.items()
    ]
    return [*figures, Figure("payload", SMALL, "W1's event, packed", "none", "bytes", len(data))]


def _cost_us(call: Callable[[], object], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count * 1e6


def measure_decide(settings: Settings) -> list[Figure]:
    """Microseconds of `decide` an event of W1 (four events a run), by how many runs are in flight."""
    figures: list[Figure] = []
    count = settings.size(20_000, 4_000)
    for in_flight in (1, 16, 256, 2_000):
        costs = [_decide_us(count if in_flight > 1 else count // 4, in_flight) for _ in range(3)]
        what = f"decide: an event of W1, {in_flight:,} in flight"
        figures.append(spread(f"decide.{in_flight}", (SMALL, what, "none", "us"), costs))
    return figures


def _decide_us(count: int, in_flight: int) -> float:
    drive = CoreDrive()
    drive.run(count, in_flight)
    return drive.seconds / (count * _EVENTS_PER_RUN) * 1e6


def measure_waiting(settings: Settings) -> list[Figure]:
    """Bytes of a run of W1 whose first step failed and waits an hour for its next attempt."""
    count = settings.size(100_000, 20_000)
    drive = CoreDrive()
    drive.run(1_000, 500)
    gc.collect()
    before = rss_bytes()
    for _ in range(count // 500):
        decision = drive.turn([*drive.emits(500)])
        failed: list[Input] = [
            Completed(
                d.worker,
                [[CompletionKind.FAIL, item[0], "transient", "E", "no", "", _HOUR_SECONDS, False] for item in d.items],
            )
            for d in decision.deliver
        ]
        del decision
        drive.turn(failed)
    gc.collect()
    alive = len(drive.decider.state.runs)
    if alive != count or drive.decider.backlog:
        raise RuntimeError(f"{alive:,} runs wait, not {count:,}")
    kib = (rss_bytes() - before) / alive / 1024
    return [Figure("waiting", SMALL, f"memory of a waiting run ({alive:,} wait)", "none", "KiB", kib)]


def measure_import(settings: Settings) -> list[Figure]:
    """Seconds in a new interpreter: the best of several, since the first one reads the disk."""
    times = settings.size(7, 5)
    ways = {
        "import ensue": "import ensue",
        "import ensue, and its engine": "import ensue; ensue.Engine",
    }
    figures: list[Figure] = []
    for what, statement in ways.items():
        seconds = [_import_seconds(statement) for _ in range(times)]
        figures.append(Figure(what, SMALL, f"{what} (best of {times})", "none", "s", min(seconds)))
    return figures


def _import_seconds(statement: str) -> float:
    command = [sys.executable, "-c", _IMPORT.format(statement)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
