"""Declaration: what a pipeline declares, as frozen data.

Rules: a declaration never changes, so checks, graphs, versions and plans read it and not the `Pipeline`, to which
decorators still add steps. `Pipeline.declaration` is what was declared up to that moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..model.event import Event
from ..model.webhook import Endpoint
from ..supervision.policy import Supervision
from .step import Step

__all__ = ["Declaration"]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A pipeline as data.

    name: the pipeline's name.
    description: one line for the reader of a graph.
    supervision: how its step supervisors are restarted.
    steps: the steps by name, in the order of the code.
    endpoints: the webhook endpoints by name, in the order of the code.
    events: every event type that a step or a webhook names, and `StepFailed`, in the order of their registration.
    """

    name: str
    description: str
    supervision: Supervision
    steps: Mapping[str, Step]
    endpoints: Mapping[str, Endpoint]
    events: tuple[type[Event], ...]
