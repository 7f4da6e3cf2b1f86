"""The server of the demo: `ensue serve` in a process group of its own, which the demo starts and kills.

Rules: its output goes to a file, whose end is shown if the server fails. The demo always ends the server that it
started.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from ...cluster.ray.listeners import descendants
from ...cluster.ray.session import ray_module
from ...events.errors import EnsueError
from .pipeline import JOURNAL_ENV, SECRET_ENV

__all__ = ["DemoFailed", "Server"]

TARGET = "ensue.gateway.demo.pipeline:triage"
_COMMAND = "import sys; from ensue.gateway.cli.main import main; sys.exit(main())"
_STORE = "ensue.db"  # the default store, in the working folder of the server
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0
_GONE_SECONDS = 10.0
_POLL_SECONDS = 0.05
_LAST_LINES = 15


class DemoFailed(EnsueError):
    """The demo cannot continue; the message says why."""


@dataclass(slots=True)
class Server:
    """`ensue serve` on a free port of this machine, with its store in `folder`."""

    folder: Path
    secret: str
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> "Server":
        """A server that is not started yet, with a free port and a random secret."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return cls(folder, secrets.token_hex(16), listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> str:
        """The URL of its store."""
        return f"sqlite:///{self.folder / _STORE}"

    @property
    def arguments(self) -> list[str]:
        """The arguments of `ensue`."""
        return ["serve", TARGET, "--port", str(self.port)]

    @property
    def journal(self) -> Path:
        """The file in which the steps note their attempts."""
        return self.folder / "journal.jsonl"

    def start(self) -> None:
        """Start it and wait until it is ready."""
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment |= {SECRET_ENV: self.secret, JOURNAL_ENV: str(self.journal)}
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - this Python, with fixed arguments
                [sys.executable, "-P", "-c", _COMMAND, *self.arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._await_ready()

    def kill(self) -> int:
        """Kill the gateway, the engine, Ray and the workers with SIGKILL; returns the number of processes."""
        if self._process is None:
            return 0
        if sys.platform != "linux":
            ray_module()  # brings psutil, which finds the processes on macOS
        pids = descendants([self._process.pid])
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        _await_gone(pids)
        return len(pids)

    def stop(self) -> None:
        """Drain and stop the server; kill it if that takes too long."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    @property
    def _output(self) -> Path:
        return self.folder / "serve.log"

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(trust_env=False, timeout=1.0) as client:
            while time.monotonic() < deadline:
                if self._process is None or self._process.poll() is not None:
                    raise DemoFailed(f"ensue serve ended while it started:\n{self._end_of_output()}")
                try:
                    if client.get(f"{self.url}/readyz").is_success:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(_POLL_SECONDS)
        raise DemoFailed(f"ensue serve was not ready after {_START_SECONDS:.0f} s:\n{self._end_of_output()}")

    def _end_of_output(self) -> str:
        lines = self._output.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LAST_LINES:]) or "    (no output)"


def _await_gone(pids: Iterable[int]) -> None:
    """Wait until none of the processes runs."""
    deadline = time.monotonic() + _GONE_SECONDS
    alive = set(pids)
    while alive and time.monotonic() < deadline:
        alive = {pid for pid in alive if _runs(pid)}
        time.sleep(_POLL_SECONDS if alive else 0)
    if alive:
        raise DemoFailed(f"processes {sorted(alive)} are still alive after kill -9")


def _runs(pid: int) -> bool:
    """Whether a process runs and is not a zombie."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (ProcessLookupError, PermissionError):
        return False
    except OSError:
        return sys.platform != "linux"
    return stat.rpartition(")")[2].split()[0] not in "ZX"
