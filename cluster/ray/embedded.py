"""An embedded Ray: started by us, for this process, out of reach for everybody else.

1. Loopback only. Ray binds to loopback alone when it thinks that it may not be a cluster; that is a knob it never
   promised, so the listeners are looked at after the start, and one that is not loopback ends the session.
2. A token of its own, in a 0600 file; the environment of this process names it while the session lasts.
3. No dashboard, no autoscaler, no log monitor, no usage statistics: nothing that nobody here reads.
4. Ray may have been imported already. What it read at import is read again: no order of imports is asked of the user.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Generator
from dataclasses import dataclass
from typing import Any

from ...events.errors import RayUnavailable
from ..processes import ProcessMark, end, is_gone, mark_of
from . import environment as ray_environment
from .folder import SessionFolder
from .job import job_config
from .listeners import Listener, descendants, listeners_of

__all__ = ["Embedded"]

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # "not a cluster", so loopback
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": None,  # it would go before the file
    "RAY_REDIS_ADDRESS": None,  # it would put our Ray's state into somebody's database
    "RAY_USAGE_STATS_ENABLED": "0",
    # For so long a call waits for a control store that is gone, and then Ray ends the whole process. ensue sees the loss
    # within seconds and starts another Ray, so what becomes of a call that was under way then is of no interest.
    "RAY_gcs_rpc_server_reconnect_timeout_s": str(365 * 24 * 3600),
    "RAY_ROTATION_MAX_BYTES": str(16 * 1024 * 1024),  # Ray's own is 512 MiB a file
    "RAY_ROTATION_BACKUP_COUNT": "1",
}
_UNREAD = ("start_monitor", "start_log_monitor", "start_api_server")
"""Processes that Ray starts for itself, and that nobody reads here: 140 MiB and 1.5 s of CPU. A Ray that names
them otherwise starts them: dearer, and right all the same."""

_VITAL = ("gcs_server", "raylet")
"""Without these there is no Ray any more."""


@dataclass(slots=True)
class Embedded:
    """One embedded Ray, from start to end."""

    folder: SessionFolder
    _environment: dict[str, str | None]
    _own: frozenset[Listener] = frozenset()
    """What Ray opened in our own process; what else listens there is not Ray's."""
    _vital: tuple[ProcessMark, ...] = ()

    @classmethod
    def start(cls, num_cpus: float | None, object_store_bytes: int) -> Embedded:
        """Start Ray and connect to it; all that was begun is undone where this fails. Blocking."""
        folder = SessionFolder.create()
        embedded = cls(folder, ray_environment.apply({**_ENVIRONMENT, "RAY_AUTH_TOKEN_PATH": str(folder.token)}))
        try:
            embedded._init(num_cpus, object_store_bytes)
            embedded.check_listeners()
        except BaseException:
            embedded.end()
            raise
        return embedded

    def _init(self, num_cpus: float | None, object_store_bytes: int) -> None:
        import ray  # noqa: PLC0415 - lazily: it takes half a second

        before = frozenset(listeners_of([os.getpid()]))
        with _without_unread_processes():
            ray.init(
                "local",
                num_cpus=num_cpus,  # type: ignore[arg-type]  # Ray takes fractions
                object_store_memory=object_store_bytes,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                job_config=job_config(),
                _temp_dir=str(self.folder.ray),
            )
        self._own = frozenset(listeners_of([os.getpid()])) - before
        self._vital = tuple(mark_of(pid) for pid in _ray_pids(_VITAL))

    def check_listeners(self) -> list[Listener]:
        """Every listener of this Ray: its processes, its workers, and what it opened in our own process.

        Raises RayUnavailable while one can be reached from another machine.
        """
        self._bury()
        found = [*listeners_of(descendants(_ray_pids())), *self._own]
        if exposed := [listener for listener in found if not listener.loopback]:
            raise RayUnavailable(
                f"Ray listens where other machines can reach it: {', '.join(map(str, exposed))}.\n"
                "ensue does not run on an exposed Ray: tell us your Ray version, or attach to a Ray of yours with --address."
            )
        return found

    @property
    def is_alive(self) -> bool:
        """Whether its control store and its raylet run."""
        return not any(is_gone(mark) for mark in self._vital)

    def kill(self) -> None:
        """End all its processes at once, workers included: what is left of a Ray that is lost would linger."""
        for pid in descendants(_ray_pids()):
            end(mark_of(pid))

    def end(self) -> None:
        """End Ray and all that is of it: processes, folder, token, environment. Blocking, about half a second."""
        try:
            self._bury()
            _shut_down()
        finally:
            self.folder.remove()
            ray_environment.apply(self._environment)

    def _bury(self) -> None:
        """Of all our children; the undertaker sees for itself which of them are of this session."""
        self.folder.bury(descendants([os.getpid()]) - {os.getpid()})


def _shut_down() -> None:
    import ray  # noqa: PLC0415

    try:
        ray.shutdown(wait_for_processes=True)
    except TypeError:  # a Ray that cannot wait; the undertaker ends what is left
        ray.shutdown()


def _ray_pids(names: Collection[str] | None = None) -> list[int]:
    """Ids of the processes (of these names) that this process started for Ray; none once Ray is shut down."""
    from ray._private import worker  # noqa: PLC0415

    node: Any = worker._global_node  # noqa: SLF001
    if not node:
        return []
    return [
        info.process.pid for n, infos in node.all_processes.items() if names is None or n in names for info in infos
    ]


@contextlib.contextmanager
def _without_unread_processes() -> Generator[None]:
    """Have Ray leave out the processes of `_UNREAD` while it starts."""
    from ray._private.node import Node  # noqa: PLC0415

    originals = {name: getattr(Node, name) for name in _UNREAD if hasattr(Node, name)}
    try:
        for name in originals:
            setattr(Node, name, _nothing)
        yield
    finally:
        for name, original in originals.items():
            setattr(Node, name, original)


def _nothing(*_: object, **__: object) -> None:
    """Stands in for a start that is left out."""
