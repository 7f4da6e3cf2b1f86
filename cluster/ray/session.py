"""Session: an embedded Ray that only this machine can reach, or a Ray that somebody else runs.

Rules:
1. Importing this module does not import ray: the first `start` does.
2. An embedded Ray listens on loopback only, asks for a token of its own, and is refused if one listener is not
   loopback.
3. What we started, we stop; what somebody else started, we only leave. There is one Ray per process, so sessions are
   shared and counted.
4. Every failure is a `RayUnavailable` of two lines: what happened, and what to do.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import threading
from dataclasses import dataclass, field
from types import ModuleType

from ...events.errors import RayUnavailable
from . import environment as ray_environment
from .attach import attach, unavailable
from .embedded import Embedded
from .listeners import Listener
from .messages import redirect, restore
from .thread import RayThread

__all__ = ["Session", "alive", "check_listeners", "ray_module", "renew", "start", "stop"]

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0
OBJECT_STORE_BYTES = 128 * 1024 * 1024
"""Events travel in messages, not as Ray objects, so a small store is enough; Ray refuses less than 75 MiB."""


@dataclass(frozen=True, slots=True)
class Session:
    """A Ray that this process is connected to."""

    address: str
    """`host:port` of Ray's control store, for others to attach to."""
    embedded: bool
    """We started this Ray, and `stop` ends it."""
    owned: bool
    """We connected this process, and `stop` disconnects it; false if the user had called `ray.init`."""
    node_id: str
    """Hex id of the Ray node that this process is on."""
    node_ip: str
    """Address of that node as Ray knows it; always loopback if embedded."""
    folder: str = ""
    """Embedded only: the 0700 folder with the token, sockets and logs; removed by `stop`."""


