"""The lock of a store: it keeps two engines from taking one store from each other.

Rules: it is a file lock beside the store, held by this process and released by the kernel when the process ends. The
lock file names its holder. The lock is a convenience: the epoch (fencing token) in the log is what keeps the log
correct.
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
_LEAST_WAIT_SECONDS = 0.3
"""The least time to wait, because `holder` takes the lock for a moment, too."""


def is_durable(store: str) -> bool:
    """Whether the contents of a store outlive this process."""
    return store != "memory://"


def path_of(store: str) -> Path | None:
    """The file of a store, or None if it has no file."""
    scheme, _, rest = store.partition("://")
    location = rest.partition("?")[0].removeprefix("/")
    return Path(location).absolute() if scheme == "sqlite" and location else None


@contextmanager
def hold(
    store: str, owner: str, *, wait_seconds: float = 0.0, on_wait: Callable[[str], None] | None = None
) -> Generator[None]:
    """Hold the lock of a store inside the block.

    If another process holds it, wait up to `wait_seconds` for it, as in a rolling restart; `on_wait` is called once
    with the name of the holder. Raises `LogUnavailable` if the lock is still held after that.
    """
    path = path_of(store)
    lock = None if path is None or path.is_dir() else path.with_name(path.name + "-lock")
    file = None if lock is None else _acquire(lock, store, wait_seconds, on_wait)
    if file is None or lock is None:
        yield
        return
    with file:
        file.truncate(0)
        file.write(f"{owner} (pid {os.getpid()})")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _acquire(path: Path, store: str, wait_seconds: float, on_wait: Callable[[str], None] | None) -> IO[str] | None:
    deadline = time.monotonic() + max(wait_seconds, _LEAST_WAIT_SECONDS)
    while True:
        try:
            return _try_lock(path, store)
        except LogUnavailable:
            if time.monotonic() >= deadline:
                raise
        if on_wait is not None and wait_seconds:
            on_wait(holder(store) or "another process")
            on_wait = None
        time.sleep(_POLL_SECONDS)


def holder(store: str) -> str | None:
    """The holder of the lock of a store, or None."""
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


def _try_lock(path: Path, store: str) -> IO[str] | None:
    """The locked file, or None if it cannot be created; opening the store then reports the reason."""
    while True:
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8")
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with file:
                raise _in_use(file, store) from None
        if _is_at(file, path):
            return file
        file.close()  # the previous holder has removed it in between


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _in_use(file: IO[str], store: str) -> LogUnavailable:
    owner = file.read(200).strip() or "another process"
    msg = f"the store {store} is in use by {owner}"
    return LogUnavailable(
        f"{msg}: send the event to that engine (POST /events), wait until it stops (ensue serve --wait 60), "
        "or choose another store with --store"
    )
