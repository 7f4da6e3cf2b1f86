"""Supervision policy: what a pipeline declares about restarts, and the tables that say what it means.

Rules: the names and their meanings are OTP's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Literal

from ..errors import PipelineInvalid
from ..policies.retry import Backoff

__all__ = [
    "AFFECTED",
    "COUNTED",
    "PIPELINE_SUPERVISION",
    "RESTARTED",
    "STEP_SUPERVISION",
    "ChildTypeName",
    "How",
    "StrategyName",
    "Supervision",
]

_RESTART_BACKOFF = Backoff(first_seconds=0.2, factor=2.0, max_seconds=30.0, jitter=0.2)

StrategyName = Literal["one_for_one", "one_for_all", "rest_for_one"]
ChildTypeName = Literal["permanent", "transient", "temporary"]


class How(StrEnum):
    """How a child ended.

    NORMAL: by itself, in order.
    CRASHED: abnormally, before it had done any work.
    WORKED: abnormally, after it had done some work.
    ORDERED: it was told to.
    UNSTARTED: it never came up.
    """

    NORMAL = "normal"
    CRASHED = "crashed"
    WORKED = "worked"
    ORDERED = "ordered"
    UNSTARTED = "unstarted"


RESTARTED: Mapping[ChildTypeName, frozenset[How]] = {
    "permanent": frozenset(How),
    "transient": frozenset(How) - {How.NORMAL},
    "temporary": frozenset({How.ORDERED}),
}
"""The ends after which a child of this type is restarted; a stop that was ordered is not an end of its own."""

COUNTED = frozenset({How.NORMAL, How.CRASHED})
"""The ends whose restart counts."""

AFFECTED: Mapping[StrategyName, tuple[bool, bool]] = {
    "one_for_one": (False, False),
    "one_for_all": (True, True),
    "rest_for_one": (False, True),
}
"""Whether the children declared before a child that ended, and those declared after it, are restarted with it."""


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a supervisor restarts its children: the workers of a step, or the step supervisors of a pipeline.

    strategy: which other children are restarted with a child that ended: none (`one_for_one`), all (`one_for_all`), or
        those declared after it (`rest_for_one`).
    child: `permanent` children are always restarted, `transient` ones only after an abnormal end, `temporary` ones
        never.
    intensity: how many restarts are allowed within the period; after one more, the supervisor escalates.
    period_seconds: the period.
    backoff: the wait before a restart, which grows with each restart.
    healthy_seconds: after this time without an end, the wait starts again from its beginning.

    Raises: `PipelineInvalid` if a value is invalid.
    """

    strategy: StrategyName = "one_for_one"
    child: ChildTypeName = "permanent"
    intensity: int = 5
    period_seconds: float = 30.0
    backoff: Backoff = field(default=_RESTART_BACKOFF)
    healthy_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.strategy not in AFFECTED:
            raise PipelineInvalid(f"Supervision(strategy={self.strategy!r}): write one of {', '.join(AFFECTED)}")
        if self.child not in RESTARTED:
            raise PipelineInvalid(f"Supervision(child={self.child!r}): write one of {', '.join(RESTARTED)}")
        if self.intensity < 0:
            raise PipelineInvalid(f"Supervision(intensity={self.intensity}): it must be at least 0")
        for name, least in (("period_seconds", 0.001), ("healthy_seconds", 0.0)):
            if not least <= getattr(self, name) < inf:
                raise PipelineInvalid(f"Supervision({name}={getattr(self, name)}): it must be at least {least} seconds")


STEP_SUPERVISION = Supervision()
PIPELINE_SUPERVISION = Supervision(intensity=3, period_seconds=60.0)
