"""References to steps: how `on_error` and `compensate` name the steps that they are for.

Rules: a step is named by its function or class, or by its name. An unknown step is an error that lists the known ones.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import PipelineInvalid
from .step import Step

__all__ = ["compensated_step", "handled_steps"]


def handled_steps(pipeline: str, steps: Mapping[str, Step], step: Callable[..., Any] | str) -> list[str]:
    """The steps whose failures a handler receives; the failure of a compensation goes to an operator instead."""
    hint = f"; write @{pipeline}.on_error() for the failures of all steps"
    names = _names_of(pipeline, steps, step, "on_error", hint)
    compensation = next((name for name in names if steps[name].compensates is not None), None)
    if compensation is not None:
        raise PipelineInvalid(
            f"on_error({compensation}): that is a compensation, and its failure waits for an operator instead of "
            "being handled: to be told of it, add a step with a parameter of CompensationBlocked"
        )
    return names


def compensated_step(pipeline: str, steps: Mapping[str, Step], step: Callable[..., Any] | str) -> str:
    """The one step that a compensation is for."""
    names = _names_of(pipeline, steps, step, "compensate")
    if len(names) > 1:
        raise PipelineInvalid(f"compensate: {', '.join(names)} are one function: pass the name of the step")
    name = names[0]
    if steps[name].compensates is not None:
        raise PipelineInvalid(f"compensate({name}): that is a compensation itself; it is tried until it succeeds")
    other = next((known.name for known in steps.values() if known.compensates == name), None)
    if other is not None:
        raise PipelineInvalid(f"compensate({name}): {other} compensates it already; do both in one")
    return name


def _names_of(
    pipeline: str, steps: Mapping[str, Step], step: Callable[..., Any] | str, decorator: str, hint: str = ""
) -> list[str]:
    """The names that a step was added under: not always that of its function, and sometimes several."""
    names = [name for name, known in steps.items() if step in (name, known.target)]
    if not names:
        shown = step if isinstance(step, str) else getattr(step, "__name__", repr(step))
        known = ", ".join(steps) or "none"
        raise PipelineInvalid(f"{decorator}({shown}): pipeline {pipeline} has no such step (known: {known}){hint}")
    return names
