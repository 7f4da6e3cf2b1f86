"""The command `ensue runs` on a store, the lock of a store, and the picture of a run."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ensue import Context, Event, Pipeline, Retry
from ensue.cluster.log.open import open_reader
from ensue.events.errors import LogUnavailable
from ensue.events.ids import parse_id
from ensue.events.state.records import unpack_records
from ensue.events.state.run_status import Status
from ensue.events.views.progress import Progress, StepPhase, causal_order, waits_for
from ensue.gateway.cli.main import main
from ensue.gateway.cli.sources.store import LogWatch
from ensue.gateway.cli.store_lock import hold, holder
from ensue.gateway.cli.terminal.picture import line, picture
from ensue.testing import LocalEngine

DEADLINE_SECONDS = 20


class Basket(Event):
    items: list[str]


class Item(Event):
    name: str


class Packed(Event):
    name: str


class Paid(Event):
    amount: int


class Sent(Event):
    names: list[str]


shop = Pipeline("shop")


@shop.step
def pay(event: Basket) -> Paid:
    return Paid(amount=len(event.items))


@shop.step
def unfold(event: Basket) -> list[Item]:
    return [Item(name=name) for name in event.items]


@shop.step(retry=Retry(attempts=2, wait=1))
def pack(event: Item, ctx: Context) -> Packed:
    if event.name == "broken" or (event.name == "sticky" and ctx.attempt == 1):
        raise ValueError(f"cannot pack\n{event.name}\x1b[31m")
    return Packed(name=event.name)


@shop.step
def send(paid: Paid, packed: list[Packed]) -> Sent:
    return Sent(names=[one.name for one in packed])


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shop.db"


Fill = Callable[..., list[str]]


@pytest.fixture
def fill(store: str) -> Fill:
    """Runs baskets to their end on the store; their run ids."""

    async def go(baskets: tuple[list[str], ...]) -> list[str]:
        async with LocalEngine(shop, store=store) as engine:
            handles = [await engine.emit(Basket(items=items)) for items in baskets]
            return [(await handle.result(10)).run_id for handle in handles]

    return lambda *baskets: asyncio.run(go(baskets))


def _ensue(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert isinstance(ended.value.code, int)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def _drawn(watch: LogWatch) -> str:
    console = Console(width=100, file=None, force_terminal=False)
    frame = watch.frame()
    with console.capture() as capture:
        console.print(picture(frame, frame.started_us + 1_000_000, 100))
    return capture.get()  # unbounded: the text that was captured


# The commands.


def test_runs_are_listed_newest_first(store: str, fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = fill(["hat"], ["broken"])
    code, out, err = _ensue(capsys, "runs", "list", "--store", store)
    rows = out.splitlines()
    assert (code, err) == (0, "")
    assert rows[0].split() == ["run", "status", "pipeline", "trigger", "started", "took"]
    assert [row.split()[:4] for row in rows[1:]] == [
        [second, "failed", "shop", "Basket"],
        [first, "completed", "shop", "Basket"],
    ]


def test_a_list_is_filtered_and_paged(store: str, fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    ids = fill(["a"], ["b"], ["broken"])
    where = ("--store", store, "--json")
    failed = json.loads(_ensue(capsys, "runs", "list", "--status", "failed", *where)[1])
    assert [run["run_id"] for run in failed["runs"]] == [ids[2]]
    page = json.loads(_ensue(capsys, "runs", "list", "--limit", "2", *where)[1])
    rest = json.loads(_ensue(capsys, "runs", "list", "--cursor", page["next_cursor"], *where)[1])
    assert [run["run_id"] for run in page["runs"] + rest["runs"]] == ids[::-1]
    assert rest["next_cursor"] is None


def test_a_run_is_shown_as_the_tree_of_its_events(store: str, fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = fill(["hat", "sticky"])
    code, out, err = _ensue(capsys, "runs", "show", run_id, "--store", store)
    assert (code, err) == (0, "")
    assert out.startswith(f"shop  completed in 1.0 s  run {run_id}\n")
    assert 'Basket {"items": ["hat", "sticky"]}' in out
    assert 'pack → Packed (attempt 2) {"name": "sticky"}' in out


def test_a_run_as_json_is_the_document_of_the_api(store: str, fill: Fill, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = fill(["hat"])
    run = json.loads(_ensue(capsys, "runs", "show", run_id, "--store", store, "--json")[1])
    assert (run["run_id"], run["status"], run["trigger_type"]) == (run_id, "completed", "Basket")
    assert [(event["type"], event["data"]) for event in run["events"]] == [("Sent", {"names": ["hat"]})]
    assert {step["name"]: step["done"] for step in run["steps"]} == {"pay": 1, "unfold": 1, "pack": 1, "send": 1}


def test_control_characters_in_the_errors_of_a_run_are_escaped(
    store: str, fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_id,) = fill(["hat", "broken"])
    code, out, _ = _ensue(capsys, "runs", "show", run_id, "--store", store)
    assert code == 0
    assert "  pack ValueError: cannot pack broken\\x1b[31m  (transient, 2 attempts, " in out
    assert "\x1b" not in out


def test_watching_a_run_that_has_ended_prints_its_outcome(
    store: str, fill: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    done, failed = fill(["hat"], ["broken"])
    code, out, err = _ensue(capsys, "runs", "watch", done, "--store", store)
    assert (code, out.splitlines()[1]) == (0, '  Sent {"names": ["hat"]}')
    assert f"shop: run {done} of Basket" in err
    code, out, _ = _ensue(capsys, "runs", "watch", "--store", store, "--json")
    assert code == 1
    assert [json.loads(text)["run_id"] for text in out.splitlines()] == [failed]


@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_a_store_is_only_read(store: str, fill: Fill, capsys: pytest.CaptureFixture[str], what: str) -> None:
    (run_id,) = fill(["broken"])
    code, out, err = _ensue(capsys, "runs", what, run_id, "--store", store)
    assert (code, out) == (2, "")
    assert f"ensue serve TARGET --store {store}" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "abc"], 2, "'abc' is not an id"),
        (["show", "01890a5d-ac96-774b-bcce-b302099a8057"], 2, "there is no run with the id"),
        (["list", "--cursor", "xyz"], 2, "pass next_cursor from the previous page"),
    ],
)
def test_an_unknown_run_or_cursor_is_one_line(  # noqa: PLR0917 - pytest gives them by name
    store: str, fill: Fill, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    fill(["hat"])
    ended, out, err = _ensue(capsys, "runs", *words, "--store", store)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert said in err


def test_a_missing_store_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _ensue(capsys, "runs", "list", "--store", f"sqlite:///{tmp_path}/none.db")
    assert (code, out) == (2, "")
    assert "There is no store at" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:9", 1, "no engine answers at http://127.0.0.1:9: start one"),
        ("127.0.0.1:8484", 2, "invalid --url"),
        ("ftp://x", 2, "invalid --url"),
    ],
)
def test_an_engine_that_does_not_answer_is_one_line(
    capsys: pytest.CaptureFixture[str], url: str, code: int, said: str
) -> None:
    ended, out, err = _ensue(capsys, "runs", "list", "--url", url)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert said in err


# Two engines on one store.


def test_a_store_in_use_is_locked_and_names_the_holder(store: str, tmp_path: Path) -> None:
    refused = pytest.raises(LogUnavailable, match=r"in use by `ensue serve` \(pid \d+\)")
    with hold(store, "`ensue serve`"), refused, hold(store, "`ensue run`"):
        pytest.fail("it was held twice")
    with hold(store, "`ensue run`"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_waiting_process_gets_the_store_when_the_holder_ends(store: str) -> None:
    held, on_wait = threading.Event(), threading.Event()
    said: list[str] = []

    def wait() -> None:
        def tell(holder: str) -> None:
            said.append(holder)
            on_wait.set()

        with hold(store, "`ensue serve`", wait_seconds=DEADLINE_SECONDS, on_wait=tell):
            said.append(str(holder(store)))
            held.set()

    waiting = threading.Thread(target=wait)
    with hold(store, "`ensue run`"):
        waiting.start()
        assert on_wait.wait(DEADLINE_SECONDS)
        assert not held.is_set()
    assert held.wait(DEADLINE_SECONDS)
    waiting.join(DEADLINE_SECONDS)
    assert [text.partition(" (")[0] for text in said] == ["`ensue run`", "`ensue serve`"]
    assert holder(store) is None


def test_a_process_that_waits_too_long_is_refused(store: str) -> None:
    refused = pytest.raises(LogUnavailable, match="in use by `ensue serve`")
    with hold(store, "`ensue serve`"), refused, hold(store, "`ensue run`", wait_seconds=0.01):
        pytest.fail("it was held twice")


def test_a_memory_store_is_never_locked() -> None:
    with hold("memory://", "one"), hold("memory://", "two"):
        pass


# The picture.


def test_a_picture_is_in_causal_order() -> None:
    graph = shop.graph()
    assert causal_order(graph, "Basket") == ["pay", "unfold", "pack", "send"]
    assert causal_order(graph, "Item") == ["pack", "send"]
    assert waits_for(graph, "send") == "Paid and all Packed"


def test_a_picture_shows_counts_retries_and_results(store: str, fill: Fill) -> None:
    (run_id,) = fill(["hat", "sticky", "shoe"])
    watch = LogWatch(open_reader(store), parse_id(run_id))
    drawn = [text.split() for text in _drawn(watch).splitlines()]
    watch.close()
    assert drawn[0][:2] == ["shop", "completed"]
    assert drawn[2][:3] == ["✔", "unfold", "done"]
    assert drawn[2][-3:] == ["→", "3", "Item"]
    assert drawn[3][:2] == ["✔", "pack"]
    assert "3/3" in drawn[3]
    assert "4 attempts" in " ".join(drawn[3])
    assert drawn[4][-2:] == ["→", "Sent"]


def test_a_picture_of_a_failed_run_shows_the_error_and_what_was_not_reached(store: str, fill: Fill) -> None:
    (run_id,) = fill(["hat", "broken"])
    watch = LogWatch(open_reader(store), parse_id(run_id), shop)
    text = _drawn(watch)
    watch.close()
    assert "1 failed: ValueError: cannot pack broken\\x1b[31m" in text
    assert ["○", "send", "not", "reached"] in [row.split() for row in text.splitlines()]
    assert all(len(row) <= 100 for row in text.splitlines())


def test_a_step_is_pending_then_running_then_retrying_then_done(store: str, fill: Fill) -> None:
    (run_id,) = fill(["sticky"])
    reader = open_reader(store)
    row = reader.run(parse_id(run_id))
    assert row is not None
    progress = Progress(shop.graph(), "Basket")
    seen = [progress.steps["pack"].phase]
    for entry in reader.entries(row.run):
        for record in unpack_records(entry.body):
            progress.add([record])
            if progress.steps["pack"].phase is not seen[-1]:
                seen.append(progress.steps["pack"].phase)
    reader.close()
    assert seen == [StepPhase.PENDING, StepPhase.RUNNING, StepPhase.RETRYING, StepPhase.RUNNING, StepPhase.DONE]
    assert progress.status is Status.COMPLETED
    frame = progress.frame("shop", run_id, "Basket")
    assert line(frame.steps[2], frame, 0).startswith("  pack: done  1.0 s  2 attempts")


def test_a_picture_of_an_unknown_pipeline_shows_the_steps_that_acted(store: str, fill: Fill) -> None:
    (run_id,) = fill(["hat"])
    reader = open_reader(store)
    row = reader.run(parse_id(run_id))
    assert row is not None
    progress = Progress(None, "Basket")
    for entry in reader.entries(row.run):
        progress.add(unpack_records(entry.body))
    reader.close()
    assert set(progress.steps) == {"pay", "unfold", "pack", "send"}
