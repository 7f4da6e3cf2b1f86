"""Making: how workers come to be: the code of a step travels to an actor of its own, with what the step claims.

Rules: all workers belong to the engine's process, so Ray ends them with it, and with nobody else. A step that cannot
travel, or claims what Ray does not know, is refused before anything starts.
"""

import itertools
from collections.abc import Iterable
from typing import Any

from ...cluster.ray.exit_reasons import first_line
from ...cluster.ray.process_registry import birth_key
from ...cluster.ray.session import ray_module
from ...events.errors import PipelineInvalid
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step
from ..worker.ray_actor import worker_actor
from .worker_table import Place

__all__ = ["WorkerFactory", "pack_steps"]


class WorkerFactory:
    """Starts the workers of one engine, and numbers them."""

    def __init__(self, codes: dict[Place, bytes], family: str) -> None:
        self._codes = codes
        self._family = family
        self._numbers = itertools.count(1)
        self._classes: dict[Place, Any] = {}

    def make(self, place: Place, step: Step) -> tuple[int, Any]:
        """Start one: its number and its actor. Raises whatever Ray refuses it for."""
        if place not in self._classes:
            self._classes[place] = worker_actor(step.resources)
        worker = next(self._numbers)
        return worker, self._classes[place].remote(worker, self._codes[place], birth_key(self._family, worker))


def pack_steps(pipelines: Iterable[Pipeline]) -> dict[Place, bytes]:
    """Every step with its models as it travels to its workers. Raises `PipelineInvalid` where it cannot."""
    dumps = ray_module().cloudpickle.dumps
    codes: dict[Place, bytes] = {}
    for pipeline in pipelines:
        for step in pipeline.steps.values():
            try:
                worker_actor(step.resources)
            except (TypeError, ValueError) as error:
                raise PipelineInvalid(f"step {step.name}: Ray refuses its claims: {first_line(error)}") from error
            try:
                codes[pipeline.name, step.name] = dumps((step, list(pipeline.registry)))
            except Exception as error:  # whatever the author's objects raise
                reason = first_line(error)
                raise PipelineInvalid(
                    f"step {step.name} cannot be sent to a worker, since what it refers to cannot be pickled ({reason}): "
                    "open files, connections and locks inside the step, or in __init__ of a step class"
                ) from error
    return codes
