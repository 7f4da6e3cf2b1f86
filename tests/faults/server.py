"""`ensue serve` as an init system runs it: started, and restarted when its process is gone.

Rules: processes are known by their ids, as descendants of the one that was started here; no other process is touched.
The next one starts at once, beside what the previous one left behind: nothing is cleaned up in between.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ensue.cluster.ray.listeners import descendants

from ..child_process import DEADLINE_SECONDS, clean_environment, kill, spawn
from .pipeline import LEDGER_ENV, WORK_ENV
from .waiting import came

__all__ = ["Server", "free_port", "kill_all", "runs", "title_of"]

_COMMAND = "import sys; from ensue.gateway.cli.main import main; sys.exit(main())"
_PIPELINE = Path(__file__).with_name("pipeline.py")
_POLL_SECONDS = 0.2


class Server:
    """A served engine on a port and a store of its own. `ends`: how its processes ended, by exit code.

    `work_seconds`: how long some of its steps take.
    """

    def __init__(self, folder: Path, *, target: str = f"{_PIPELINE}:flow", work_seconds: float = 0.01) -> None:
        self.folder = folder
        self.port = free_port()
        self.store = f"sqlite:///{folder / 'ensue.db'}"
        self.ledger = folder / "ledger.txt"
        self.output = folder / "serve.log"
        self.ends: Counter[int] = Counter()
        self.starts = 0
        self._target = target
        self._work_seconds = work_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._family: dict[int, str] = {}
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The serving process: gateway, engine and partition; 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def family(self) -> dict[int, str]:
        """The descendants of the serving process that still run, orphans too, each with its title."""
        began = int(_birth(self.pid) or 0)
        return {pid: title_of(pid) for pid in self._all() if began and int(self._family[pid]) >= began}

    def _all(self) -> list[int]:
        """The descendants of all serving processes so far that still run."""
        pid = self.pid
        for child in descendants([pid]) - {pid} if pid else ():
            if birth := _birth(child):
                self._family[child] = birth
        self._family = {child: birth for child, birth in self._family.items() if _birth(child) == birth}
        return [child for child in self._family if runs(child)]

    def start(self) -> None:
        """Start the process; it is ready some seconds later."""
        arguments = ["serve", self._target, "--port", str(self.port), "--store", self.store]
        with self.output.open("ab") as output:
            self._process = spawn(
                [sys.executable, "-P", "-c", _COMMAND, *arguments],
                cwd=self.folder,
                env=clean_environment() | {LEDGER_ENV: str(self.ledger), WORK_ENV: str(self._work_seconds)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.starts += 1

    def keep(self) -> None:
        """Start it, and restart it when it is gone, until `leave`."""
        self._watch = asyncio.create_task(self._restart())

    async def leave(self) -> None:
        """Stop restarting it."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    def signal(self, number: signal.Signals) -> None:
        """Send the serving process a signal."""
        assert self._process is not None
        self._all()
        self._process.send_signal(number)

    async def ended(self, seconds: float) -> int | None:
        """The exit code of the serving process; None if it has not ended in time."""
        process = self._process
        assert process is not None
        await came(lambda: process.poll() is not None, seconds)
        return process.poll()

    def end(self) -> None:
        """Kill all that is left."""
        left = self._all()
        if self._process is not None:
            kill(self._process)
        kill_all(left)

    def last_words(self, lines: int = 30) -> str:
        """The end of what the served processes printed."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    async def _restart(self) -> None:
        while True:
            if self.pid == 0:
                if self._process is not None:
                    self.ends[self._process.wait(DEADLINE_SECONDS)] += 1
                self.start()
            self._all()
            await asyncio.sleep(_POLL_SECONDS)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def kill_all(pids: Iterable[int]) -> None:
    """`kill -9` for each."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _birth(pid: int) -> str:
    """When a process began; a later one under the same id began later."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def title_of(pid: int) -> str:
    """The command line of a process, or the title that it has given itself; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
