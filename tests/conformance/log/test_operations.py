"""What every log keeps for operators: facts, dead letters, who did what, and who has the log."""

from collections.abc import Callable
from itertools import product

import pytest

from ensue.cluster.log.protocol import AuditRow, Batch, DeadFilter, DeadLetter, Fact, LetterSettled, Log, Reader
from ensue.events.errors import LogCorrupt, LogUnavailable, StaleEpoch

from ..logs import NOW_US, Store, entry, letter, letter_id, observed, run_id, start

ANY = DeadFilter(state=None)


def fact(name: str, body: bytes | None, kind: str = "breaker", time_us: int = NOW_US) -> Fact:
    return Fact(kind, name, body, time_us)


def action(number: int, subject: str = "card") -> AuditRow:
    return AuditRow(NOW_US + number, "ada", "breaker.open", subject, f"for {number} s")


def bury(log: Log, *letters: DeadLetter) -> int:
    """Commit these letters in a new epoch; returns the epoch."""
    epoch = log.acquire("a")
    log.commit(Batch(epoch, dead=list(letters)))
    return epoch


def numbers(letters: list[DeadLetter]) -> list[int]:
    return [int.from_bytes(found.letter_id, "big") for found in letters]


def pages(reader: Reader, wanted: DeadFilter, limit: int) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    while page := reader.dead(wanted, after=found[-1].letter_id if found else None, limit=limit):
        assert len(page) <= limit
        found += page
    return found


# Facts


def test_the_newest_fact_of_a_name_stands_whatever_its_clock_says(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, facts=[fact("pay", b"closed"), fact("card", b"closed"), fact("pay", b"open")]))
    log.commit(Batch(epoch, facts=[fact("card", b"open", time_us=NOW_US - 1)]))
    expected = [fact("card", b"open", time_us=NOW_US - 1), fact("pay", b"open")]
    assert reader.facts("breaker") == log.facts("breaker") == expected


def test_a_fact_without_a_body_is_forgotten_and_can_come_back(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, facts=[fact("card", b"open"), fact("card", None), fact("nobody", None)]))
    assert reader.facts("breaker") == []
    log.commit(Batch(epoch, facts=[fact("card", None), fact("card", b"closed")]))
    assert reader.facts("breaker") == [fact("card", b"closed")]


def test_facts_of_one_name_and_two_kinds_are_two(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, facts=[fact("card", b"1"), fact("card", b"2", kind="supervision")]))
    log.commit(Batch(epoch, facts=[fact("card", None)]))
    assert (reader.facts("breaker"), reader.facts("supervision")) == ([], [fact("card", b"2", kind="supervision")])
    assert reader.facts("unknown") == []


def test_an_empty_body_is_a_fact(log: Log, reader: Reader) -> None:
    log.commit(Batch(log.acquire("a"), facts=[fact("card", b"")]))
    assert reader.facts("breaker") == [fact("card", b"")]


# Dead letters


def test_a_letter_is_found_as_it_was_written(log: Log, reader: Reader) -> None:
    blocked = letter(1)._replace(blocked=True, event_type="", event_id=b"", message="it's \N{SNOWMAN}\n")
    bury(log, blocked, letter(2))
    assert [reader.dead_letter(letter_id(number)) for number in (1, 2, 3)] == [blocked, letter(2), None]
    found = reader.dead_letter(letter_id(1))
    assert found is not None
    assert found.blocked is True


def test_letters_come_newest_first_and_those_of_one_time_by_their_ids(log: Log, reader: Reader) -> None:
    bury(log, letter(3, time_us=NOW_US), letter(1), letter(5, time_us=NOW_US), letter(4, time_us=NOW_US + 1))
    assert numbers(reader.dead(DeadFilter())) == [4, 1, 5, 3]
    assert numbers(pages(reader, DeadFilter(), 1)) == [4, 1, 5, 3]
    assert numbers(pages(reader, DeadFilter(), 3)) == [4, 1, 5, 3]
    assert reader.dead(DeadFilter(), limit=0) == reader.dead(DeadFilter(), limit=-1) == []


def test_a_page_goes_on_behind_a_letter_that_was_settled_meanwhile(log: Log, reader: Reader) -> None:
    epoch = bury(log, *(letter(number) for number in range(1, 6)))
    assert numbers(reader.dead(DeadFilter(), limit=2)) == [5, 4]
    log.commit(Batch(epoch, settled=[LetterSettled(letter_id(4), "redriven")]))
    assert numbers(reader.dead(DeadFilter(), after=letter_id(4), limit=2)) == [3, 2]


