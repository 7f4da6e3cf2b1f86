"""Run queries: what engines ask the log about runs that have ended, and about the past of live ones."""

from collections.abc import Iterable, Mapping

from ...cluster.log.protocol import DeadFilter, DeadLetter, Reader
from ...events.decide.inputs import Redrive, Revive
from ...events.decide.refusals import not_loaded
from ...events.errors import RunFinished, RunUnknown
from ...events.ids import format_id
from ...events.pipelines.plan import Plan
from ...events.state.records import unpack_records
from ...events.state.replay import fold
from ...events.state.run_status import LIVE, Status
from ...events.state.state import Run, State
from ...events.views.earlier_events import Packed, earlier

__all__ = ["all_letters", "earlier_events", "finished_run", "redrive_input", "revive_input"]

_PAGE = 200


def finished_run(reader: Reader, plans: Mapping[str, Plan], run_id: bytes) -> tuple[Run, Status] | None:
    """A run that has ended, rebuilt from its records, with its status; None while it is live.

    Raises `RunUnknown` if no run has the id or its pipeline version is not loaded here.
    """
    row = reader.run(run_id)
    if row is None:
        raise RunUnknown(f"no run has the id {format_id(run_id)}")
    if row.status in LIVE:
        return None
    runs: dict[int, Run] = {}
    state = State()
    for entry in reader.entries(row.run):
        if not fold(state, plans, runs, row.run, unpack_records(entry.body)):
            raise not_loaded(run_id, row.pipeline)
    return runs[row.run], Status(row.status)


def revive_input(reader: Reader, run_id: bytes) -> Revive:
    """The input that retries a run. Raises `RunUnknown`, `RunFinished`."""
    row = reader.run(run_id)
    if row is None:
        raise RunUnknown(f"no run has the id {format_id(run_id)}")
    if row.status in LIVE:
        raise RunFinished(f"run {format_id(run_id)} is in flight: there is nothing to retry")
    as_of = reader.next_offset()  # before the records are read: they may be newer than this offset, never older
    letters = all_letters(reader, DeadFilter(run_id=run_id, state=None))
    entries = [unpack_records(entry.body) for entry in reader.entries(row.run)]
    return Revive(
        run_id, row.run, entries, as_of=as_of, letters=_in(letters, "open"), discarded=_in(letters, "discarded")
    )


def _in(letters: Iterable[DeadLetter], state: str) -> frozenset[int]:
    return frozenset(letter.delivery for letter in letters if letter.state == state)


def redrive_input(reader: Reader, letter: DeadLetter) -> Redrive:
    """The input that decides on a dead letter; the caller fills in who decides, and what."""
    as_of = reader.next_offset()  # as above
    entries = [unpack_records(entry.body) for entry in reader.entries(letter.run)]
    entry = Redrive(letter.run_id, letter.run, letter.delivery, "python", entries=entries, as_of=as_of)
    entry.blocked = letter.blocked
    entry.discarded = _in(all_letters(reader, DeadFilter(run_id=letter.run_id, state="discarded")), "discarded")
    return entry


def all_letters(reader: Reader, wanted: DeadFilter, limit: int | None = None) -> list[DeadLetter]:
    """These dead letters, newest first. All are read first, so one that fails again is not listed twice."""
    found: list[DeadLetter] = []
    while limit is None or len(found) < limit:
        page = reader.dead(wanted, after=found[-1].letter_id if found else None, limit=_PAGE)
        found += page
        if len(page) < _PAGE:
            break
    return found[:limit]


def earlier_events(reader: Reader, plans: Mapping[str, Plan], run_id: bytes, type_: str) -> list[Packed]:
    """The events of a type in a run so far, oldest first."""
    row = reader.run(run_id)
    if row is None or row.pipeline not in plans:
        return []
    return earlier((record for entry in reader.entries(row.run) for record in unpack_records(entry.body)), type_)
