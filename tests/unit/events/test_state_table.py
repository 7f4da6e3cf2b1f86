"""The diagrams in the documentation are those that the code's own tables give."""

from pathlib import Path

import pytest

from ensue.actors.worker.retry_decision import MOST_ATTEMPTS
from ensue.events.decide.dead_letters import LETTERS
from ensue.events.drawing.state_table import Row, mermaid_states, rows_of, rows_of_limits
from ensue.events.policies.breaker import TRANSITIONS
from ensue.events.state.delivery_status import DELIVERIES
from ensue.events.state.phases import PHASES

DOCS = Path(__file__).parents[3] / "docs" / "explanation"
PICTURES = {
    "breakers.md": (rows_of(TRANSITIONS.items()), "closed"),
    "compensation.md": (rows_of(PHASES.items()), "forward"),
    "dead-letters.md": (rows_of(LETTERS.items()), "open"),
    "loop.md": (rows_of(DELIVERIES.items()), "ready"),
    "failures.md": (rows_of_limits(MOST_ATTEMPTS.items()), "running"),
}


@pytest.mark.parametrize("page", PICTURES)
def test_the_page_shows_what_the_table_draws(page: str) -> None:
    rows, start = PICTURES[page]
    drawn = mermaid_states(rows, start=start)
    assert f"```mermaid\n{drawn}```" in (DOCS / page).read_text(), f"put this into {page}:\n{drawn}"


def test_a_row_is_an_arrow() -> None:
    rows: list[Row] = [("closed", "tripped", "open")]
    assert mermaid_states(rows, start="closed") == "stateDiagram-v2\n    [*] --> closed\n    closed --> open: tripped\n"
