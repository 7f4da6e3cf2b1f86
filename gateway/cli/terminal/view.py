"""The progress of a run on stderr: a live picture on a terminal, a line for each change elsewhere.

Rules: the picture is updated in place and stays when the run ends; log lines appear above it. Elsewhere a step has a
line when its phase changes, and at most one line a second while it works.
"""

import time
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ....events.views.progress import Frame, StepLine, StepPhase
from .output import stderr
from .picture import duration_ticking, line, picture

__all__ = ["LiveView", "PlainView", "View", "view"]

_PER_SECOND = 10
_LINE_SECONDS = 1.0


class View:
    """A view of a run; this one prints nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, what: str) -> None:
        """Show what happens before and after the run, such as the start of the engine."""

    def show(self, frame: Frame) -> None:
        """Show the current frame of the run."""

    def finish(self) -> None:
        """Show no more: the outcome is printed next. Calling it again does nothing."""


def view(*, quiet: bool = False) -> View:
    """The view for stderr. With `quiet`, nothing is printed if stderr is not a terminal."""
    console = stderr()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console)
    return View() if quiet else PlainView(console)


class LiveView(View):
    """The live picture, for terminals."""

    def __init__(self, console: Console) -> None:
        self._spinner = Spinner("dots", style="cyan")
        self._message = ""
        self._message_began = time.monotonic()
        self._frame: Frame | None = None
        self._live = Live(
            get_renderable=self._picture, console=console, refresh_per_second=_PER_SECOND, redirect_stdout=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        if self._frame is None:
            self._live.transient = True
        self._message = ""
        self._live.stop()

    def say(self, what: str) -> None:
        self._message, self._message_began = what, time.monotonic()

    def show(self, frame: Frame) -> None:
        if self._frame is None:
            self._message = ""
        self._frame = frame

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._frame is not None:
            parts.append(picture(self._frame, time.time_ns() // 1000, self._live.console.width))
        if self._message:
            elapsed = duration_ticking(time.monotonic() - self._message_began)
            self._spinner.update(text=Text.assemble(self._message, ("  " + elapsed, "dim")))
            parts.append(self._spinner)
        return Group(*parts)


class PlainView(View):
    """The lines, for files and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: dict[str, tuple[StepPhase, int]] = {}
        self._printed_at: dict[str, float] = {}
        self._has_begun = False
        self._has_run = False

    def say(self, what: str) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._print(what)

    def show(self, frame: Frame) -> None:
        if not self._has_run:
            self._has_run = True
            self._print(f"{frame.pipeline}: run {frame.run_id} of {frame.trigger}")
        now = time.monotonic()
        for step in frame.steps:
            if self._has_news(step, now):
                self._printed[step.name] = (step.phase, step.done)
                self._printed_at[step.name] = now
                self._print(line(step, frame, time.time_ns() // 1000))

    def _has_news(self, step: StepLine, now: float) -> bool:
        phase, done = self._printed.get(step.name, (StepPhase.PENDING, 0))
        if step.phase is not phase:
            return True
        return step.done != done and now - self._printed_at.get(step.name, 0.0) >= _LINE_SECONDS

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)
