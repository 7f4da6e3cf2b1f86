"""Limits: where a partition draws the line. Each is a setting."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a partition draws the line.

    runs and size_bytes: how many runs in flight, and how many bytes of their packed events, before new ones are
    refused. crashes: how many attempts of a delivery may end with the process. lost: how many ends of the whole engine
    a delivery may be running at. backlog: how many deliveries may wait for workers before generators are held back.
    inquiry_seconds: how long a worker may be silent about a delivery before it is asked whether it has it.
    """

    runs: int = 250_000
    size_bytes: int = 1 << 30
    crashes: int = 3
    engine_losses: int = 5
    backlog: int = 10_000
    inquiry_seconds: float = 5.0
