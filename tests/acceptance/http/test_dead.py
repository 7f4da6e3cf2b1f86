"""Dead letters over HTTP: list, show, redrive and discard, one or many, with the audit."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline
from ensue.cluster.log.protocol import DeadLetter
from ensue.events.ids import format_id, parse_id, uuid7
from ensue.events.state.records import AttemptRecord, EventRecord, FailedRecord, RecordKind, unpack_records
from ensue.gateway.api.app import create_app

from ..stand_in import StandInEngine

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"
FIRST_US = 1_760_000_000_000_000


class OrderPlaced(Event):
    order_id: str
    amount: float


def _pipeline() -> Pipeline:
    orders = Pipeline("orders")

    @orders.step
    def charge(event: OrderPlaced) -> None: ...

    return orders


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine([_pipeline()])


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(engine, environment={}))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484") as client:
        yield client


async def _add_letter(client: httpx.AsyncClient, engine: StandInEngine, number: int = 0, **fields: Any) -> str:
    """A run whose one step gave up after two attempts; the id of its dead letter."""
    answer = await client.post("/events", json={"type": "OrderPlaced", "data": {"order_id": "o-1", "amount": 9.5}})
    event_id, run_id = (parse_id(answer.json()[name]) for name in ("event_id", "run_id"))
    row = engine.reader().run(run_id)
    assert row is not None
    time_us = FIRST_US + number * 1_000_000
    again = FailedRecord(
        RecordKind.FAILED,
        1,
        1,
        "transient",
        "ConnectionError",
        "refused",
        "a trace",
        time_us - 9,
        time_us - 5,
        "charge",
    )
    last = FailedRecord(
        RecordKind.FAILED, 1, 2, "permanent", "CardExpired", "in 2024", "the trace", time_us, None, "charge"
    )
    begun = [
        AttemptRecord(RecordKind.ATTEMPT, 1, "charge", attempt, time_us - 20 + attempt, [event_id])
        for attempt in (1, 2)
    ]
    engine.append(row.run, begun[0], again, begun[1], last)
    letter = DeadLetter(
        uuid7(time_us // 1000, b"%010d" % number),
        row.run,
        run_id,
        1,
        "orders",
        "charge",
        "OrderPlaced",
        event_id,
        "permanent",
        "CardExpired",
        "in 2024",
        2,
        time_us,
    )._replace(**fields)
    engine.add_dead_letter(letter)
    return format_id(letter.letter_id)


async def _ids(client: httpx.AsyncClient, **query: str) -> list[str]:
    answer = await client.get("/dead", params=query)
    assert answer.status_code == 200, answer.text
    return [letter["id"] for letter in answer.json()["dead"]]


def _problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"urn:ensue:problem:{name}"), document
    return document


# -- found and read --------------------------------------------------------------------------------------------------


async def test_dead_letters_come_newest_first_in_pages(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    letters = [await _add_letter(client, engine, number) for number in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await client.get("/dead", params={"limit": "2", **({"cursor": cursor} if cursor else {})})).json()
        assert len(page["dead"]) <= 2
        seen += [letter["id"] for letter in page["dead"]]
        cursor = page["next_cursor"]
    assert seen == letters[::-1]


async def test_dead_letters_are_filtered(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    plain = await _add_letter(client, engine, 1)
    other = await _add_letter(
        client, engine, 2, pipeline="parcels", step="pack", kind="transient", error="TimeoutError"
    )
    typed = await _add_letter(client, engine, 3, event_type="Placed2")
    settled = await _add_letter(client, engine, 4, state="discarded")
    assert await _ids(client) == [typed, other, plain]
    assert await _ids(client, pipeline="parcels") == [other]
    assert await _ids(client, step="pack") == await _ids(client, kind="transient") == [other]
    assert await _ids(client, error="CardExpired", event_type="OrderPlaced") == [plain]
    assert await _ids(client, state="discarded") == [settled]
    assert await _ids(client, state="any") == [settled, typed, other, plain]
    run_id = (await client.get(f"/dead/{plain}")).json()["run_id"]
    assert await _ids(client, run_id=run_id) == [plain]


async def test_dead_letters_are_filtered_by_time(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    letters = [await _add_letter(client, engine, number) for number in range(3)]
    second = datetime.fromtimestamp(FIRST_US / 1_000_000 + 1, UTC).isoformat().replace("+00:00", "Z")
    assert await _ids(client, before=second) == letters[:1]
    assert await _ids(client, after=second) == letters[:0:-1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "gone"}, "state"),
        ({"limit": "0"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"run_id": "x"}, "run_id"),
        ({"before": "yesterday"}, "before"),
        ({"after": "2026-05-04T09:12:44"}, "after"),
    ],
)
async def test_a_filter_that_is_not_valid_is_named(
    client: httpx.AsyncClient, query: dict[str, str], field: str
) -> None:
    document = _problem(await client.get("/dead", params=query), 422, "parameter-invalid")
    assert document["errors"][0]["field"] == field


async def test_a_letter_shows_its_event_its_trace_and_every_attempt(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    letter_id = await _add_letter(client, engine)
    letter = (await client.get(f"/dead/{letter_id}")).json()
    assert (letter["step"], letter["error"], letter["trace"], letter["state"]) == (
        "charge",
        "CardExpired",
        "the trace",
        "open",
    )
    (event,) = letter["events"]
    assert (event["id"], event["data"]) == (letter["event_id"], {"order_id": "o-1", "amount": 9.5})
    first, last = letter["history"]
    assert (first["number"], first["outcome"], first["error"], first["retry"] is None) == (
        1,
        "failed",
        "ConnectionError",
        False,
    )
    assert (last["number"], last["message"], last["retry"]) == (2, "in 2024", None)
    assert first["started"] < first["ended"] < last["ended"]
    assert letter["audit"] == []


@pytest.mark.parametrize("letter_id", [UNKNOWN, "x", "1" * 200, "%00"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/redrive"), ("DELETE", "")])
async def test_an_unknown_letter_is_a_404(client: httpx.AsyncClient, letter_id: str, method: str, path: str) -> None:
    _problem(await client.request(method, f"/dead/{letter_id}{path}"), 404, "letter-unknown")


# -- decided ---------------------------------------------------------------------------------------------------------


async def test_a_redriven_letter_is_settled_and_the_audit_names_the_caller(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    letter_id = await _add_letter(client, engine)
    before = (await client.get(f"/dead/{letter_id}")).json()
    answer = await client.post(f"/dead/{letter_id}/redrive", headers={"ensue-who": "alice"})
    assert (answer.status_code, answer.json()) == (200, {"run_id": before["run_id"]})
    (row,) = (await client.get(f"/dead/{letter_id}")).json()["audit"]
    assert (row["who"], row["action"], row["subject"]) == ("http 127.0.0.1 (alice)", "redriven", letter_id)
    assert (await client.get("/audit", params={"subject": letter_id})).json() == {"audit": [row]}
    assert await _ids(client) == []
    _problem(await client.post(f"/dead/{letter_id}/redrive"), 409, "letter-closed")
    _problem(await client.delete(f"/dead/{letter_id}"), 409, "letter-closed")


@pytest.mark.parametrize("name", ["", "   ", "a" * 65, "b\x7f"])
async def test_an_invalid_caller_name_is_left_out_of_the_audit(
    client: httpx.AsyncClient, engine: StandInEngine, name: str
) -> None:
    letter_id = await _add_letter(client, engine)
    await client.delete(f"/dead/{letter_id}", headers={"ensue-who": name})
    (row,) = (await client.get("/audit")).json()["audit"]
    assert row["who"] == "http 127.0.0.1"


async def test_a_letter_is_redriven_with_other_data(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    letter_id = await _add_letter(client, engine)
    data = {"order_id": "o-2", "amount": 1.0}
    assert (await client.post(f"/dead/{letter_id}/redrive", json={"data": data})).status_code == 200
    assert engine.done == [("redrive", parse_id(letter_id), data, "http 127.0.0.1")]


@pytest.mark.parametrize(
    ("body", "name", "field"),
    [
        ({"data": {"order_id": "o-1"}}, "event-invalid", "amount"),
        ({"data": {"order_id": "o-1", "amount": "much"}}, "event-invalid", "amount"),
        ({"data": [1]}, "parameter-invalid", "data"),
        ({"date": {}}, "parameter-invalid", "date"),
    ],
)
async def test_invalid_data_is_refused_and_the_letter_stays_open(
    client: httpx.AsyncClient, engine: StandInEngine, body: dict[str, Any], name: str, field: str
) -> None:
    letter_id = await _add_letter(client, engine)
    document = _problem(await client.post(f"/dead/{letter_id}/redrive", json=body), 422, name)
    assert document["errors"][0]["field"] == field
    assert await _ids(client) == [letter_id]


async def test_a_discarded_letter_is_kept_as_discarded(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    letter_id = await _add_letter(client, engine)
    assert (await client.delete(f"/dead/{letter_id}")).json()["state"] == "discarded"
    assert await _ids(client, state="discarded") == [letter_id]


@pytest.mark.parametrize("action", ["redrive", "discard"])
async def test_many_are_redriven_or_discarded_by_a_filter(
    client: httpx.AsyncClient, engine: StandInEngine, action: str
) -> None:
    letters = [await _add_letter(client, engine, number) for number in range(3)]
    other = await _add_letter(client, engine, 9, step="pack")
    answer = await client.post(f"/dead/{action}", json={"step": "charge", "limit": 2})
    assert answer.json() == {"decided": 2, "refused": []}
    assert await _ids(client) == [other, letters[0]]
    assert (await client.post(f"/dead/{action}", json={"all": True})).json()["decided"] == 2
    assert await _ids(client) == []


@pytest.mark.parametrize("action", ["redrive", "discard"])
@pytest.mark.parametrize("body", [{}, {"limit": 5}, {"all": False}, {"stepp": "charge"}, {"run_id": "x"}, None])
async def test_an_empty_filter_changes_nothing(
    client: httpx.AsyncClient, engine: StandInEngine, action: str, body: dict[str, Any] | None
) -> None:
    letter_id = await _add_letter(client, engine)
    _problem(await client.post(f"/dead/{action}", json=body), 422, "parameter-invalid")
    assert await _ids(client) == [letter_id]


async def test_the_event_that_was_accepted_is_not_changed_by_reading(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    letter_id = await _add_letter(client, engine)
    end = engine.log.next_offset()
    await client.get(f"/dead/{letter_id}")
    assert engine.log.next_offset() == end
    _, trigger = unpack_records(engine.reader().scan(1, 1)[0].body)
    assert isinstance(trigger, EventRecord)
    assert trigger.type == "OrderPlaced"
