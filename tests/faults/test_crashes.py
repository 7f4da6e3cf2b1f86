"""20,000 events over 40 kills: what was acknowledged over HTTP is in the log, complete, once, in order, and so outside.

One campaign is shared by all tests of this file; its table is shown at the end of the tests.
"""

from collections.abc import Callable

import pytest

from .campaign import Plan, Report, run_campaign

pytestmark = pytest.mark.timeout(480)
PLAN = Plan(
    events=20_000,
    kills={
        "worker": 26,
        "stopped worker": 2,
        "partition": 4,
        "keeper": 2,
        "everything": 2,
        "drain": 2,
        "raylet": 1,
        "gcs": 1,
    },
    rate=1000.0,
    minutes=6.0,
    pause_seconds=0.2,
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run_campaign(tmp_path_factory.mktemp("faults"), PLAN)


def test_no_acknowledged_event_is_lost(report: Report) -> None:
    assert report.findings.lost == 0


def test_no_event_is_applied_twice(report: Report) -> None:
    assert report.findings.doubled == 0
    assert report.acknowledged.contradictions == []


def test_events_of_one_key_are_booked_in_the_order_of_the_log_which_has_no_gap(report: Report) -> None:
    assert report.findings.counts == {}


def test_after_every_kill_work_goes_on_without_anybodys_help(
    report: Report, record_property: Callable[[str, object], None]
) -> None:
    record_property("figures", report.table())
    assert [kill for kill in report.kills if kill.stuck] == []
    assert report.last_exit == 0


def test_enough_was_acknowledged_and_enough_was_killed_to_mean_something(report: Report) -> None:
    assert len(report.acknowledged.runs) >= PLAN.events
    assert report.findings.runs >= PLAN.events
    assert len(report.kills) + report.skipped.get("keeper", 0) == sum(PLAN.kills.values())
    assert {kill.kind for kill in report.kills} >= set(PLAN.kills) - {"keeper"}
    assert report.findings.crashed > 0
    assert report.findings.outside_repeated > 0
    assert report.acknowledged.duplicates > 0