def test_behind_a_letter_that_never_was_there_is_nothing(log: Log, reader: Reader) -> None:
    bury(log, letter(1), letter(2))
    assert reader.dead(DeadFilter(), after=letter_id(9)) == []


def test_only_open_letters_are_wanted_unless_another_state_is_asked_for(log: Log, reader: Reader) -> None:
    epoch = bury(log, letter(1), letter(2), letter(3))
    settled = [LetterSettled(letter_id(1), "redriven"), LetterSettled(letter_id(2), "discarded")]
    log.commit(Batch(epoch, settled=settled))
    assert numbers(reader.dead(DeadFilter())) == [3]
    assert numbers(reader.dead(DeadFilter(state="redriven"))) == [1]
    assert numbers(reader.dead(DeadFilter(state="discarded"))) == [2]
    assert numbers(reader.dead(ANY)) == [3, 2, 1]
    assert reader.dead_letter(letter_id(1)) == letter(1)._replace(state="redriven")


@pytest.mark.parametrize(
    "wanted",
    [
        DeadFilter(pipeline="refunds"),
        DeadFilter(step="pay"),
        DeadFilter(kind="timeout"),
        DeadFilter(error="KeyError"),
        DeadFilter(event_type="OrderPaid"),
        DeadFilter(run_id=run_id(7)),
        DeadFilter(before_us=NOW_US),
        DeadFilter(after_us=NOW_US + 1_000),
        DeadFilter(state="discarded"),
    ],
    ids=["pipeline", "step", "kind", "error", "event type", "run", "before", "after", "state"],
)
def test_each_field_of_a_filter_leaves_what_has_it(log: Log, reader: Reader, wanted: DeadFilter) -> None:
    odd = [
        letter(1)._replace(pipeline="refunds"),
        letter(2)._replace(step="pay"),
        letter(3)._replace(kind="timeout"),
        letter(4)._replace(error="KeyError"),
        letter(5)._replace(event_type="OrderPaid"),
        letter(6)._replace(run=7, run_id=run_id(7)),
        letter(7)._replace(time_us=NOW_US - 1),
        letter(8)._replace(time_us=NOW_US + 1_000),
        letter(9)._replace(state="discarded"),
    ]
    bury(log, *odd)
    assert len(reader.dead(wanted)) == 1
    assert reader.dead(wanted)[0] in odd


def test_the_fields_of_a_filter_hold_together(log: Log, reader: Reader) -> None:
    places = list(product(("orders", "refunds"), ("pay", "ship"), ("error", "timeout")))
    bury(log, *(letter(n, pipeline, step)._replace(kind=kind) for n, (pipeline, step, kind) in enumerate(places, 1)))
    wanted = DeadFilter("orders", "ship", after_us=NOW_US + 4, before_us=NOW_US + 9)
    assert [places[number - 1] for number in numbers(reader.dead(wanted))] == [("orders", "ship", "timeout")]
    assert reader.dead(DeadFilter("orders", "ship", kind="timeout", error="KeyError")) == []


def test_a_value_of_a_filter_is_never_read_as_a_query(log: Log, reader: Reader) -> None:
    bury(log, letter(1), letter(2, pipeline="' OR 1 = 1 --"))
    assert numbers(reader.dead(DeadFilter(pipeline="' OR 1 = 1 --"))) == [2]
    assert reader.dead(DeadFilter(state="open' OR '1")) == []


def test_a_letter_that_dies_again_is_open_again_in_its_new_place(log: Log, reader: Reader) -> None:
    epoch = bury(log, letter(1), letter(2))
    log.commit(Batch(epoch, settled=[LetterSettled(letter_id(1), "redriven")]))
    again = letter(1)._replace(attempts=8, time_us=NOW_US + 100)
    log.commit(Batch(epoch, dead=[again]))
    assert reader.dead(ANY) == [again, letter(2)]


def test_of_two_settlements_in_one_batch_the_last_one_holds_over_the_letter_itself(log: Log, reader: Reader) -> None:
    settled = [LetterSettled(letter_id(1), "redriven"), LetterSettled(letter_id(1), "discarded")]
    log.commit(Batch(log.acquire("a"), settled=settled, dead=[letter(1)]))
    assert reader.dead(ANY) == [letter(1)._replace(state="discarded")]


