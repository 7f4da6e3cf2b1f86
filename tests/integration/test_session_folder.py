"""The folder of a Ray session: private, and removed with its session alone."""

import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensue.cluster.ray.folder import SessionFolder

from ..child_process import spawned


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_folder_whose_session_has_died_is_swept_by_the_next_and_a_living_one_is_not(base: Path) -> None:
    dead = base / "ensue-00000000"
    dead.mkdir()
    (dead / "lock").touch()
    living = SessionFolder.create()
    next_one = SessionFolder.create()
    assert sorted(base.iterdir()) == sorted([living.path, next_one.path])
    living.remove()
    next_one.remove()
    assert list(base.iterdir()) == []


@pytest.mark.usefixtures("base")
def test_modes_do_not_depend_on_the_umask() -> None:
    before = os.umask(0)
    try:
        folder = SessionFolder.create()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.token.stat().st_mode) == 0o600
    folder.remove()


@pytest.mark.usefixtures("base")
def test_the_watchdog_kills_what_has_a_file_of_ray_open_and_spares_every_other_process() -> None:
    folder = SessionFolder.create()
    with (
        (folder.ray / "log").open("w") as log,
        (folder.path / "other").open("w") as other,
        spawned(["sleep", "60"], stdout=log) as left,
        spawned(["sleep", "60"], stdout=other) as stranger,
    ):
        folder.remove()
        assert left.wait(10) == -signal.SIGKILL
        assert stranger.poll() is None
