"""SessionFolder: the folder of one embedded Ray: token, sockets, logs and spilled objects, readable by nobody else.

Rules:
1. One 0700 folder per session, in the first temporary folder whose path is short enough for a Unix socket.
2. The token file is 0600, and is written before Ray may look for it.
3. A lock says that the session lives. The kernel drops it with the process, however that ends, so a folder without a
   held lock is left over, and the next session removes it.
4. A watchdog, a shell of one megabyte, waits for the end of this process and then kills what Ray has left. After
   `kill -9`, also in the middle of a start, the kernel ends Ray's control store and raylet at once and the workers
   follow within seconds, but its two agents would stay for a minute.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...events.errors import RayUnavailable

__all__ = ["SessionFolder"]

_PREFIX = "ensue-"
_SOCKET_PATH_LIMIT = 103
"""sun_path less its end: 107 on Linux, 103 on macOS."""
_RAY_SOCKET = "/r/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"

_WATCHDOG = """
while read -r _; do :; done
ls -l /proc/[0-9]*/fd 2>/dev/null | while read -r line; do
    case "$line" in
        /proc/*/fd:) pid=${line#/proc/}; pid=${pid%/fd:} ;;
        *" $1/r/"*) [ "$pid" = "$2" ] || kill -9 "$pid" 2>/dev/null ;;
    esac
done
rm -rf "$1"
"""
"""$1 is the folder, $2 the pid of this process. The input ends with this process, or when it closes it. A process that
then has a file of Ray's open in this folder belongs to this session."""


@dataclass(slots=True)
class SessionFolder:
    """A folder that lives as long as its session."""

    path: Path
    _lock: IO[str]
    _watchdog: subprocess.Popen[bytes]

    @classmethod
    def create(cls) -> SessionFolder:
        """A new folder with a new token; removes the folders of sessions that have died.

        Raises: `RayUnavailable`.
        """
        try:
            return cls._create(_base())
        except OSError as error:
            raise _unwritable(str(error)) from error

    @classmethod
    def _create(cls, base: Path) -> SessionFolder:
        for left_over in _dead(base):
            shutil.rmtree(left_over, ignore_errors=True)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = _locked(path)
        _write_token(path / "token")
        (path / "r").mkdir(mode=0o700)
        return cls(path, lock, _start_watchdog(path))

    @property
    def token(self) -> Path:
        """The 0600 file that holds this session's token."""
        return self.path / "token"

    @property
    def ray(self) -> Path:
        """Ray's own folder. Ray opens it to all, so the folder around it is what keeps others out."""
        return self.path / "r"

    def remove(self) -> None:
        """Kill what is left of the session, and delete the folder."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed the watchdog
            self._watchdog.communicate()
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _base() -> Path:
    candidates = dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp"))  # noqa: S108 - the folder inside is 0700
    for candidate in map(Path, candidates):
        if _fits(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return candidate
    raise _unwritable(f"none of {', '.join(candidates)} is writable, with a path short enough for Unix sockets")


def _unwritable(reason: str) -> RayUnavailable:
    return RayUnavailable(
        f"Ray needs a temporary folder, and there is none: {reason}.\n"
        "Set TMPDIR to a writable folder with a path of at most 20 characters, or attach to a running Ray "
        "with --address."
    )


def _fits(base: Path) -> bool:
    return len(f"{base}/{_PREFIX}12345678{_RAY_SOCKET}") <= _SOCKET_PATH_LIMIT


def _locked(folder: Path) -> IO[str]:
    """The lock gets its name once it is held, or another session might find it free."""
    unnamed = folder / "lock.new"
    file = unnamed.open("w", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(folder / "lock")
    return file


def _write_token(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))


def _start_watchdog(path: Path) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that Ctrl-C on the terminal does not reach it."""
    return subprocess.Popen(  # noqa: S603 - our own script, and a folder that we have named
        ["/bin/sh", "-c", _WATCHDOG, "ensue-watchdog", str(path), str(os.getpid())],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _dead(base: Path) -> Iterator[Path]:
    """Our folders whose lock nobody holds; one without a lock file is just being made."""
    for path in base.glob(f"{_PREFIX}*"):
        if _unheld(path / "lock"):
            yield path


def _unheld(lock: Path) -> bool:
    """False also if another user owns it, or another session removes it already."""
    try:
        with lock.open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(file.fileno()).st_uid == os.getuid()
    except OSError:
        return False
