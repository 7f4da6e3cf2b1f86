"""SupervisorClient: one supervisor as the engine knows it.

Rules: plain state, with no decision in it. Only the crew's thread changes it.
"""

from dataclasses import dataclass
from typing import Any

from ...cluster.processes import ProcessMark
from ..supervision.orders import SupervisorSpec

__all__ = ["SupervisorClient"]


@dataclass(slots=True, eq=False)
class SupervisorClient:
    """One supervisor: its actor, what of its reports has come, and how what it looks after stands.

    missing: why there is none, where one ended and no other has come. anew: whoever comes next is to begin anew.
    """

    charter: SupervisorSpec
    pipeline: str
    actor: Any = None
    mark: ProcessMark | None = None
    upto: int = 0
    asked: float = 0.0
    standing: Any = None
    missing: str = ""
    anew: bool = False

    @property
    def kind(self) -> str:
        """What it looks after: `pipeline` or `step`."""
        return "pipeline" if self.charter.name == self.pipeline else "step"

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none, or it has not said."""
        return self.mark.pid if self.mark is not None and self.actor is not None else 0

    @property
    def is_there(self) -> bool:
        """Whether it has said its process, and so been told what it has below it."""
        return self.actor is not None and self.mark is not None

    @property
    def is_coming(self) -> bool:
        """Whether it is to be started, or is being started, and none that was there before has ended."""
        return self.mark is None and not self.missing
