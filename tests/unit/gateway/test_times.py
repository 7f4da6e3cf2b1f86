"""Times on the command line: what is parsed, and what an invalid text is told."""

from datetime import UTC, datetime, timedelta

import pytest

from ensue.gateway.cli.exit_codes import WrongUse
from ensue.gateway.cli.times import ago, moment_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90", 90),
        ("500ms", 0.5),
        ("10m", 600),
        ("10 min", 600),
        ("2h", 7200),
        ("1.5h", 5400),
        ("7d", 604_800),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "0s", "-5m", "soon", "5w", "1e3s", "nan", "9" * 30 + "d", "2h30m"])
def test_an_invalid_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(WrongUse, match=r"invalid --for .*: write a duration such as 90s"):
        seconds_of(text, "--for")


def test_a_point_in_time_is_a_duration_before_now_or_a_time() -> None:
    assert moment_of("2026-05-04T09:00Z", "--since") == datetime(2026, 5, 4, 9, tzinfo=UTC)
    assert moment_of("2026-05-04T09:00+02:00", "--since") == datetime(2026, 5, 4, 7, tzinfo=UTC)
    assert ago(moment_of("2h", "--since")) == "2 h ago"
    assert ago(datetime.now(UTC) + timedelta(hours=1)) == "0 s ago"
    with pytest.raises(WrongUse, match="invalid --since 'soon': write a duration such as 2h"):
        moment_of("soon", "--since")
