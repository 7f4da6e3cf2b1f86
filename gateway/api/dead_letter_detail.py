"""The detail of a dead letter, read from the log: its events, its attempts and its audit rows."""

from ...cluster.log.protocol import DeadLetter, Reader
from ...events.errors import EnsueError, LetterUnknown
from ...events.ids import format_id, parse_id
from ...events.views.attempts import read_attempts
from ...events.views.run_history import read_history
from ..schemas.dead_letters import LetterDetailOut

__all__ = ["find_letter", "letter_detail"]


def find_letter(reader: Reader, letter_id: str) -> DeadLetter:
    """The dead letter with this id, open or settled. Raises `LetterUnknown`, also if the text is not an id."""
    try:
        raw = parse_id(letter_id)
    except EnsueError as error:
        raise LetterUnknown(f"{error}; `ensue dead list` shows the ids") from None
    letter = reader.dead_letter(raw)
    if letter is None:
        raise LetterUnknown(f"there is no dead letter with the id {format_id(raw)}")
    return letter


def letter_detail(reader: Reader, letter: DeadLetter) -> LetterDetailOut:
    """A dead letter with its events, its attempts and its audit rows."""
    entries = reader.entries(letter.run)
    tried = read_attempts((entry.body for entry in entries), letter.delivery)
    inputs = set(tried.inputs) or {letter.event_id}
    history = read_history((entry.offset, entry.body) for entry in entries)
    events = [event for event in history.events if event.id in inputs]
    audit = reader.audit(subject=format_id(letter.letter_id))
    return LetterDetailOut.of_history(letter, events, tried, audit)
