"""A pipeline that some events are poison to: they raise, hang, end the process, crash it, or want too much memory.

All others must come to their end; the harness measures how much slower.
"""

import ctypes
import os
import time

from ensue import Event, Pipeline, Retry

POISONS = ("raise", "hang", "exit", "segfault", "memory")
PATIENCE = Retry(attempts=3, wait=0.05)
MIB = 1024 * 1024

flow = Pipeline("poison")


class Order(Event):
    n: int
    poison: str = ""
    work_seconds: float = 0.001


class Checked(Event):
    n: int
    poison: str
    work_seconds: float


class Closed(Event):
    n: int


@flow.step
async def check(order: Order) -> Checked:
    return Checked(n=order.n, poison=order.poison, work_seconds=order.work_seconds)


@flow.step(retry=PATIENCE, timeout=1.5, replicas=2, concurrency=4, memory=256 * MIB)
def swallow(checked: Checked) -> Closed:
    match checked.poison:
        case "raise":
            raise ConnectionError("poison")
        case "hang":
            time.sleep(3600)
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "memory":
            _ = bytearray(4096 * MIB)
        case _:
            time.sleep(checked.work_seconds)
    return Closed(n=checked.n)
