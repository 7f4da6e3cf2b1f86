"""An embedded Ray that is killed under a running engine: another one takes its place, in the same process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import EngineProcess, Start, alive, descendants, engines, statuses, wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "hold").touch()
    with engines(tmp_path) as begin:
        yield begin


def half_done(engine: EngineProcess) -> EngineProcess:
    """Wait until the even ones of its ten runs are over, and the odd ones held."""
    engine.expect(lambda: sum("second" in line for line in engine.lines()) == 10)
    wait_until(lambda: statuses(engine.folder).get(3) == 5, explain=engine.output.read_text)
    return engine


def process_named(family: set[int], name: str) -> int:
    """The process of this program."""
    return next(pid for pid in family if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0])


@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_lost_ray_is_replaced_in_the_same_process_and_no_run_is_lost_or_charged(
    start: Start, tmp_path: Path, victim: str
) -> None:
    engine = half_done(start("emit", "10", "wait"))
    workers = {int(line.split()[-1]) for line in engine.lines() if "second" in line}
    family = descendants(engine.process.pid)
    lost = process_named(family, victim)
    engine.signal(lost)
    engine.expect(lambda: sum("second" in line for line in engine.lines()) == 15)
    (tmp_path / "hold").unlink()
    wait_until(lambda: statuses(tmp_path) == {3: 10}, explain=engine.output.read_text)
    assert all("attempt 1" in line for line in engine.lines() if "second" in line)
    assert engine.said("Ray was lost")
    assert engine.process.poll() is None
    assert not alive(workers | {lost})


def test_a_process_that_cannot_start_ray_again_ends_after_three_tries_and_the_next_one_goes_on(
    start: Start, tmp_path: Path
) -> None:
    engine = half_done(start("emit", "10", "wait", "unmendable"))
    family = descendants(engine.process.pid)
    engine.signal(process_named(family, "raylet"))
    assert engine.process.wait(90) == os.EX_UNAVAILABLE, engine.output.read_text()
    assert engine.output.read_text().count("the test wants it so") == 3
    assert engine.said("the log has all that was accepted")
    wait_until(lambda: not alive(family))
    assert statuses(tmp_path)[3] == 5
    (tmp_path / "hold").unlink()
    start().expect(lambda: statuses(tmp_path) == {3: 10})
