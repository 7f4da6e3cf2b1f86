"""Fixtures of the acceptance tests: the command line, a store with dead letters, and a served stand-in."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .cli.dead_letters import Ensue, fill_store, served, typed
from .stand_in import StandInEngine


@pytest.fixture
def ensue(capsys: pytest.CaptureFixture[str]) -> Ensue:
    return typed(capsys)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
def filled(store: str) -> Callable[..., list[str]]:
    """Creates a store with three dead letters; returns their ids."""
    return partial(fill_store, store)


@pytest.fixture
def url(engine: StandInEngine) -> Iterator[str]:
    with served(engine) as url:
        yield url
