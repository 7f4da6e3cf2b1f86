"""WorkerActor: a worker as its engine and its supervisor see it.

Rules: the code of a step is unpickled here and nowhere else, so what an author's modules do at import happens in workers
alone. It says where it runs before that code does, so that one which never returns can be ended.
"""

import threading
from typing import Any

from ...cluster.ray.process_registry import register_birth
from ...cluster.ray.session import ray_module
from ...events.pipelines.step import Resources
from ..supervision.long_poll import SUPERSEDED
from .worker import Worker

__all__ = ["WorkerActor", "worker_actor"]

_CONCURRENCY = 12
"""serve, attend, collect, 4 deliver, hello, ping, stop, and two to spare."""


class WorkerActor(Worker):
    """The Ray actor around a worker."""

    def __init__(self, worker: int, code: bytes, birth: str) -> None:
        register_birth(birth)
        step, models = ray_module().cloudpickle.loads(code)
        self._serving = False
        self._served = threading.Event()
        super().__init__(worker, step, models)

    def ping(self) -> None:
        """It answers."""

    def serve(self, address: str) -> str:
        """As `Worker.serve`."""
        self._serving = True
        try:
            return super().serve(address)
        finally:
            self._served.set()

    def attend(self) -> str:
        """Return when this worker has stopped, with nothing left to say; or when somebody else asks."""
        said = super().attend()
        if said != SUPERSEDED and self._serving:
            self._served.wait()
        return said


def worker_actor(claims: Resources) -> Any:
    """The actor class for a step with these claims."""
    options: dict[str, Any] = {
        "num_cpus": claims.cpus,
        "num_gpus": claims.gpus or None,
        "memory": claims.memory_bytes,
        "resources": dict(claims.custom) or None,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": _CONCURRENCY,
    }
    return ray_module().remote(**{k: v for k, v in options.items() if v is not None})(WorkerActor)
