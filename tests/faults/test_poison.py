"""One event in sixty is poison, of every kind: it fails after its attempts, and all others come to their end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .poison import POISONS
from .poisoning import poisoned

pytestmark = pytest.mark.timeout(180)


def test_poison_fails_after_its_attempts_and_harms_nothing_else(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    clean, load = tmp_path / "clean", tmp_path / "poisoned"
    clean.mkdir()
    load.mkdir()
    without = poisoned(clean, events=300, each=0)
    found = poisoned(load, events=300, each=1)
    rates = without.healthy_a_second, found.healthy_a_second
    what = f"healthy events a second, steps of {found.work_seconds * 1000:g} ms"
    record_property("figures", f"{what}: {rates[0]:.0f}, beside poison {rates[1]:.0f}")
    assert without.harmed == []
    assert sorted(found.poisons.values()) == sorted(POISONS)
    assert found.harmed == []
    assert found.survived == {}
    assert all(1 < found.attempts[sender_id] <= 3 for sender_id in found.poisons)
