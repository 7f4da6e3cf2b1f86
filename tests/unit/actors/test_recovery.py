"""Recovery from a log that this version cannot read."""

from typing import Any
from unittest.mock import Mock

import pytest

from ensue import Event, Pipeline
from ensue.actors.partition.recovery import recover
from ensue.events.errors import LogCorrupt, LogNewer
from ensue.events.pipelines.plan import compile_plan
from ensue.events.state.new_records import run_record
from ensue.events.state.records import pack_records

flow = Pipeline("flow")


class Order(Event):
    pass


@flow.step
def work(order: Order) -> None:
    return None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (pack_records([run_record(bytes(16), "flow", "1", "", None), (99, "of a newer version")]), LogNewer),
        (b"\xc1", LogCorrupt),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_with_the_offset(body: bytes, error: type[Exception]) -> None:
    log: Any = Mock(**{"snapshots.return_value": [], "live.return_value": [(7, 7, 2, body)]})
    with pytest.raises(error, match="the entry at offset 7 cannot be read"):
        recover(log, 1, {"flow": compile_plan(flow.declaration, "1")})
