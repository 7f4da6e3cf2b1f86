"""The zoo: small pipelines that between them have every shape a pipeline can have, for the simulator."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator

from ensue import Breaker, BreakerOpened, Context, Event, GiveUp, Pipeline, Retry, StepFailed
from ensue.testing import Faults

__all__ = ["FRAIL", "HARD", "OPERATED", "ZOO", "Animal"]

OPERATED = Faults(cancelled=0.15, redriven=0.3, retried=0.3)
"""Operators are at work too."""
HARD = Faults(
    crash_before_commit=0.02,
    crash_after_commit=0.02,
    lost=0.08,
    doubled=0.08,
    delayed=0.1,
    reordered=0.1,
    worker_death=0.05,
    slow=0.1,
    hung=0.03,
    crash=0.1,
    takeover=0.1,
    clock_jump=0.2,
    cancelled=0.2,
    redriven=0.5,
    retried=0.5,
)
"""So many faults that little gets done: this finds what takes several faults at once."""


FRAIL = Faults(worker_death=0.8, crash=0.05, redriven=0.3)
"""Hardly a worker gets anything done: supervisors escalate, and pipelines are given up."""


class Order(Event, key="customer"):
    """The trigger."""

    customer: str
    items: int
    n: int = 0


class Item(Event):
    """One of a fan-out."""

    n: int


class Priced(Event):
    """An item with its price."""

    n: int


class Total(Event, key="customer"):
    """All of a fan-out."""

    customer: str
    n: int


class Booked(Event):
    """The end."""

    n: int


class Left(Event):
    """A side of a join."""

    n: int


class Right(Event):
    """The other side of a join."""

    n: int


class Joined(Event):
    """Both sides."""

    n: int


class Noted(Event):
    """A failure that was handled."""

    step: str


def _flips(share: float) -> bool:
    """Whether something goes wrong now; the simulator seeds what `random` draws."""
    return random.random() < share  # noqa: S311


def _fan() -> Pipeline:
    """A fan-out, gathered, and a keyed step behind it."""
    p = Pipeline("fan")

    @p.step(replicas=2)
    def split(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.items)]

    @p.step(replicas=2, concurrency=2)
    async def price(event: Item) -> Priced:
        await asyncio.sleep(0.01 * (event.n % 3))
        return Priced(n=event.n)

    @p.step
    def gather(prices: list[Priced]) -> Total:
        return Total(customer="ab"[len(prices) % 2], n=len(prices))

    @p.step(replicas=2)
    async def book(event: Total) -> Booked:
        return Booked(n=event.n)

    return p


def _join() -> Pipeline:
    """A join inside a fan-out."""
    p = Pipeline("join")

    @p.step
    def split(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.items)]

    @p.step(replicas=2)
    def left(event: Item) -> Left:
        return Left(n=event.n)

    @p.step
    async def right(event: Item) -> Right:
        return Right(n=event.n)

    @p.step
    def join(one: Left, other: Right) -> Joined:
        assert one.n == other.n
        return Joined(n=one.n)

    @p.step
    def total(joined: list[Joined]) -> Booked:
        return Booked(n=len(joined))

    return p


def _streams() -> Pipeline:
    """Generators of both kinds, and a step that is a class."""
    p = Pipeline("streams")

    @p.step(replicas=2)
    def read(event: Order) -> Iterator[Item]:
        for n in range(event.items * 3):
            yield Item(n=n)

    @p.step(concurrency=4)
    async def walk(event: Order) -> AsyncIterator[Left]:
        for n in range(event.items):
            await asyncio.sleep(0.005)
            yield Left(n=n)

    @p.step(replicas=2)
    class Price:
        def __init__(self) -> None:
            self.seen = 0

        def __call__(self, event: Item, ctx: Context) -> Priced:
            self.seen += 1
            ctx.progress(self.seen, 10)
            return Priced(n=event.n)

    @p.step
    def gather(prices: list[Priced]) -> Total:
        assert sorted(price.n for price in prices) == list(range(len(prices)))
        return Total(customer="a", n=len(prices))

    return p


def _errors() -> Pipeline:
    """Steps that fail sometimes, give up, or never work, and their handlers."""
    p = Pipeline("errors")

    @p.step(retry=Retry(attempts=8, wait=0.5), replicas=2)
    async def charge(event: Order, ctx: Context) -> Item | None:
        if ctx.attempt < event.n % 4:
            raise ConnectionError("no answer")
        if event.n % 5 == 4:
            raise GiveUp("declined")
        return Item(n=event.n)

    @p.step(retry=Retry(attempts=3), timeout=5)
    def ship(event: Item) -> Priced:
        if event.n % 7 == 6:
            raise ValueError("no such item")
        return Priced(n=event.n)

    @p.on_error(charge)
    def note(event: StepFailed) -> Noted:
        return Noted(step=event.step)

    return p


def _keys() -> Pipeline:
    """A chain of keyed steps, quick and slow."""
    p = Pipeline("keys")

    @p.step(replicas=3)
    async def take(event: Order) -> list[Total]:
        await asyncio.sleep(0.02)
        return [Total(customer=event.customer, n=n) for n in range(event.items)]

    @p.step(replicas=2, concurrency=3)
    async def book(event: Total) -> Booked:
        await asyncio.sleep(0.01)
        return Booked(n=event.n)

    @p.step(retry=Retry(attempts=4, wait=0.1))
    def count(event: Total, ctx: Context) -> Noted | None:
        if event.n == 1 and ctx.attempt == 1:
            raise TimeoutError("busy")
        return Noted(step=event.customer) if event.n % 2 else None

    return p


def _saga() -> Pipeline:  # noqa: C901 - eight steps, each of two lines
    """Steps that are compensated if a later one gives up, one only after an operator's decision; and a pivot."""
    p = Pipeline("saga")
    quick = Retry(attempts=3, wait=0.2)

    @p.step(replicas=2)
    async def reserve(event: Order) -> list[Item]:
        return [Item(n=event.n * 10 + n) for n in range(event.items)]

    @p.step(replicas=2, retry=quick)
    async def pack(event: Item) -> Priced:
        await asyncio.sleep(0.01)
        if event.n % 23 == 22:
            raise GiveUp("broken")
        return Priced(n=event.n)

    @p.step
    def sign(prices: list[Priced]) -> Total:
        return Total(customer="a", n=len(prices))

    @p.step(pivot=True, retry=quick)
    def send(event: Total) -> Booked:
        if event.n == 3:
            raise GiveUp("no address")
        return Booked(n=event.n)

    @p.step(retry=quick)
    def thank(event: Booked) -> None:
        if event.n == 4:
            raise GiveUp("no voice")

    @p.compensate(reserve)
    async def unreserve(event: Order) -> None:
        await asyncio.sleep(0.01)

    @p.compensate(pack, retry=quick)
    def unpack(event: Item, ctx: Context) -> None:
        if event.n % 4 == 1 and _flips(0.5):
            raise ConnectionError("busy")

    @p.compensate(sign)
    def tear(prices: list[Priced]) -> None:
        pass

    return p