def test_depth_counts_the_open_ones_of_each_step_and_names_the_oldest(log: Log, reader: Reader) -> None:
    epoch = bury(log, letter(2), letter(1), letter(3, step="ship"), letter(4, pipeline="refunds"))
    orders, refunds = ("orders", "charge"), ("refunds", "charge")
    assert reader.dead_depth() == {
        orders: (2, NOW_US + 1),
        ("orders", "ship"): (1, NOW_US + 3),
        refunds: (1, NOW_US + 4),
    }
    log.commit(Batch(epoch, settled=[LetterSettled(letter_id(number), "redriven") for number in (1, 3)]))
    assert reader.dead_depth() == {orders: (1, NOW_US + 2), refunds: (1, NOW_US + 4)}


# Who did what


def test_the_newest_actions_come_first_of_one_subject_or_of_all(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    log.commit(Batch(epoch, audit=[action(5), action(2, "mail")]))
    log.commit(Batch(epoch, audit=[action(1), action(1)]))
    assert reader.audit() == [action(1), action(1), action(2, "mail"), action(5)]
    assert reader.audit(subject="card", limit=3) == [action(1), action(1), action(5)]
    assert reader.audit(limit=1) == [action(1)]
    assert reader.audit(subject="nobody") == reader.audit(limit=0) == []


# All or nothing


@pytest.mark.parametrize("refused", ["gap", "unknown letter", "stale"])
def test_a_refused_batch_leaves_no_fact_letter_settlement_or_action(log: Log, reader: Reader, refused: str) -> None:
    epoch = bury(log, letter(1))
    before = observed(log)
    bad = Batch(epoch, [entry(1)], [start(1)], facts=[fact("card", b"open")], dead=[letter(2)], audit=[action(1)])
    bad.settled = [LetterSettled(letter_id(1), "redriven"), LetterSettled(letter_id(2), "redriven")]
    if refused == "gap":
        bad.entries.append(entry(9))
    elif refused == "unknown letter":
        bad.settled.append(LetterSettled(letter_id(9), "discarded"))
    else:
        bad.epoch -= 1
    with pytest.raises(StaleEpoch if refused == "stale" else LogCorrupt):
        log.commit(bad)
    assert observed(log) == before
    assert reader.dead_letter(letter_id(2)) is None


def test_facts_letters_and_actions_are_there_when_a_store_is_opened_again(store: Store) -> None:
    log = store.open()
    epoch = bury(log, letter(1), letter(2))
    settled = [LetterSettled(letter_id(1), "redriven")]
    log.commit(Batch(epoch, facts=[fact("card", b"open")], settled=settled, audit=[action(1)]))
    before = observed(log)
    log.close()
    again = store.open()
    assert observed(again) == before
    assert again.facts("breaker") == [fact("card", b"open")]
    again.close()


# Who has the log


def test_a_log_names_its_owner_until_that_one_leaves_in_order(log: Log, reader: Reader) -> None:
    assert reader.owner() == log.owner() == (0, "")
    epoch = log.acquire("a")
    assert reader.owner() == log.owner() == (epoch, "a")
    log.release(epoch)
    assert reader.owner() == log.owner() == (epoch, "")
    assert log.acquire("b") == epoch + 1


def test_leaving_does_not_take_the_name_of_a_newer_owner(store: Store) -> None:
    old, new = store.open(), store.open()
    stale, current = old.acquire("old"), new.acquire("new")
    old.release(stale)
    assert new.owner() == (current, "new")
    old.close()
    new.close()


def test_an_owner_that_did_not_leave_is_named_to_the_next(store: Store) -> None:
    first = store.open()
    epoch = first.acquire("first")
    first.close()
    second = store.open()
    assert second.owner() == (epoch, "first")
    second.close()


def test_closed_logs_and_readers_say_so_here_too(log: Log, reader: Reader) -> None:
    epoch = log.acquire("a")
    reader.close()
    log.close()
    calls: list[Callable[[], object]] = [lambda: log.release(epoch), log.owner, lambda: log.facts("breaker")]
    calls += [reader.owner, reader.audit, reader.dead_depth, lambda: reader.dead(ANY), lambda: reader.facts("breaker")]
    calls.append(lambda: reader.dead_letter(bytes(16)))
    for call in calls:
        with pytest.raises(LogUnavailable, match="closed"):
            call()
