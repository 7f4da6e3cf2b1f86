"""An engine in a process of its own, for tests that kill it: FOLDER [emit N] [address HOST:PORT] [wait] [unmendable].

Two steps: `first` notes that it ran; `second` notes it too and waits while the file `hold` exists. The program prints
`ready` when the engine is up, `emitted` when N runs are accepted, and `done` when no run is left. With `unmendable`, a
Ray that is lost cannot be started again.
"""

import asyncio
import os
import sys
from pathlib import Path

from ensue import Context, Engine, Event, Pipeline
from ensue.cluster.ray import session as ray_session
from ensue.events.errors import RayUnavailable

FOLDER = Path(sys.argv[1])
flow = Pipeline("program")


class Order(Event):
    n: int


class Item(Event):
    n: int


class Done(Event):
    n: int


def note(text: str) -> None:
    number = os.open(FOLDER / "trace.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(number, f"{text}\n".encode())
    os.close(number)


@flow.step
def first(event: Order) -> Item:
    note(f"first {event.n}")
    return Item(n=event.n)


@flow.step
async def second(event: Item, ctx: Context) -> Done:
    note(f"second {event.n} attempt {ctx.attempt} pid {os.getpid()}")
    while event.n % 2 and (FOLDER / "hold").exists():  # noqa: ASYNC110 - another process lets it go
        await asyncio.sleep(0.02)
    return Done(n=event.n)


def option(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def refuse(session: ray_session.Session) -> ray_session.Session:
    raise RayUnavailable(f"{session.address} cannot be replaced: the test wants it so")


async def main() -> None:
    if "unmendable" in sys.argv:
        ray_session.renew = refuse
    store = f"sqlite:///{FOLDER / 'ensue.db'}"
    async with Engine(flow, store=store, address=option("address"), num_cpus=2) as engine:
        print("ready", flush=True)  # noqa: T201
        count = int(option("emit") or 0)
        await engine.emit_many([Order(n=n) for n in range(count)])
        print("emitted", flush=True)  # noqa: T201
        reader = engine.reader()
        while "wait" in sys.argv or any(status in (1, 2) for _, status in reader.counts()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
        print("done", flush=True)  # noqa: T201
    print("left", flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)  # noqa: T201
        sys.exit(130)
