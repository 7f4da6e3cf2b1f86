"""WorkerActor: the Ray actor of a worker.

Rules: the code of a step is unpickled here and nowhere else, so what an author's modules do at import happens only in
workers. The process registers itself before that code runs, so that it can be killed if the code never returns.
"""

import threading
from typing import Any

from ...cluster.ray.process_registry import register_process
from ...cluster.ray.session import ray_module
from ...events.pipelines.step import Resources
from ..supervision.long_poll import SUPERSEDED
from .worker import Worker

__all__ = ["WorkerActor", "worker_actor"]

_CONCURRENCY = 12
"""serve, attend, collect, 4 deliver, hello, ping, stop, and two to spare."""


class WorkerActor(Worker):
    """A worker that Ray calls."""

    def __init__(self, worker: int, code: bytes, process_key: str) -> None:
        register_process(process_key)
        step, models = ray_module().cloudpickle.loads(code)
        self._serving = False
        self._served = threading.Event()
        super().__init__(worker, step, models)

    def ping(self) -> None:
        """Return, which shows that the process answers."""

    def serve(self, address: str) -> str:
        """As `Worker.serve`."""
        self._serving = True
        try:
            return super().serve(address)
        finally:
            self._served.set()

    def attend(self) -> str:
        """Return when this worker has stopped and sent everything, or when another call attends."""
        reason = super().attend()
        if reason != SUPERSEDED and self._serving:
            self._served.wait()
        return reason


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
