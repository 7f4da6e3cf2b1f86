"""The picture of a run: a frame of its progress, drawn as one line for each step.

Rules: the lines are in causal order. A line has a symbol, the step, its progress, its duration and a note; a pending
step is dim, and its note says what it waits for. Text from outside is cut to one line. The current time is a
parameter.
"""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ....events.views.progress import Frame, StepLine, StepPhase
from .output import duration, plain, status_text

__all__ = ["duration_ticking", "line", "picture"]

_SYMBOLS = {
    StepPhase.PENDING: ("○", "dim"),
    StepPhase.RUNNING: ("●", "cyan"),
    StepPhase.RETRYING: ("↻", "yellow"),
    StepPhase.DONE: ("✔", "green"),
    StepPhase.FAILED: ("✘", "red"),
}
_BAR = 10
_GAP = 2
_FIGURES = 4
_LONGEST_NAME = 32
_STATE_WIDTH = 9
_TOOK_WIDTH = 7


def duration_ticking(seconds: float) -> str:
    """A duration that still grows, in tenths of a second so that it does not flicker."""
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)  # noqa: PLR2004 - a minute


def picture(frame: Frame, now_us: int, width: int) -> RenderableType:
    """A frame as a table: a line for each step."""
    end_us = frame.finished_us or now_us
    head = Text.assemble(
        (frame.pipeline, "bold"), "  ", status_text(frame.status.wire), "  ",
        duration_ticking(max(0, end_us - frame.started_us) / 1e6), "  ", (frame.run_id, "dim"),
    )  # fmt: skip
    rows = [_row(step, frame, now_us) for step in frame.steps]
    table = Table.grid(padding=(0, 2, 0, 0))
    for number in range(_FIGURES):
        table.add_column(no_wrap=True, justify="right" if number == _FIGURES - 1 else "left")
    table.add_column(no_wrap=True)
    room = width - _figures_width(rows)
    for *figures, note in rows:
        note.truncate(max(0, room), overflow="ellipsis")
        table.add_row(*figures, note)
    return Group(head, table)


def _figures_width(rows: Sequence[tuple[Text, ...]]) -> int:
    """The width of a line before its note, with the gaps."""
    columns = zip(*(row[:_FIGURES] for row in rows), strict=True)
    return sum(max(cell.cell_len for cell in column) + _GAP for column in columns)


def _row(step: StepLine, frame: Frame, now_us: int) -> tuple[Text, Text, Text, Text, Text]:
    phase = step.phase
    symbol, style = _SYMBOLS[phase]
    took = _took(step, now_us)
    name = Text(step.name, style="dim" if phase is StepPhase.PENDING else "")
    name.truncate(_LONGEST_NAME, overflow="ellipsis")
    state = _state(step, frame)
    state.pad_right(max(0, _STATE_WIDTH - state.cell_len))
    figures = (Text(f"  {symbol}", style=style), name, state, Text(took.rjust(_TOOK_WIDTH), style="dim"))
    return *figures, _note(step, frame, now_us)


def _state(step: StepLine, frame: Frame) -> Text:
    phase = step.phase
    if phase is StepPhase.PENDING and not frame.status.live:
        return Text("not needed" if frame.status.wire == "completed" else "not reached", style="dim")
    if step.total > 1:
        return _bar(step)
    if step.share is not None and phase is StepPhase.RUNNING:
        return _gauge(*step.share)
    return Text(phase.value, style=_SYMBOLS[phase][1])


def _bar(step: StepLine) -> Text:
    total = step.total
    done, failed = (round(_BAR * count / total) for count in (step.done, step.failed))
    failed = max(failed, 1 if step.failed else 0)
    rest = max(0, _BAR - done - failed)
    return Text.assemble(
        ("━" * min(done, _BAR), "green"), ("━" * failed, "red"), ("━" * rest, "bright_black"),
        f" {step.done}/{total}",
    )  # fmt: skip


def _gauge(done: float, total: float) -> Text:
    share = min(1.0, max(0.0, done / total)) if total else 0.0
    filled = round(_BAR * share)
    return Text.assemble(("━" * filled, "cyan"), ("━" * (_BAR - filled), "bright_black"), f" {share:.0%}")


def _took(step: StepLine, now_us: int) -> str:
    if not step.began_us:
        return ""
    if step.phase in (StepPhase.RUNNING, StepPhase.RETRYING):
        return duration_ticking(max(0, now_us - step.began_us) / 1e6)
    return duration(max(0, step.ended_us - step.began_us) / 1e6)


def _note(step: StepLine, frame: Frame, now_us: int) -> Text:
    if step.phase is StepPhase.PENDING:
        return Text(f"waits for {step.waits_for}" if step.waits_for and frame.status.live else "", style="dim")
    parts: list[Text] = []
    if step.total > 1 and step.running:
        parts.append(Text(f"{step.running} running", style="cyan"))
    if step.retrying:
        parts.append(Text(_retry_note(step, now_us), style="yellow"))
    elif step.failed:
        failed = f"{step.failed} failed: " if step.total > 1 else ""
        parts.append(Text(failed + plain(" ".join(step.error.split())), style="red"))
    elif step.attempts > step.total:
        parts.append(Text(f"{step.attempts} attempts", style="yellow"))
    if step.emitted:
        parts.append(Text(_emitted(step), style="dim"))
    return Text("  ").join(parts)


def _retry_note(step: StepLine, now_us: int) -> str:
    wait = max(0, step.due_us - now_us) / 1e6
    retry = f"retry in {wait:.1f} s" if wait else "retry now"
    count = f"{step.retrying} " if step.total > 1 else ""
    return f"{count}{retry}: {plain(' '.join(step.error.split()))}"


def _emitted(step: StepLine) -> str:
    return "→ " + ", ".join(name if count == 1 else f"{count} {name}" for name, count in step.emitted.items())


def line(step: StepLine, frame: Frame, now_us: int) -> str:
    """The line of a step as text, for files and pipes."""
    count = f" {step.done}/{step.total}" if step.total > 1 else ""
    parts = (f"  {step.name}: {step.phase.value}{count}", _took(step, now_us), _note(step, frame, now_us).plain)
    return "  ".join(part for part in parts if part)
