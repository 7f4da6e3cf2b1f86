"""ensue: reactive pipelines of typed events.

The signature is the subscription, every step is its own cluster worker, and no crash loses an accepted event.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actors.engine import Engine
    from .actors.handles import Outcome, RunHandle
    from .actors.oneshot import run
    from .events.breaker import Breaker
    from .events.context import Context
    from .events.errors import EnsueError, GiveUp
    from .events.event import Event
    from .events.failure import StepError, StepFailed
    from .events.notices import (
        BreakerClosed,
        BreakerHalfOpen,
        BreakerOpened,
        CompensationBlocked,
        PartitionTakenOver,
        StepEscalated,
        StepRestarted,
    )
    from .events.pipeline import Pipeline
    from .events.retry import Backoff, Retry
    from .events.supervision import Supervision
    from .events.webhook import Webhook
    from .gateway import signing as hooks

    __version__: str

__all__ = [
    "Backoff",
    "Breaker",
    "BreakerClosed",
    "BreakerHalfOpen",
    "BreakerOpened",
    "CompensationBlocked",
    "Context",
    "Engine",
    "EnsueError",
    "Event",
    "GiveUp",
    "Outcome",
    "PartitionTakenOver",
    "Pipeline",
    "Retry",
    "RunHandle",
    "StepError",
    "StepEscalated",
    "StepFailed",
    "StepRestarted",
    "Supervision",
    "Webhook",
    "__version__",
    "hooks",
    "run",
]

_LATER = {
    "Backoff": (".events.retry", "Backoff"),
    "Breaker": (".events.breaker", "Breaker"),
    "BreakerClosed": (".events.notices", "BreakerClosed"),
    "BreakerHalfOpen": (".events.notices", "BreakerHalfOpen"),
    "BreakerOpened": (".events.notices", "BreakerOpened"),
    "CompensationBlocked": (".events.notices", "CompensationBlocked"),
    "Context": (".events.context", "Context"),
    "Engine": (".actors.engine", "Engine"),
    "EnsueError": (".events.errors", "EnsueError"),
    "Event": (".events.event", "Event"),
    "GiveUp": (".events.errors", "GiveUp"),
    "Outcome": (".actors.handles", "Outcome"),
    "PartitionTakenOver": (".events.notices", "PartitionTakenOver"),
    "Pipeline": (".events.pipeline", "Pipeline"),
    "Retry": (".events.retry", "Retry"),
    "RunHandle": (".actors.handles", "RunHandle"),
    "StepError": (".events.failure", "StepError"),
    "StepEscalated": (".events.notices", "StepEscalated"),
    "StepFailed": (".events.failure", "StepFailed"),
    "StepRestarted": (".events.notices", "StepRestarted"),
    "Supervision": (".events.supervision", "Supervision"),
    "Webhook": (".events.webhook", "Webhook"),
    "run": (".actors.oneshot", "run"),
    "hooks": (".gateway.signing", None),
}


def __getattr__(name: str) -> Any:
    """Everything is imported when it is first asked for: supervisors, which are many, need next to nothing of it."""
    if name == "__version__":
        return import_module("importlib.metadata").version("ensue")
    if name not in _LATER:
        raise AttributeError(f"module 'ensue' has no attribute {name!r}")
    module, attribute = _LATER[name]
    loaded = import_module(module, __name__)
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value
