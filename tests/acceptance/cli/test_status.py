"""`ensue breaker`, `status` and `pipelines`: on a served engine and on a store."""

import json
from collections.abc import Callable

import pytest

from ensue import Pipeline
from ensue.cluster.log.open import open_log, open_reader
from ensue.cluster.log.protocol import Batch, Fact
from ensue.events.policies.breaker import BreakerSignal, BreakerState, BreakerView
from ensue.gateway.cli.store_lock import hold

from ..stand_in import StandInEngine
from .dead_letters import Ensue, OrderPlaced, make_pipeline


@pytest.fixture
def engine() -> StandInEngine:
    engine = StandInEngine([make_pipeline()])
    view = BreakerView("orders/charge", ("orders/charge",), "open", False, 1, None, 9, 9, 1, "5 failures in a row", 7)
    engine.breaker_views = {
        "orders/charge": view,
        "bank": view._replace(name="bank", status="closed", waiting=0, reason=""),
    }
    return engine


def test_breakers_of_a_served_engine_are_listed_opened_and_closed(
    ensue: Ensue, engine: StandInEngine, url: str
) -> None:
    where = ("--url", url)
    rows = [row.split()[:2] for row in ensue("breaker", "list", *where)[1].splitlines()]
    assert rows == [["breaker", "status"], ["bank", "closed"], ["orders/charge", "open"]]
    assert ensue("breaker", "open", "bank", "--for", "10m", *where)[0] == 0
    assert ensue("breaker", "close", "orders/charge", *where)[1] == "breaker orders/charge is closed\n"
    assert [done[:3] for done in engine.done] == [("open", "bank", 600.0), ("close", "orders/charge", None)]
    code, _, err = ensue("breaker", "close", "nope", *where)
    assert (code, "known breakers: bank, orders/charge" in err) == (2, True)
    assert ensue("breaker", "open", "bank", "--for", "ever", *where)[0] == 2


def test_a_breaker_of_a_store_is_forced_and_stored_for_the_next_engine(
    ensue: Ensue, store: str, filled: Callable[..., list[str]]
) -> None:
    filled()
    where = ("--store", store)
    code, _, err = ensue("breaker", "open", "orders/pack", "--for", "400d", *where)
    assert (code, "at most a year" in err) == (2, True)
    assert ensue("breaker", "open", "orders/pack", *where)[1].startswith("breaker orders/pack is open")
    reader = open_reader(store)
    (fact,) = reader.facts("breaker")
    (row,) = reader.audit(subject="orders/pack")
    reader.close()
    breaker = BreakerState(fact.name, None)
    breaker.restore(fact.body or b"")
    assert (fact.name, breaker.status, breaker.forced, row.action) == ("orders/pack", "open", True, "breaker open")
    assert json.loads(ensue("status", *where, "--json")[1])["breakers"][0]["name"] == "orders/pack"
    assert ensue("breaker", "close", "orders/pack", *where)[1] == "breaker orders/pack is closed\n"
    assert ensue("breaker", "open", "orders/nope", *where)[0] == 2


def test_a_breaker_of_a_store_has_the_name_that_the_engine_uses(ensue: Ensue, store: str) -> None:
    flow = Pipeline("orders")

    @flow.step(breaker="warehouse")
    def reserve(event: OrderPlaced) -> None: ...

    @flow.step
    def charge(event: OrderPlaced) -> None: ...

    log = open_log(store)
    log.define("orders", "v1", flow.graph().to_json().encode(), 1)
    log.close()
    code, _, err = ensue("breaker", "open", "orders/reserve", "--store", store)
    assert (code, "known breakers: orders/charge, warehouse" in err) == (2, True)
    assert ensue("breaker", "open", "warehouse", "--store", store)[0] == 0


def test_the_status_of_a_store_says_whether_an_engine_uses_it(
    ensue: Ensue, store: str, filled: Callable[..., list[str]]
) -> None:
    filled()
    breaker = BreakerState("bank", None)
    breaker.move(BreakerSignal.FORCED_OPEN, 1)
    log = open_log(store)
    log.commit(Batch(log.acquire("x"), facts=[Fact("breaker", "bank", breaker.pack(), 1)]))
    log.close()
    code, out, err = ensue("status", "--store", store)
    assert (code, err) == (0, "")
    assert out.startswith("engine not running\n")
    said = [" ".join(line.split()) for line in out.splitlines()]
    assert "orders/charge 3 1 d ago" in said
    assert "orders 3 running" in said
    assert any(line.startswith("bank open") for line in said)
    with hold(store, "`ensue serve`"):
        assert ensue("status", "--store", store)[1].startswith("engine in use by `ensue serve` (pid ")


def test_the_status_of_an_engine_shows_restarts_and_their_reasons(
    ensue: Ensue, engine: StandInEngine, url: str
) -> None:
    worker = {
        "name": "charge-1",
        "kind": "worker",
        "status": "restarting",
        "pid": 7,
        "restarts": 2,
        "reason": "SIGSEGV",
    }
    well = {"name": "charge-2", "kind": "worker", "status": "up", "pid": 8, "restarts": 1}
    step = {"name": "charge", "kind": "step", "status": "up", "restarts": 2, "children": [worker, well]}
    engine.tree_children = [{"name": "orders", "kind": "pipeline", "status": "failed", "children": [step]}]
    code, out, err = ensue("status", "--url", url)
    assert (code, err) == (0, "")
    assert out.startswith("engine ready  durability memory\norders  failed\n└── charge  up  1/2 workers  2 restarts")
    assert "    └── charge-1  restarting  2 restarts  SIGSEGV\n" in out
    assert "charge-2" not in out
    assert json.loads(ensue("status", "--url", url, "--json")[1])["tree"]["children"][0]["status"] == "failed"
    engine.said = "failed: no disk"
    assert ensue("status", "--url", url)[0] == 1
    engine.said = "ready"


def test_a_pipeline_is_restarted(ensue: Ensue, engine: StandInEngine, url: str) -> None:
    assert ensue("pipelines", "restart", "orders", "--url", url)[0] == 0
    assert engine.done[0][:2] == ("restart", "orders")
    code, _, err = ensue("pipelines", "restart", "nope", "--url", url)
    assert (code, "served: orders" in err) == (2, True)
