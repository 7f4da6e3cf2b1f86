"""Embedded: a Ray that this process starts for itself, out of reach for everybody else.

Rules:
1. Loopback only. Ray binds to loopback if it thinks that it cannot be a cluster. It never promised that, so the
   listeners are checked after the start, and one that is not loopback ends the session.
2. A token of its own, in a 0600 file; the environment of this process names it while the session lasts.
3. No dashboard, no autoscaler, no log monitor, no usage statistics: nothing here reads them.
4. Ray may have been imported already. It reads its settings again, so the user may import in any order.
5. It ends with this process, however that ends: the kernel kills the control store and the raylet when the thread that
   started them ends (`thread.py`), and a watchdog kills the rest (`folder.py`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from typing import Any, cast

from ...events.errors import RayUnavailable
from ..processes import ProcessHandle, handle_of, is_gone, kill
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
    # A call waits this long for a control store that is gone, and then Ray ends the whole process. ensue sees the loss
    # within seconds and starts another Ray, so the result of a call that was under way does not matter.
    "RAY_gcs_rpc_server_reconnect_timeout_s": str(365 * 24 * 3600),
    "RAY_ROTATION_MAX_BYTES": str(16 * 1024 * 1024),  # Ray's own is 512 MiB a file
    "RAY_ROTATION_BACKUP_COUNT": "1",
}
_UNREAD = ("start_monitor", "start_log_monitor", "start_api_server")
"""Processes of Ray that nothing here uses: 140 MiB and 1.5 s of CPU. A Ray that names them otherwise starts them,
which costs more and does no harm."""

_REGISTER_SECONDS = 10.0
_POLL_SECONDS = 0.02

_VITAL = ("gcs_server", "raylet")
"""Without these processes Ray is lost."""


@dataclass(slots=True)
class Embedded:
    """One embedded Ray, from start to end."""

    folder: SessionFolder
    _environment: dict[str, str | None]
    _own: frozenset[Listener] = frozenset()
    """What Ray opened in this process; what else listens here is not Ray's."""
    _vital: tuple[ProcessHandle, ...] = ()

    @classmethod
    def start(cls, num_cpus: float | None, object_store_bytes: int) -> Embedded:
        """Start Ray and connect to it; if this fails, all that was started is ended. Blocking."""
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
        with _quick_start():
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
        self._vital = tuple(handle_of(pid) for pid in _ray_pids(_VITAL))

    def check_listeners(self) -> list[Listener]:
        """Every listener of this Ray: of its processes, of its workers, and what it opened in this process.

        Raises: `RayUnavailable` if one can be reached from another machine.
        """
        found = [*listeners_of(descendants(_ray_pids())), *self._own]
        if exposed := [listener for listener in found if not listener.loopback]:
            raise RayUnavailable(
                f"Ray listens where other machines can reach it: {', '.join(map(str, exposed))}.\n"
                "ensue does not run on an exposed Ray: tell us your Ray version, or attach to a Ray of yours with "
                "--address."
            )
        return found

    @property
    def is_alive(self) -> bool:
        """Whether its control store and its raylet run."""
        return not any(is_gone(process) for process in self._vital)

    def kill(self) -> None:
        """Kill all its processes, workers included: what is left of a lost Ray would stay for a while."""
        for pid in descendants(_ray_pids()):
            kill(handle_of(pid))

    def end(self) -> None:
        """End Ray with its processes, folder, token and environment. Blocking, about half a second."""
        try:
            _shut_down()
        finally:
            self.folder.remove()
            ray_environment.apply(self._environment)


def _shut_down() -> None:
    import ray  # noqa: PLC0415 - lazily: it takes half a second

    try:
        ray.shutdown(wait_for_processes=True)
    except TypeError:  # a Ray that cannot wait; the watchdog kills what is left
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
def _quick_start() -> Generator[None]:
    """Have Ray leave out the processes of `_UNREAD`, and see at once that its node has registered.

    A Ray that names these otherwise starts as it likes, which takes longer.
    """
    from ray._private import services  # noqa: PLC0415
    from ray._private.node import Node  # noqa: PLC0415

    replaced: list[tuple[Any, str, Any]] = [(Node, name, _nothing) for name in _UNREAD if hasattr(Node, name)]
    if hasattr(services, "get_node"):
        replaced.append((services, "get_node", _prompt(cast("Any", services).get_node)))
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, replacement in replaced:
            setattr(owner, name, replacement)
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _prompt(get_node: Callable[[str, str], Any]) -> Callable[[str, str], Any]:
    """Ray asks once a second whether its new node has registered; ask more often before that."""

    def wait_and_get_node(gcs_address: str, node_id: str) -> Any:
        from ray import _raylet, exceptions  # noqa: PLC0415

        # a Ray that answers otherwise is left to its own wait
        with contextlib.suppress(AttributeError, TypeError, RuntimeError, exceptions.RayError):
            client = cast("Any", _raylet).GcsClient(address=gcs_address)
            deadline = time.monotonic() + _REGISTER_SECONDS
            while time.monotonic() < deadline and not _has_registered(client, node_id):
                time.sleep(_POLL_SECONDS)
        return get_node(gcs_address, node_id)

    return wait_and_get_node


def _has_registered(client: Any, node_id: str) -> bool:
    return any(node.hex() == node_id for node in client.get_all_node_info(timeout=_REGISTER_SECONDS))


def _nothing(*_: object, **__: object) -> None:
    """Replaces a start that is left out."""
