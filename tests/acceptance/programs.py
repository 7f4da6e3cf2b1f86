"""The program `ensue` as a user starts it, with its output read as it comes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from ..child_process import spawn

__all__ = ["DEADLINE_SECONDS", "ENSUE", "Program", "started", "wait"]

ENSUE = Path(sys.executable).with_name("ensue")
DEADLINE_SECONDS = 60


class Program:
    """An `ensue` in a process group of its own; `printed` is its stdout so far, `said` its stderr so far."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.process: subprocess.Popen[str] = spawn(
            [ENSUE, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        )
        self.printed = self.said = ""
        self._reading = [
            threading.Thread(target=self._read, args=(self.process.stdout, "printed")),
            threading.Thread(target=self._read, args=(self.process.stderr, "said")),
        ]
        for thread in self._reading:
            thread.start()

    def _read(self, stream: IO[str], name: str) -> None:
        with stream as lines:
            for line in lines:
                setattr(self, name, getattr(self, name) + line)

    @property
    def url(self) -> str:
        """The URL in its banner."""
        return self.said.partition(" serves ")[2].split()[0]

    def wait_for(self, text: str) -> None:
        """Wait until its stderr contains a text."""
        wait(lambda: text in self.said or self.process.poll() is not None)
        assert text in self.said, self.said

    def processes(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM to the process alone, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str, str]:
        """Its exit code, its stdout and its stderr."""
        code = self.process.wait(DEADLINE_SECONDS)
        for thread in self._reading:
            thread.join(DEADLINE_SECONDS)
        return code, self.printed, self.said


@contextmanager
def started(folder: Path, *words: str) -> Generator[Program]:
    """A program that is killed if it has not ended by itself."""
    program = Program(folder, *words)
    try:
        yield program
    finally:
        program.process.kill()
        program.end()


def wait(condition: Callable[[], bool]) -> None:
    """Wait for a condition by polling."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
