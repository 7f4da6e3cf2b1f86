"""The engine process: killed, interrupted, stopped, and restarted on the same store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import Start, alive, descendants, engines, statuses, wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with engines(tmp_path) as begin:
        yield begin


def test_after_kill_9_a_restart_completes_every_run_and_repeats_no_finished_step(start: Start, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    engine = start("emit", "60")
    engine.expect(lambda: engine.said("emitted") and sum("second" in line for line in engine.lines()) == 60)
    wait_until(lambda: statuses(tmp_path).get(3) == 30)  # the even ones are over, the odd ones held
    family = engine.kill()
    (tmp_path / "hold").unlink()
    again = start()
    again.expect(lambda: again.said("left"))
    assert statuses(tmp_path) == {3: 60}
    ran = again.lines()
    assert sorted(line for line in ran if line.startswith("first")) == sorted(f"first {n}" for n in range(60))
    assert sorted(int(line.split()[1]) for line in ran if "attempt 1" in line) == list(range(60))
    assert sorted(int(line.split()[1]) for line in ran if "attempt 2" in line) == list(range(1, 60, 2))
    wait_until(lambda: not alive(family), 20)


def test_killing_it_while_it_takes_events_in_loses_none_that_was_accepted(start: Start, tmp_path: Path) -> None:
    engine = start("emit", "3000")
    engine.expect(lambda: len(engine.lines()) > 200)
    engine.kill()
    again = start()
    again.expect(lambda: again.said("left"))
    assert statuses(tmp_path) == {3: 3000}
    assert {line.split()[1] for line in again.lines() if line.startswith("second")} == {str(n) for n in range(3000)}


def test_ctrl_c_ends_it_in_good_order_and_leaves_no_process(start: Start, tmp_path: Path) -> None:
    engine = start("emit", "4", "wait")
    engine.expect(lambda: engine.said("emitted"))
    wait_until(lambda: statuses(tmp_path) == {3: 4})
    family = descendants(engine.process.pid)
    engine.interrupt()
    assert engine.process.wait(40) == 130
    assert engine.said("interrupted")
    assert "Traceback" not in engine.output.read_text()
    wait_until(lambda: not alive(family), 20)


def test_ctrl_c_while_it_starts_leaves_no_process(start: Start) -> None:
    engine = start()
    wait_until(lambda: len(descendants(engine.process.pid)) > 2)
    family = descendants(engine.process.pid)
    engine.interrupt()
    assert engine.process.wait(60) == 130
    wait_until(lambda: not alive(family | descendants(engine.process.pid)), 20)


def test_a_second_process_on_the_store_fences_the_first_whose_workers_end(start: Start, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    first = start("emit", "4", "wait")
    first.expect(lambda: sum("second" in line for line in first.lines()) == 4)
    wait_until(lambda: statuses(tmp_path).get(3) == 2)
    workers = {int(line.split()[-1]) for line in first.lines() if "second" in line}
    second = start("wait")
    second.expect(lambda: sum("attempt 2" in line for line in second.lines()) == 2)
    (tmp_path / "hold").unlink()
    wait_until(lambda: statuses(tmp_path) == {3: 4})
    first.expect(lambda: first.said("is at epoch 2, this owner at 1: it must stop"))
    wait_until(lambda: not alive(workers), 20)
    assert first.process.poll() is None