def _breakers() -> Pipeline:
    """Three steps, one a generator, call a dependency with outages; a step handles the opening of its breaker."""
    p = Pipeline("breakers")
    bank = Breaker(name="bank", failures_in_row=3, open_seconds=5, max_open_seconds=20, min_calls=4, probes=2)

    @p.step(breaker=bank, retry=Retry(attempts=12, wait=0.2), replicas=2)
    async def charge(event: Order, ctx: Context) -> Item:
        await asyncio.sleep(0.01)
        if _flips(0.4):
            raise ConnectionError("the bank is away")
        return Item(n=event.n)

    @p.step(breaker="bank", retry=Retry(attempts=12, wait=0.2))
    def confirm(event: Item) -> Booked:
        if _flips(0.3):
            raise TimeoutError("the bank is slow")
        return Booked(n=event.n)

    @p.step(breaker="bank", retry=Retry(attempts=12, wait=0.2))
    async def itemise(event: Booked) -> AsyncIterator[Priced]:
        for n in range(3):
            if _flips(0.2):
                raise ConnectionError("the bank has hung up")
            yield Priced(n=n)
            await asyncio.sleep(0.3)

    @p.step
    def alarm(event: BreakerOpened) -> Noted:
        return Noted(step=event.step)

    return p


class Animal:
    """A pipeline of the zoo, and its events."""

    def __init__(self, make: Callable[[], Pipeline], count: int) -> None:
        self.pipeline = make()
        self.name = self.pipeline.name
        self._count = count

    def feed(self, dice: random.Random) -> list[Event]:
        """Its events for one seed."""
        return [
            Order(customer=dice.choice("abc"), items=dice.randrange(5), n=dice.randrange(20))
            for _ in range(self._count)
        ]


_CAGES = (
    (_fan, 12),
    (_join, 8),
    (_streams, 8),
    (_errors, 20),
    (_keys, 16),
    (_saga, 12),
    (_breakers, 16),
)
ZOO = tuple(Animal(make, count) for make, count in _CAGES)
