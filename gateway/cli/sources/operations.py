"""The operations of an operator: a Protocol for a served engine and for a store.

Rules: both return the documents of the API. Reading a store does not disturb the engine that uses it. Changing a store
takes its lock first, as an engine does. Operations that need the code of the pipelines are refused on a store, with a
message that says what to do.
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
    """The operations of an operator."""

    def dead(self, filters: DeadLetterFilter, state: str, cursor: str | None, limit: int) -> "LettersOut":
        """A page of dead letters, newest first."""
        ...

    def letter(self, letter_id: str) -> "LetterDetailOut":
        """A dead letter with its history. Raises `LetterUnknown`."""
        ...

    def redrive(self, letter_id: str, data: Any) -> str:
        """Run a dead letter again; returns the id of its run."""
        ...

    def discard(self, letter_id: str) -> None:
        """Discard a dead letter."""
        ...

    def decide_all(self, action: str, filters: DeadLetterFilter, limit: int | None) -> "DecidedOut":
        """Redrive or discard all dead letters of a filter; an empty filter selects all that are open."""
        ...

    def breakers(self) -> "BreakersOut":
        """All breakers."""
        ...

    def force(self, name: str, *, opens: bool, seconds: float | None) -> "BreakerOut":
        """Open or close a breaker. Raises `BreakerUnknown`."""
        ...

    def status(self) -> "StatusOut":
        """The status of the engine or of the store."""
        ...

    def restart(self, pipeline: str) -> "RestartedOut":
        """Restart a pipeline."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


@contextmanager
def operations(url: str | None, store: str | None) -> Generator[Operations]:
    """The engine or the store that the options name."""
    if store is not None:
        from .store_operations import StoreOperations

        source: Operations = StoreOperations(store)
    else:
        from .http_operations import HttpOperations

        source = HttpOperations(url or DEFAULT_URL)
    try:
        yield source
    finally:
        source.close()
