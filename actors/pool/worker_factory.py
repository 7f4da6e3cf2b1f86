"""WorkerFactory: starts the Ray actors that are workers, each with the pickled code and the claims of its step.

Rules: all workers belong to the engine's process, so Ray ends them with it, and with nothing else. A step that cannot
be pickled, or claims what Ray does not know, is refused before anything starts.
"""

import itertools
from collections.abc import Iterable
from typing import Any

from ...cluster.ray.exit_reasons import first_line
from ...cluster.ray.process_registry import process_key
from ...cluster.ray.session import ray_module
from ...events.errors import PipelineInvalid
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step
from ..worker.ray_actor import worker_actor
from .worker_table import Place

__all__ = ["WorkerFactory", "pack_steps"]


class WorkerFactory:
    """Starts the workers of one engine, and numbers them."""

    def __init__(self, codes: dict[Place, bytes], actor_prefix: str) -> None:
        self._codes = codes
        self._actor_prefix = actor_prefix
        self._numbers = itertools.count(1)
        self._classes: dict[Place, Any] = {}

    def make(self, place: Place, step: Step) -> tuple[int, Any]:
        """Start one: its number and its actor. Raises what Ray raises if it refuses."""
        if place not in self._classes:
            self._classes[place] = worker_actor(step.resources)
        worker = next(self._numbers)
        return worker, self._classes[place].remote(worker, self._codes[place], process_key(self._actor_prefix, worker))


def pack_steps(pipelines: Iterable[Pipeline]) -> dict[Place, bytes]:
    """Every step with its models, pickled for its workers.

    Raises: `PipelineInvalid` if a step cannot be pickled, or Ray refuses its claims.
    """
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
            except Exception as error:  # the author's objects may raise anything
                reason = first_line(error)
                raise PipelineInvalid(
                    f"step {step.name} cannot be sent to a worker, since what it refers to cannot be pickled "
                    f"({reason}): open files, connections and locks inside the step, or in __init__ of a step class"
                ) from error
    return codes
