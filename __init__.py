"""ensue: reactive pipelines of typed events.

The signature is the subscription, every step is its own cluster worker, and no crash loses an accepted event.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actors.client.handles import Outcome, RunHandle
    from .actors.engine import Engine
    from .actors.run_once import arun, run
    from .events.errors import EnsueError, GiveUp
    from .events.model.context import Context
    from .events.model.event import Event
    from .events.model.failure import StepError, StepFailed
    from .events.model.notices import (
        BreakerClosed,
        BreakerHalfOpen,
        BreakerOpened,
        CompensationBlocked,
        PartitionTakenOver,
        StepEscalated,
        StepRestarted,
    )
    from .events.model.webhook import Webhook
    from .events.pipelines.pipeline import Pipeline
    from .events.policies.breaker import Breaker
    from .events.policies.retry import Backoff, Retry
    from .events.supervision.policy import Supervision
    from .gateway.ingest import signing as hooks

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
    "arun",
    "hooks",
    "run",
]

_LATER = {
    "Backoff": (".events.policies.retry", "Backoff"),
    "Breaker": (".events.policies.breaker", "Breaker"),
    "BreakerClosed": (".events.model.notices", "BreakerClosed"),
    "BreakerHalfOpen": (".events.model.notices", "BreakerHalfOpen"),
    "BreakerOpened": (".events.model.notices", "BreakerOpened"),
    "CompensationBlocked": (".events.model.notices", "CompensationBlocked"),
    "Context": (".events.model.context", "Context"),
    "Engine": (".actors.engine", "Engine"),
    "EnsueError": (".events.errors", "EnsueError"),
    "Event": (".events.model.event", "Event"),
    "GiveUp": (".events.errors", "GiveUp"),
    "Outcome": (".actors.client.handles", "Outcome"),
    "PartitionTakenOver": (".events.model.notices", "PartitionTakenOver"),
    "Pipeline": (".events.pipelines.pipeline", "Pipeline"),
    "Retry": (".events.policies.retry", "Retry"),
    "RunHandle": (".actors.client.handles", "RunHandle"),
    "StepError": (".events.model.failure", "StepError"),
    "StepEscalated": (".events.model.notices", "StepEscalated"),
    "StepFailed": (".events.model.failure", "StepFailed"),
    "StepRestarted": (".events.model.notices", "StepRestarted"),
    "Supervision": (".events.supervision.policy", "Supervision"),
    "Webhook": (".events.model.webhook", "Webhook"),
    "arun": (".actors.run_once", "arun"),
    "run": (".actors.run_once", "run"),
    "hooks": (".gateway.ingest.signing", None),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: worker and supervisor processes need little of the package."""
    if name == "__version__":
        return import_module("importlib.metadata").version("ensue")
    if name not in _LATER:
        raise AttributeError(f"module 'ensue' has no attribute {name!r}")
    module, attribute = _LATER[name]
    loaded = import_module(module, __name__)
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value
