"""The local engine on a SQLite store, whose crash falls where a test wants it.

`kill -9` of whole processes is in `tests/integration`.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .engines import Rig

__all__ = ["rig"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A rig that can crash and start again."""
    made = Rig("local-sqlite", tmp_path)
    yield made
    await made.stop()
