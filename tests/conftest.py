"""What every test may ask for.

A test that needs more than Python and this repository says so: `@pytest.mark.needs("wrk")`. Where that is missing the
test skips at home and fails where CI=true, so that CI cannot turn green by testing less.

What a test measured and does not assert, since it is the machine's, it hands over with `record_property("figures", text)`:
it is shown at the end, whatever became of the test.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import pytest

LINKS = Path(__file__).resolve().parents[1] / "src" / "ensue"


def _on_path(program: str) -> bool:
    return shutil.which(program) is not None


SERVICES: Mapping[str, Callable[[], bool]] = {
    "git": partial(_on_path, "git"),
    "wrk": partial(_on_path, "wrk"),
}


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


def pytest_configure(config: pytest.Config) -> None:
    _refuse_a_checkout_without_links()
    config.addinivalue_line("markers", "needs(*services): skip at home, fail where CI=true, without these services")


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "figures":
                    terminalreporter.section(f"figures of {report.nodeid}")
                    terminalreporter.write_line(text)
