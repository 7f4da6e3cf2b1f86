"""What dead letters keep when they are decided on: their order, their key, their place in the run; on the local engines."""

from contextlib import closing

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import LocalEngine
from ensue.cluster.log import DeadFilter, DeadLetter

from .engines import SECONDS, Rig, local

__all__ = ["local"]
pytestmark = pytest.mark.timeout(60)


class Transfer(Event, key="account"):
    account: str
    n: int


def letters_of(rig: Rig, wanted: DeadFilter | None = None) -> list[DeadLetter]:
    with closing(rig.engine.reader()) as reader:
        return reader.dead(wanted or DeadFilter())


class Bank:
    """A pipeline that books transfers while it is up; `booked` says in which order."""

    def __init__(self) -> None:
        self.is_up = False
        self.booked: list[int] = []
        self.flow = Pipeline("bank")
        self.flow.step(retry=1, breaker=False)(self.book)

    async def book(self, event: Transfer) -> None:
        if not self.is_up:
            raise ConnectionError("down")
        self.booked.append(event.n)


async def failed_transfers(local: Rig, bank: Bank, count: int) -> None:
    """So many transfers of one account, all dead letters."""
    engine = await local.start(bank.flow)
    assert isinstance(engine, LocalEngine)
    for n in range(count):
        await (await engine.emit(Transfer(account="a", n=n))).result(SECONDS)
        engine.advance(1.0)
    bank.is_up = True


async def test_letters_of_one_key_are_redriven_in_the_order_of_their_events(local: Rig) -> None:
    bank = Bank()
    await failed_transfers(local, bank, 4)
    assert (await local.engine.redrive_all(DeadFilter())).redriven == 4
    await local.engine.idle()  # type: ignore[attr-defined]
    assert bank.booked == [0, 1, 2, 3]


async def test_a_limit_takes_the_newest_letters_and_the_oldest_of_them_first(local: Rig) -> None:
    bank = Bank()
    await failed_transfers(local, bank, 4)
    assert (await local.engine.redrive_all(DeadFilter(), limit=2)).redriven == 2
    await local.engine.idle()  # type: ignore[attr-defined]
    assert bank.booked == [2, 3]
