"""Births: a process of Ray says where it runs before any code of a user does, so that one which hangs can be found.

Rules: kept in the control store of Ray, where whoever looks for it can look without a call to a process that may never
answer. A key is a path; what is no longer wanted is taken out by the beginning of it.
"""

import os

from .session import ray_module

__all__ = ["birth_key", "births_of", "forget_births", "look_up_birth", "register_birth"]

_SPACE = b"ensue-births"


def births_of(family: str) -> str:
    """How the keys of all workers of an engine begin, and of no other's."""
    return f"{family}/"


def birth_key(family: str, worker: int) -> str:
    """Under which a worker says where it runs."""
    return f"{births_of(family)}{worker}."


def register_birth(key: str) -> None:
    """Say where this process runs: the id of its Ray node, and its own."""
    from ray.experimental import internal_kv  # noqa: PLC0415 - ray loads late

    node = ray_module().get_runtime_context().get_node_id()
    internal_kv._internal_kv_put(key, f"{node} {os.getpid()}", namespace=_SPACE)  # noqa: SLF001 - how Ray's own libraries call it


def look_up_birth(key: str) -> tuple[str, int] | None:
    """Where a process runs, as it has said itself; None where it has not yet."""
    from ray.experimental import internal_kv  # noqa: PLC0415

    found = internal_kv._internal_kv_get(key, namespace=_SPACE)  # noqa: SLF001
    if not found:
        return None
    node, _, pid = found.decode().partition(" ")
    return node, int(pid)


def forget_births(prefix: str) -> None:
    """Take out all whose keys begin so."""
    from ray.experimental import internal_kv  # noqa: PLC0415

    internal_kv._internal_kv_del(prefix, del_by_prefix=True, namespace=_SPACE)  # noqa: SLF001
