"""Waiting for what nothing announces: looked at often, never longer than told."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

__all__ = ["came"]


async def came(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float = float("inf"), poll_seconds: float = 0.05
) -> bool:
    """Whether a condition came to hold in time."""
    ends = time.monotonic() + seconds
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return True
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(poll_seconds)
