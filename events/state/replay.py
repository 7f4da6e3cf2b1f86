"""Replay: the records of the log folded back into the state that they came from.

Rules: each record goes through `apply.APPLY`, as it did when it was written. A run whose pipeline version is not loaded
is left out, and the caller is told.
"""

from collections.abc import Mapping

from ..errors import CodecError
from ..pipelines.plan import Plan
from .apply import APPLY, begin_run
from .records import Record, RunRecord
from .state import Run, State

__all__ = ["fold"]

Runs = dict[int, Run]


def fold(state: State, plans: Mapping[str, Plan], runs: Runs, number: int, records: list[Record]) -> bool:
    """Apply the records of one entry to the run of this number; False if its pipeline version is not loaded.

    `runs` maps run numbers to runs, also to those that have ended; a run that begins is added to it.

    Raises: `CodecError` if this version does not know the kind of a record.
    """
    for record in records:
        if isinstance(record, RunRecord):
            plan = plans.get(record.pipeline)
            if plan is None or not plan.is_version(record.version):
                return False
            runs[number] = begin_run(state, plan, record)
            runs[number].number = number
            continue
        run = runs.get(number)
        if run is None:
            return False
        try:
            apply = APPLY[record.kind]
        except IndexError:
            raise CodecError(f"kind {record.kind} of a record is of a newer version of ensue") from None
        apply(state, run, record)
    return True
