"""An embedded Ray that is killed under a running engine: another one takes its place, in the same process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ensue.cluster.stores import open_reader

from .processes import EngineProcess, alive, descendants, wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    (tmp_path / "hold").touch()
    started = EngineProcess(tmp_path, "emit", "10", "wait")
    yield started
    started.end()


def statuses(folder: Path) -> dict[int, int]:
    """How many runs have each status."""
    reader = open_reader(f"sqlite:///{folder / 'ensue.db'}")
    try:
        return {status: count for (_, status), count in reader.counts().items()}
    finally:
        reader.close()


def process_named(family: set[int], name: str) -> int:
    """The process of this program."""
    return next(pid for pid in family if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0])


@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_lost_ray_is_replaced_in_the_same_process_and_no_run_is_lost_or_charged(
    engine: EngineProcess, tmp_path: Path, victim: str
) -> None:
    engine.expect(lambda: sum("second" in line for line in engine.lines()) == 10)
    wait_until(lambda: statuses(tmp_path).get(3) == 5)  # the even ones are over, the odd ones held
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
