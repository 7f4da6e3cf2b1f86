"""An engine in a process of its own that commits as fast as it can, for tests that stop it and take its store: STORE.

Prints the number of each event that was accepted, and at its end `ended: ` with what ended it.
"""

import asyncio
import sys

from ensue import Event, Pipeline
from ensue.actors.local import LocalEngine
from ensue.events.errors import EnsueError

flow = Pipeline("fenced")


class Order(Event):
    n: int


class Item(Event):
    n: int


@flow.step
def work(event: Order) -> Item:
    return Item(n=event.n)


async def main(store: str) -> None:
    async with LocalEngine(flow, store=store) as engine:
        n = 0
        while True:
            try:
                await engine.emit(Order(n=n))
            except EnsueError as error:
                print(f"ended: {type(error).__name__}: {error}", flush=True)  # noqa: T201
                return
            print(n, flush=True)  # noqa: T201
            n += 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
