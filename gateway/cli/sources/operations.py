"""Where the command line finds what an operator looks at and decides on: a served engine, or a store.

Rules: both answer with the documents of the API. Whoever owns a store goes on while it is read. What changes a store
takes its lock first, as an engine does; what needs the pipelines' code is refused there, and says what to do.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from .dead_letter_filter import DeadLetterFilter

if TYPE_CHECKING:
    from ...schemas.dead_letters import DecidedOut, LetterDetailOut, LettersOut
    from ...schemas.pipelines import RestartedOut
    from ...schemas.status import BreakerOut, BreakersOut, StatusOut

__all__ = ["DEFAULT_URL", "Operations", "operations"]

DEFAULT_URL = "http://127.0.0.1:8484"


class Operations(Protocol):
    """What an operator can ask for."""

    def dead(self, words: DeadLetterFilter, state: str, cursor: str | None, limit: int) -> "LettersOut":
        """A page of dead letters, newest first."""
        ...

    def letter(self, letter_id: str) -> "LetterDetailOut":
        """A dead letter with its past."""
        ...

    def redrive(self, letter_id: str, data: Any) -> str:
        """Run one again; the run that goes on."""
        ...

    def discard(self, letter_id: str) -> None:
        """Let one go."""
        ...

    def decide_all(self, action: str, words: DeadLetterFilter, limit: int | None) -> "DecidedOut":
        """Redrive or discard all that a filter names; one that names nothing is all."""
        ...

    def breakers(self) -> "BreakersOut":
        """All breakers."""
        ...

    def force(self, name: str, *, opens: bool, seconds: float | None) -> "BreakerOut":
        """Open or close a breaker."""
        ...

    def status(self) -> "StatusOut":
        """How things stand."""
        ...

    def restart(self, pipeline: str) -> "RestartedOut":
        """Begin anew with a pipeline."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


@contextmanager
def operations(url: str | None, store: str | None) -> Generator[Operations]:
    """Where the options say."""
    if store is not None:
        from .store_operations import StoreOperations

        found: Operations = StoreOperations(store)
    else:
        from .http_operations import HttpOperations

        found = HttpOperations(url or DEFAULT_URL)
    try:
        yield found
    finally:
        found.close()
