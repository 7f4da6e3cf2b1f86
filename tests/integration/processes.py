"""Engines in processes of their own, and the processes that they leave behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

from ensue.cluster.log.open import open_reader

from ..child_process import kill, spawn

__all__ = ["EngineProcess", "Start", "alive", "descendants", "engines", "statuses", "wait_until"]

_PROGRAM = Path(__file__).with_name("engine_program.py")
SECONDS = 60.0


class EngineProcess:
    """A process that runs `engine_program.py` on a store."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.trace = folder / "trace.txt"
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        with self.output.open("wb") as output:
            self.process: subprocess.Popen[bytes] = spawn(
                [sys.executable, str(_PROGRAM), str(folder), *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self, text: str) -> bool:
        """Whether the program has printed a text."""
        return text in self.output.read_text()

    def lines(self) -> list[str]:
        """The lines that steps have noted."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def expect(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Wait for a condition; if it does not come to hold, fail with what the program printed."""
        wait_until(lambda: condition() or self.process.poll() is not None, seconds, self.output.read_text)
        assert condition(), self.output.read_text()

    def kill(self) -> set[int]:
        """Kill the process; the processes that it had started."""
        family = descendants(self.process.pid)
        kill(self.process)
        return family

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends the signal to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def signal(self, pid: int) -> None:
        """Kill one of the processes that it has started."""
        assert pid in descendants(self.process.pid)
        os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill it and all that it has started."""
        for pid in (*descendants(self.process.pid), self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        kill(self.process)


Start = Callable[..., EngineProcess]


@contextmanager
def engines(folder: Path) -> Generator[Start]:
    """A function that starts engines on the store of a folder; they are killed at the end of the block."""
    begun: list[EngineProcess] = []

    def begin(*arguments: str) -> EngineProcess:
        begun.append(EngineProcess(folder, *arguments))
        return begun[-1]

    try:
        yield begin
    finally:
        for engine in begun:
            engine.end()


def statuses(folder: Path) -> dict[int, int]:
    """How many runs have each status."""
    with closing(open_reader(f"sqlite:///{folder / 'ensue.db'}")) as reader:
        return {status: count for (_, status), count in reader.counts().items()}


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS, explain: Callable[[], str] = str) -> None:
    """Wait for a condition that nothing announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    """All processes below a process, as they are now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that still run (a zombie does not)."""
    running: set[int] = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                running.add(pid)
        except OSError:
            continue
    return running
