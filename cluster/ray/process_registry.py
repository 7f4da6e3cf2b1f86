"""Process registry: a Ray worker process registers its node and pid before any user code runs, so a hung one is found.

Rules: the entries live in Ray's control store, where they can be read without a call to a process that may never
answer. A key is a path; entries are removed by the beginning of their keys.
"""

import os

from .session import ray_module

__all__ = ["find_process", "forget_processes", "process_key", "processes_of", "register_process"]

_SPACE = b"ensue-births"


def processes_of(actor_prefix: str) -> str:
    """The beginning of the keys of all workers of one engine, and of no other engine's."""
    return f"{actor_prefix}/"


def process_key(actor_prefix: str, worker: int) -> str:
    """The key under which a worker registers its process."""
    return f"{processes_of(actor_prefix)}{worker}."


def register_process(key: str) -> None:
    """Register where this process runs: the id of its Ray node, and its pid."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - ray loads late

    node = ray_module().get_runtime_context().get_node_id()
    internal_kv._internal_kv_put(key, f"{node} {os.getpid()}", namespace=_SPACE)  # noqa: SLF001 - as Ray's own libraries do


def find_process(key: str) -> tuple[str, int] | None:
    """Node and pid of a process; None if it has not registered."""
    from ray.experimental import internal_kv  # noqa: PLC0415

    found = internal_kv._internal_kv_get(key, namespace=_SPACE)  # noqa: SLF001
    if not found:
        return None
    node, _, pid = found.decode().partition(" ")
    return node, int(pid)


def forget_processes(prefix: str) -> None:
    """Remove the entries whose keys begin so."""
    from ray.experimental import internal_kv  # noqa: PLC0415

    internal_kv._internal_kv_del(prefix, del_by_prefix=True, namespace=_SPACE)  # noqa: SLF001
