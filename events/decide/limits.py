"""Limits of a partition. Each is a setting."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a partition."""

    runs: int = 250_000
    """Runs in flight, before new events are refused."""
    size_bytes: int = 1 << 30
    """Bytes of the packed events of the runs in flight, before new events are refused."""
    crashes: int = 3
    """Attempts of a delivery that end with their process, before its step gives up."""
    engine_losses: int = 5
    """Ends of the engine that a delivery is running at, before its step gives up."""
    backlog: int = 10_000
    """Deliveries that wait for workers, before generators are held back."""
    inquiry_seconds: float = 5.0
    """How long a worker may be silent about a delivery, before it is asked whether it has it."""
