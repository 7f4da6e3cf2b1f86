"""The exit codes of the command line, and the one line that an error prints on stderr.

    0    done
    1    the run failed, the check found errors, or the request could not be carried out
    2    wrong use: an invalid option, TARGET, event, store or address
    130  Ctrl-C
    143  SIGTERM

Rules: an error is one line that says what to do (errors of Ray have a second one). It has no markup, and in files it
is never wrapped, so that it can be searched for. Tracebacks are printed only with --debug.
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
    "flush_output",
    "report_error",
    "run_guarded",
]

OK = 0
FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
TERMINATED = 143


class WrongUse(errors.EnsueError):
    """The command line is invalid, and the user has to correct it."""


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
    """Ends the command with `code`; its message is already printed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def report_error(message: str) -> None:
    """Print an error on stderr."""
    from rich.text import Text

    from .terminal.output import say, stderr

    first, *more = message.strip().splitlines() or ["unknown error"]
    line = Text.assemble(("error", "bold red"), (": ", "red"), first)
    say(stderr(), line)
    for other in more:
        say(stderr(), Text(f"       {other}"))


def _exit_code(error: BaseException) -> int:
    """Print an error, and return its exit code."""
    if isinstance(error, Stopped):
        return error.code
    usage = getattr(error, "format_message", None)
    if usage is not None:
        report_error(_usage(error, usage))
        return WRONG_USE
    if isinstance(error, errors.EnsueError):
        report_error(str(error))
        return WRONG_USE if isinstance(error, _WRONG_USE) else FAILED
    if isinstance(error, BrokenPipeError):
        return FAILED
    report_error(
        f"{_described(error)}; this is a bug in ensue: run the command again with --debug and report the output"
    )
    return FAILED


def run_guarded(command: Callable[[], int | None], *, debug: bool) -> int:
    """Run a command and return its exit code; an exception becomes one line on stderr."""
    try:
        return command() or OK
    except (KeyboardInterrupt, EOFError):
        report_error("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame of the program
        if type(error).__name__ == "Abort":
            report_error("interrupted")
            return INTERRUPTED
        if debug and not isinstance(error, Stopped):
            traceback.print_exc(file=sys.stderr)
        return _exit_code(error)


def flush_output() -> bool:
    """Flush stdout; false if the reader is gone, as with `| head`. Python then reports no error of its own at exit."""
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
