"""W1 as one would write it on Ray: three actors, called one after another by the driver, nothing durable.

Rules: the same Ray, the same payload, the same event loop and the same clients as W1 on ensue.
"""

from dataclasses import dataclass
from statistics import median
from typing import Any

import uvloop

from ensue.cluster.ray import session as ray_session

from ..figures import Figure, Settings, percentile, spread
from ..loads import alone, closed_loop
from ..pipelines import PAYLOAD
from ..words import W1

__all__ = ["measure"]


@dataclass(frozen=True, slots=True)
class Order:
    """What is passed from actor to actor."""

    order_id: int
    amount: float
    payload: str


class Step:
    """A step that does nothing."""

    def run(self, order: Order) -> Order:
        """Pass the order on, as a new object."""
        return Order(order.order_id, order.amount, order.payload)


def measure(settings: Settings) -> list[Figure]:
    """W1 on bare Ray."""
    session = ray_session.start()
    try:
        ray: Any = ray_session.ray_module()
        actor = ray.remote(num_cpus=0)(Step)
        return uvloop.run(_measure(settings, [actor.remote() for _ in range(3)]))
    finally:
        ray_session.stop(session)


async def _measure(settings: Settings, actors: list[Any]) -> list[Figure]:
    async def run(number: int) -> None:
        order = Order(number, 9.5, PAYLOAD)
        for actor in actors:
            order = await actor.run.remote(order)

    seconds = await alone(run, settings)
    figures = [
        Figure(f"naive.alone.p{share}", W1, f"one after another, p{share}", "none", "ms", value * 1e3)
        for share, value in ((50, percentile(seconds, 50)), (99, percentile(seconds, 99)))
    ]
    for in_flight in (16, 256):
        rates = [await closed_loop(run, settings.size(2_000, 500), in_flight) for _ in range(settings.size(3, 1))]
        what = f"{in_flight} in flight"
        figures.append(spread(f"naive.{in_flight}", (W1, what, "none", "runs/s"), rates))
        figures.append(spread(f"naive.{in_flight}.steps", (W1, what, "none", "steps/s"), [median(rates) * 3]))
    return figures
