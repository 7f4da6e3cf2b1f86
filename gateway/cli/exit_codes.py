"""How a command ends: one line on stderr, and an exit code.

    0   done
    1   the run failed, or a check found errors, or what was asked for could not be done
    2   wrong use: an option, a TARGET, event data, a store or an address that cannot be
    130 Ctrl-C; 143 SIGTERM

Rules: an error is one line that says what to do (Ray's has a second one), without markup and never wrapped, so that it
can be searched for. No traceback but with --debug.
"""

import os
import sys
import traceback
from collections.abc import Callable

from ...events import errors

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "OK",
    "TERMINATED",
    "WRONG_USE",
    "Stopped",
    "WrongUse",
    "complain",
    "flushed",
    "run_guarded",
]

OK = 0
FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
TERMINATED = 143


class WrongUse(errors.EnsueError):
    """The words of a command line cannot be: the caller mends them."""


_WRONG_USE = (
    WrongUse,
    errors.TargetInvalid,
    errors.PipelineInvalid,
    errors.EventInvalid,
    errors.CodecError,
    errors.LogUnavailable,
    errors.AddressUnavailable,
    errors.SecretMissing,
    errors.RunUnknown,
    errors.LetterUnknown,
    errors.BreakerUnknown,
)


class Stopped(Exception):
    """A command ends with `code`, and what there was to say is said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def complain(message: str) -> None:
    """Say on stderr what is wrong."""
    from rich.text import Text

    from .terminal.output import say, stderr

    first, *more = message.strip().splitlines() or ["unknown"]
    line = Text.assemble(("error", "bold red"), (": ", "red"), first)
    say(stderr(), line)
    for other in more:
        say(stderr(), Text(f"       {other}"))


def _ends(error: BaseException) -> int:
    """Say what an error is, and return the exit code for it."""
    if isinstance(error, Stopped):
        return error.code
    usage = getattr(error, "format_message", None)
    if usage is not None:
        complain(_usage(error, usage))
        return WRONG_USE
    if isinstance(error, errors.EnsueError):
        complain(str(error))
        return WRONG_USE if isinstance(error, _WRONG_USE) else FAILED
    if isinstance(error, BrokenPipeError):
        return FAILED
    complain(f"{_described(error)}; nobody foresaw this: run it again with --debug, and report what it shows")
    return FAILED


def run_guarded(command: Callable[[], int | None], *, debug: bool) -> int:
    """Run a command; whatever it raises becomes a line and an exit code."""
    try:
        return command() or OK
    except (KeyboardInterrupt, EOFError):
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last frame of the program
        if type(error).__name__ == "Abort":
            complain("interrupted")
            return INTERRUPTED
        if debug and not isinstance(error, Stopped):
            traceback.print_exc(file=sys.stderr)
        return _ends(error)


def flushed() -> bool:
    """Write out what is left; whoever has stopped reading (`| head`) is not told at the end of the program either."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _usage(error: BaseException, message: Callable[[], str]) -> str:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", None) or "ensue"
    text = " ".join(str(message()).split())
    return f"{text.rstrip('.')}; see {path} --help"


def _described(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
