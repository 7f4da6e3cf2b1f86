"""What all tests share: markers, the signals and the folder of a run, and the figures at its end.

Rules:
1. A test that needs a program says so: `@pytest.mark.needs("wrk")`. Without it the test skips at home and fails where
   CI=true, so that CI cannot turn green by testing less.
2. A test that needs Ray or a server has the marker `services`. It is derived, never written by hand: the folders of
   `WITH_SERVICES` have it, and so has each test that asks for the fixture `ray_session` or runs on the Ray engine.
3. What a test measured and does not assert, since it depends on the machine, it passes to
   `record_property("figures", text)`: the text is shown at the end, whether the test passed or not.
"""

import os
import shutil
import signal
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import pytest

from .run_folder import current_cluster, start_run

LINKS = Path(__file__).resolve().parents[1] / "src" / "ensue"
HERE = Path(__file__).parent
WITH_SERVICES = ("integration", "acceptance", "faults")


def _on_path(program: str) -> bool:
    return shutil.which(program) is not None


SERVICES: Mapping[str, Callable[[], bool]] = {
    "git": partial(_on_path, "git"),
    "make": partial(_on_path, "make"),
    "wrk": partial(_on_path, "wrk"),
}
SHARED_RAY_FOLDER = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - as Ray does
"""Where Ray looks for a running cluster unless it is told otherwise."""
_cluster_before = current_cluster(SHARED_RAY_FOLDER)


@cache
def _is_here(service: str) -> bool:
    if service not in SERVICES:
        msg = f"needs({service!r}): known services are {', '.join(sorted(SERVICES))}"
        raise pytest.UsageError(msg)
    return SERVICES[service]()


def _refuse_a_checkout_without_links() -> None:
    """Where git cannot make links, it writes files with the text of each link; importing them is a SyntaxError."""
    for path in sorted(LINKS.iterdir()) if LINKS.exists() else ():
        if path.is_file() and not path.is_symlink():
            msg = f"src/ensue/{path.name} is a file instead of a symbolic link"
            raise pytest.UsageError(f"{msg}: run `git config core.symlinks true`, then check out again")


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    _refuse_a_checkout_without_links()
    config.addinivalue_line("markers", "needs(*services): skip at home, fail where CI=true, without these services")
    config.addinivalue_line("markers", "services: needs Ray or a server; set by conftest.py, never by hand")
    # A shell starts what it puts into the background with SIGINT ignored, and children inherit that: a test that sends
    # Ctrl-C to a child would wait in vain.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    start_run(is_worker=_is_worker(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(HERE).parts[0] in WITH_SERVICES or "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker("services")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = [str(service) for mark in item.iter_markers("needs") for service in mark.args]
    missing = [service for service in wanted if not _is_here(service)]
    if not missing:
        return
    reason = f"needs {', '.join(missing)}, which is not here"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _changed_cluster() -> bool:
    return current_cluster(SHARED_RAY_FOLDER) != _cluster_before


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not _is_worker(session.config) and _changed_cluster():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "figures":
                    terminalreporter.section(f"figures of {report.nodeid}")
                    terminalreporter.write_line(text)
    if _changed_cluster():
        terminalreporter.section("a file that is not the tests' to change", red=True)
        terminalreporter.write_line(
            f"{SHARED_RAY_FOLDER}/ray/ray_current_cluster was changed during the run: later calls of ray.init() on this"
            " machine would look for that Ray. Start Ray in a test with --temp-dir, or with RAY_TMPDIR as it is set."
        )
