"""The fixtures of the integration tests, and their order.

Rules: tests that need a process without a Ray run before those that share one.
"""

import pytest

from ..conformance.engines import ray_session, trace

__all__ = ["ray_session", "trace"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.name.startswith("test_session_"))
