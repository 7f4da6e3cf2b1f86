"""The bell of a lane: a late ring does nothing, and never writes to a file that was given its number since."""

import os
from collections.abc import Iterator

import pytest

from ensue.actors.transport.zmq_lane import PartitionSocket, _Bell


class Foreign:
    """Somebody else's pipe."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()

    def take(self, end: str, number: int) -> None:
        """The system gives this number to one end of it."""
        was = getattr(self, end)
        if was != number:
            os.dup2(was, number)
            os.close(was)
            setattr(self, end, number)


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    pipe = Foreign()
    os.set_blocking(pipe.read, False)
    yield pipe
    os.close(pipe.read)
    os.close(pipe.write)


def test_a_bell_that_is_rung_after_its_end_writes_nothing_into_a_file_of_others(foreign: Foreign) -> None:
    lane = PartitionSocket()
    number = lane._bell._write
    lane.close()
    foreign.take("write", number)
    lane.wake()
    with pytest.raises(BlockingIOError):
        os.read(foreign.read, 1)


def test_a_bell_that_is_cleared_after_its_end_reads_nothing_of_a_file_of_others(foreign: Foreign) -> None:
    bell = _Bell()
    number = bell.fileno()
    bell.close()
    foreign.take("read", number)
    os.write(foreign.write, b"theirs")
    bell.clear()
    assert os.read(foreign.read, 10) == b"theirs"


def test_a_bell_does_not_end_while_it_is_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    bell = _Bell()
    write, close = os.write, os.close
    alone: list[bool] = []

    def noted_write(number: int, data: bytes) -> int:
        alone.append(bell._lock.locked())
        return write(number, data)

    def noted_close(number: int) -> None:
        alone.append(bell._lock.locked())
        close(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", noted_write)
        patch.setattr(os, "close", noted_close)
        bell.ring()
        bell.close()
        bell.close()
    assert alone == [True] * 3
