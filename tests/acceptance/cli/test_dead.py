"""The command `ensue dead`, on a served engine and on a store."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ensue.cluster.log.open import open_log, open_reader
from ensue.gateway.cli.store_lock import hold

from ..stand_in import StandInEngine
from .dead_letters import Ensue, fill, make_pipeline

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine([make_pipeline()])


@pytest.fixture(params=["store", "url"])
def anywhere(request: pytest.FixtureRequest) -> tuple[tuple[str, str], list[str]]:
    """Three dead letters, in a store or on a served engine: how to ask for them, and their ids."""
    if request.param == "store":
        ids = request.getfixturevalue("filled")()
        return ("--store", request.getfixturevalue("store")), ids
    engine: StandInEngine = request.getfixturevalue("engine")
    ids = fill(engine.log.commit, 1, engine.log.next_offset())
    return ("--url", request.getfixturevalue("url")), ids


# -- looking ---------------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_newest_first(ensue: Ensue, anywhere: tuple[tuple[str, str], list[str]]) -> None:
    where, ids = anywhere
    code, out, err = ensue("dead", "list", *where)
    head, *rows = out.splitlines()
    assert (code, err) == (0, "")
    assert head.split() == ["dead", "letter", "step", "event", "attempts", "died", "error"]
    assert [row.split()[0] for row in rows] == ids
    assert rows[0].split()[1:] == [
        "orders/charge",
        "OrderPlaced",
        "2",
        "1",
        "min",
        "ago",
        "CardExpired:",
        "in",
        "2024\\x1b[31m",
    ]


def test_a_list_is_filtered_and_paged(ensue: Ensue, anywhere: tuple[tuple[str, str], list[str]]) -> None:
    where, ids = anywhere

    def listed(*words: str) -> list[str]:
        code, out, err = ensue("dead", "list", *where, "--json", *words)
        assert (code, err) == (0, "")
        return [letter["id"] for letter in json.loads(out)["dead"]]

    assert listed("--since", "2h") == ids[:2]
    assert listed("--before", "2h") == ids[2:]
    assert listed("--since", "2h", "--before", "30m") == ids[1:2]
    assert listed("--step", "charge", "--kind", "permanent", "--error", "CardExpired", "--pipeline", "orders") == ids
    assert listed("--step", "pack") == listed("--type", "Other") == listed("--state", "discarded") == []
    assert listed("--run", json.loads(ensue("dead", "show", ids[1], *where, "--json")[1])["run_id"]) == [ids[1]]
    page = json.loads(ensue("dead", "list", *where, "--json", "--limit", "2")[1])
    assert [letter["id"] for letter in page["dead"]] == ids[:2]
    assert listed("--cursor", page["next_cursor"]) == ids[2:]


def test_a_letter_is_shown_with_its_history(ensue: Ensue, anywhere: tuple[tuple[str, str], list[str]]) -> None:
    where, ids = anywhere
    code, out, err = ensue("dead", "show", ids[0], *where)
    assert (code, err) == (0, "")
    assert out.startswith(f"orders/charge  open  died 1 min ago\ndead letter {ids[0]}\n")
    assert '  OrderPlaced {"order_id": "o-0", "amount": 9.5}\n' in out
    assert "failed  ConnectionError: refused  (transient, after 100 ms)" in out
    assert '      File "shop.py", line 3, in charge\n    CardExpired: in 2024\\x1b[31m\n' in out
    assert "\x1b" not in out


def test_no_dead_letters_is_printed_on_stderr(ensue: Ensue, url: str) -> None:
    assert ensue("dead", "list", "--url", url) == (0, "", "no dead letters\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", UNKNOWN], f"there is no dead letter with the id {UNKNOWN}"),
        (["show", "abc"], "'abc' is not an id"),
        (["redrive", "../runs"], "'../runs' is not the id of a dead letter"),
        (["list", "--cursor", "xyz"], "next_cursor from the previous page"),
        (["list", "--since", "soon"], "invalid --since 'soon': write a duration such as 2h"),
        (["list", "--run", "x"], "id"),
        (["redrive"], "--all to redrive all"),
        (["discard", "--limit", "2"], "--all to discard all"),
        (["discard", UNKNOWN, "--step", "charge"], "not both"),
        (["redrive", "--all", "--step", "charge", "--yes"], "not both"),
        (["redrive", "--all", "--data", "{}"], "--data needs the ID"),
        (["redrive", "--step", "charge"], "confirm it with --yes"),
        (["list", "--kind", "nonsense"], "--kind"),
        (["redrive", UNKNOWN, "--data", "[1]"], "expected a JSON object"),
    ],
)
def test_wrong_use_is_one_line(ensue: Ensue, url: str, words: list[str], said: str) -> None:
    code, out, err = ensue("dead", *words, "--url", url)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


# -- deciding on a served engine -------------------------------------------------------------------------------------


def test_a_letter_is_redriven_and_the_audit_names_the_user(
    ensue: Ensue, engine: StandInEngine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "alice")
    first, second, _ = fill(engine.log.commit, 1, engine.log.next_offset())
    code, out, _ = ensue("dead", "redrive", first, "--url", url)
    assert (code, out.startswith(f"dead letter {first} is redriven: run ")) == (0, True)
    data = {"order_id": "o-9", "amount": 1.0}
    assert ensue("dead", "redrive", second, "--data", json.dumps(data), "--url", url, "--json")[0] == 0
    assert [(done[0], done[2], done[3]) for done in engine.done] == [
        ("redrive", None, "http 127.0.0.1 (alice)"),
        ("redrive", data, "http 127.0.0.1 (alice)"),
    ]
    code, out, err = ensue("dead", "redrive", first, "--url", url)
    assert (code, out, err) == (1, "", "error: the letter is redriven\n")


def test_data_is_read_from_a_file_and_checked_by_the_model(
    ensue: Ensue, engine: StandInEngine, url: str, tmp_path: Path
) -> None:
    letter_id = fill(engine.log.commit, 1, engine.log.next_offset())[0]
    (tmp_path / "data.json").write_text('{"order_id": "o-1"}')
    code, out, err = ensue("dead", "redrive", letter_id, "--data", f"@{tmp_path}/data.json", "--url", url)
    assert (code, out) == (2, "")
    assert "amount" in err


def test_many_are_redriven_or_discarded_by_a_filter(ensue: Ensue, engine: StandInEngine, url: str) -> None:
    fill(engine.log.commit, 1, engine.log.next_offset())
    where = ("--url", url)
    assert ensue("dead", "redrive", "--since", "2h", "--yes", *where)[:2] == (0, "2 dead letters redriven\n")
    assert json.loads(ensue("dead", "discard", "--all", "-y", "--json", *where)[1]) == {"decided": 1, "refused": []}
    assert ensue("dead", "discard", "--all", "-y", *where)[1] == "0 dead letters discarded\n"


# -- deciding on a store ---------------------------------------------------------------------------------------------


def test_a_letter_of_a_store_without_an_engine_is_discarded(
    ensue: Ensue, store: str, filled: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "alice")
    first, second, third = filled()
    where = ("--store", store)
    assert ensue("dead", "discard", first, *where)[:2] == (0, f"dead letter {first} is discarded\n")
    assert ensue("dead", "discard", first, *where)[0] == 1
    assert ensue("dead", "discard", "--all", "--yes", *where)[:2] == (0, "2 dead letters discarded\n")
    (row,) = json.loads(ensue("dead", "show", second, *where, "--json")[1])["audit"]
    assert (row["who"], row["action"], row["subject"]) == ("cli alice", "letter discard", second)
    assert third in ensue("dead", "list", "--state", "discarded", *where)[1]
    reader = open_reader(store)
    assert reader.owner()[1] == ""
    reader.close()


def test_a_crashed_owner_is_still_known_after_a_letter_was_discarded(
    ensue: Ensue, store: str, filled: Callable[..., list[str]]
) -> None:
    letter_id = filled()[0]
    log = open_log(store)
    before = log.acquire("crashed")
    log.close()
    assert ensue("dead", "discard", letter_id, "--store", store)[0] == 0
    reader = open_reader(store)
    assert reader.owner() == (before + 1, "crashed")
    reader.close()


@pytest.mark.parametrize("words", [("discard", "ID"), ("discard", "--all", "--yes")])
def test_nothing_is_changed_in_a_store_that_is_served(
    ensue: Ensue, store: str, filled: Callable[..., list[str]], words: tuple[str, ...]
) -> None:
    letter_id = filled()[0]
    named = [letter_id if word == "ID" else word for word in words]
    with hold(store, "`ensue serve`"):
        code, out, err = ensue("dead", *named, "--store", store)
    assert (code, out) == (2, "")
    assert f"in use by `ensue serve` (pid {os.getpid()})" in err
    assert letter_id in ensue("dead", "list", "--store", store)[1]


@pytest.mark.parametrize(
    "words",
    [("dead", "redrive", "ID"), ("dead", "redrive", "--all", "--yes"), ("dead", "discard", "ID")],
)
def test_an_operation_that_needs_the_code_says_to_start_the_engine(
    ensue: Ensue, store: str, filled: Callable[..., list[str]], words: tuple[str, ...]
) -> None:
    letter_id = filled(blocked=True)[0]
    named = [letter_id if word == "ID" else word for word in words]
    code, out, err = ensue(*named, "--store", store)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"ensue serve TARGET --store {store}" in err


def test_compensations_are_kept_when_many_are_discarded_in_a_store(
    ensue: Ensue, store: str, filled: Callable[..., list[str]]
) -> None:
    blocked = filled(blocked=True)[0]
    code, out, _ = ensue("dead", "discard", "--all", "--yes", "--store", store)
    assert (code, out.splitlines()[0]) == (1, "2 dead letters discarded")
    assert f"  {blocked} refused: it is a compensation" in out
