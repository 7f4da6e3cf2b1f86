"""Two engines on one store: the one that was stopped and wakes up after the take-over commits nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ensue.cluster.log.open import open_reader
from ensue.events.state.run_status import Status

from ..integration.processes import Start, descendants, engines, statuses
from .fencing import fence, stop_unlocked
from .server import title_of

pytestmark = pytest.mark.timeout(120)
TRIALS = 10


def test_an_engine_that_was_stopped_while_it_committed_commits_nothing_after_a_take_over(tmp_path: Path) -> None:
    found = fence(tmp_path, TRIALS, seed=1)
    assert found.wrong == []
    assert found.trials == TRIALS
    assert found.accepted > TRIALS
    assert all("StaleEpoch" in words and "it must stop" in words for words in found.last_words), found.last_words


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with engines(tmp_path) as begin:
        yield begin


def wake(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def end_of(folder: Path) -> int:
    """Where the log ends."""
    with closing(open_reader(f"sqlite:///{folder / 'ensue.db'}")) as reader:
        return reader.next_offset()


def test_a_worker_and_an_engine_on_ray_that_wake_up_after_a_take_over_change_nothing_in_the_log(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "hold").touch()
    old = start("emit", "20", "wait")
    old.expect(lambda: sum("second" in line for line in old.lines()) == 20)
    workers = [pid for pid in descendants(old.process.pid) if "ray::" in title_of(pid)]
    stop_unlocked(old.process.pid, tmp_path / "ensue.db")
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    (tmp_path / "hold").unlink()
    new = start()
    new.expect(lambda: new.said("left"))
    assert statuses(tmp_path) == {Status.COMPLETED: 20}
    end = end_of(tmp_path)
    wake(*reversed(workers), old.process.pid)
    old.expect(lambda: old.said("it must stop"))
    assert (end_of(tmp_path), statuses(tmp_path)) == (end, {Status.COMPLETED: 20})