@dataclass(slots=True)
class _Current:
    """The Ray of this process, and how many sessions share it."""

    session: Session
    thread: RayThread
    wanted: str
    embedded: Embedded | None = None
    environment: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Attached only: what to apply when disconnected."""
    users: int = 1
    left: bool = False
    """It is disconnected; it stays here if Ray was lost and no other has been started."""
    shape: tuple[float | None, int] = (None, OBJECT_STORE_BYTES)
    """Embedded only: CPUs and bytes of the object store."""


_lock = threading.Lock()
_current: _Current | None = None


def start(
    address: str | None = None, *, num_cpus: float | None = None, object_store_bytes: int = OBJECT_STORE_BYTES
) -> Session:
    """Connect this process to Ray, or start one; blocking, so call it in a thread from asyncio.

    `address` None starts an embedded Ray, unless `RAY_ADDRESS` is set (Ray's own convention); "local" always does;
    "auto" or `host:port` attaches. `num_cpus` and `object_store_bytes` apply to an embedded Ray only. If this process
    already uses Ray, that one is shared. Each `start` needs one `stop`.

    Raises: `RayUnavailable`, in two lines: what happened and what to do.
    """
    global _current  # noqa: PLW0603 - Ray itself is one per process
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    with _lock:
        if _current is not None and not _connected():  # the user's own ray.shutdown()
            _end_current()
        if _current is None:
            _current = _begin(wanted, num_cpus, object_store_bytes)
        else:
            _refuse_other(wanted, _current.wanted, _current.session.address)
            _current.users += 1
        return _current.session


def stop(session: Session) -> None:
    """Give a session back; the last one ends an embedded Ray and removes its folder. Never ends a Ray of others."""
    with _lock:
        if _current is None or _current.session != session:
            return
        _current.users -= 1
        if _current.users == 0:
            _end_current()


def check_listeners(session: Session) -> list[Listener]:
    """All TCP listeners of an embedded Ray, workers included; none for a Ray that somebody else runs.

    Call it again once workers have started. Raises: `RayUnavailable` if one is not loopback.
    """
    current = _current
    if current is None or current.embedded is None or current.session != session:
        return []
    return current.embedded.check_listeners()


def alive(session: Session) -> bool:
    """Whether the control store and the raylet of an embedded Ray run; True for a Ray that somebody else runs."""
    current = _current
    if current is None or current.embedded is None or not session.embedded:
        return True
    return current.session == session and current.embedded.is_alive


def renew(session: Session) -> Session:
    """Start a new embedded Ray in place of one that is lost, and kill what is left of that one. Blocking, some 8 s.

    All that share the session renew it; the first call starts the Ray, the others get the same.

    Raises: `RayUnavailable`.
    """
    global _current  # noqa: PLW0603 - as in `start`
    with _lock:
        current = _current
        if current is None or current.embedded is None:
            raise RayUnavailable(
                f"The Ray at {session.address} is lost, and it is not ours to start.\nStart it, and then this process."
            )
        if current.session != session:
            return current.session
        current.embedded.kill()
        _leave(current)
        fresh = _begin("local", *current.shape)  # if this fails, the next call tries again
        fresh.users = current.users
        _current = fresh
        return fresh.session


def ray_module() -> ModuleType:
    """The `ray` module, imported when first asked for."""
    return importlib.import_module("ray")


def _begin(wanted: str, num_cpus: float | None, object_store_bytes: int) -> _Current:
    thread = RayThread()
    if _connected():
        _refuse_other(wanted, _address())
        return _Current(_session(owned=False), thread, wanted)
    try:
        return thread.call(lambda: _connect(thread, wanted, num_cpus, object_store_bytes), START_TIMEOUT_SECONDS)
    except RayUnavailable:
        thread.close()
        raise
    except (Exception, SystemExit) as error:  # Ray ends the process here and there
        thread.close()
        raise unavailable(wanted, error) from error


def _connect(thread: RayThread, wanted: str, num_cpus: float | None, object_store_bytes: int) -> _Current:
    atexit.unregister(_end_at_exit)
    redirect()
    try:
        if wanted == "local":
            embedded = Embedded.start(num_cpus, object_store_bytes)
            shape = (num_cpus, object_store_bytes)
            current = _Current(_session(embedded), thread, wanted, embedded=embedded, shape=shape)
        else:
            environment = attach(wanted)
            current = _Current(_session(), thread, wanted, environment=environment)
    except BaseException:
        restore()
        raise
    atexit.register(_end_at_exit)  # after ray's own, so that it comes before
    return current


def _end_current() -> None:
    """On the thread that started it, so that nothing of it is cut short."""
    global _current
    current, _current = _current, None
    if current is not None:
        _leave(current)


def _leave(current: _Current) -> None:
    if current.left:
        return
    current.left = True
    if current.session.owned:
        current.thread.call(lambda: _disconnect(current), STOP_TIMEOUT_SECONDS)
    current.thread.close()


def _disconnect(current: _Current) -> None:
    try:
        if current.embedded is not None:
            current.embedded.end()
        else:
            ray_module().shutdown()
            ray_environment.apply(current.environment)
    finally:
        restore()


def _end_at_exit() -> None:
    """For programs that did not call `stop`."""
    with _lock:
        _end_current()


def _connected() -> bool:
    """Never imports ray: without it this process cannot be connected."""
    return "ray" in sys.modules and bool(ray_module().is_initialized())


def _address() -> str:
    return str(ray_module().get_runtime_context().gcs_address)


def _session(embedded: Embedded | None = None, *, owned: bool = True) -> Session:
    ray = ray_module()
    return Session(
        address=_address(),
        embedded=embedded is not None,
        owned=owned,
        node_id=ray.get_runtime_context().get_node_id(),
        node_ip=ray.util.get_node_ip_address(),
        folder=str(embedded.folder.path) if embedded else "",
    )


def _refuse_other(wanted: str, *present: str) -> None:
    """One process can be connected to one Ray; `present` are its names, the last one its address."""
    if wanted not in ("local", "auto", *present):
        raise RayUnavailable(
            f"This process already uses the Ray at {present[-1]}, so it cannot use the one at {wanted} too.\n"
            "Stop the first one, or run this pipeline in a process of its own."
        )
