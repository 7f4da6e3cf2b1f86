"""Holding a store: two engines on one store would take it from each other, so the second one is not started.

Rules: it is a lock beside the file, held by this process and dropped by the kernel however it ends; what is written in
it tells the next one who holds it. The epoch in the log is what keeps the log right; this keeps people out of trouble.
"""

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ...events.errors import LogUnavailable

__all__ = ["hold", "holder", "is_durable", "path_of"]

_POLL_SECONDS = 0.1
_GLIMPSE_SECONDS = 0.3
"""Whoever only asks who holds a store (`holder`) has its lock for a moment too."""


def is_durable(store: str) -> bool:
    """Whether what a store holds outlives this process."""
    return store != "memory://"


def path_of(store: str) -> Path | None:
    """The file of a store; None where it has none."""
    scheme, _, rest = store.partition("://")
    location = rest.partition("?")[0].removeprefix("/")
    return Path(location).absolute() if scheme == "sqlite" and location else None


@contextmanager
def hold(
    store: str, who: str, *, wait_seconds: float = 0.0, told: Callable[[str], None] | None = None
) -> Generator[None]:
    """Hold a store while the block lasts. Raises `LogUnavailable` where another process holds it.

    wait_seconds: how long to wait for that process to end first, as in a rolling restart. told: hears who it is.
    """
    path = path_of(store)
    lock = None if path is None or path.is_dir() else path.with_name(path.name + "-lock")
    file = None if lock is None else _locked_in_time(lock, store, wait_seconds, told)
    if file is None or lock is None:
        yield
        return
    with file:
        file.truncate(0)
        file.write(f"{who} (pid {os.getpid()})")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked_in_time(path: Path, store: str, wait_seconds: float, told: Callable[[str], None] | None) -> IO[str] | None:
    deadline = time.monotonic() + max(wait_seconds, _GLIMPSE_SECONDS)
    while True:
        try:
            return _locked(path, store)
        except LogUnavailable:
            if time.monotonic() >= deadline:
                raise
        if told is not None and wait_seconds:
            told(holder(store) or "another process")
            told = None
        time.sleep(_POLL_SECONDS)


def holder(store: str) -> str | None:
    """Who holds a store now; None where nobody does."""
    path = path_of(store)
    try:
        file = (path.with_name(path.name + "-lock") if path else Path()).open(encoding="utf-8")
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return file.read(200).strip() or "another process"
    return None


def _locked(path: Path, store: str) -> IO[str] | None:
    """The lock, held; None where there can be no file, and so no store either, which the log says better."""
    while True:
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8")
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with file:
                raise _held(file, store) from None
        if _is_at(file, path):
            return file
        file.close()  # its last holder has removed it in between


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _held(file: IO[str], store: str) -> LogUnavailable:
    owner = file.read(200).strip() or "another process"
    msg = f"the store {store} is in use by {owner}"
    return LogUnavailable(
        f"{msg}: send it the event there (POST /events), wait for its end (ensue serve --wait 60), "
        "or choose another with --store"
    )
