"""ensue: reactive pipelines of typed events.

The signature is the subscription, every step is its own cluster worker, and no crash loses an accepted event.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .actors.engine import Engine
    from .actors.handles import Outcome, RunHandle
    from .actors.oneshot import run
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
    "Engine": (".actors.engine", "Engine"),
    "Outcome": (".actors.handles", "Outcome"),
    "RunHandle": (".actors.handles", "RunHandle"),
    "run": (".actors.oneshot", "run"),
    "hooks": (".gateway.signing", None),
}


def __getattr__(name: str) -> Any:
    """What needs more than pydantic is imported when it is first asked for, so that `import ensue` stays quick."""
    if name == "__version__":
        return import_module("importlib.metadata").version("ensue")
    if name not in _LATER:
        raise AttributeError(f"module 'ensue' has no attribute {name!r}")
    module, attribute = _LATER[name]
    loaded = import_module(module, __name__)
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value
