"""Events become rows and come back as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.ledger.rows import key_of, name_of
from langchain_tokenopt.ledger.spill import from_line, to_line
from tests.support.ledger_records import START, record


def _stored(ledger, *events):
    for event in events:
        ledger.record(event)
    ledger.flush()
    return list(ledger.calls())


def test_a_call_comes_back_as_it_was(ledger):
    """Every field of a call survives, also those that are seldom set."""
    call = record(
        usage=Usage(1_000, 200, 300, 400, 100, 50, 20, 10),
        started_at=datetime(2026, 11, 2, 9, 30, 0, 123_456, tzinfo=UTC),
        duration_seconds=1.234567,
        first_chunk_seconds=0.25,
        source="estimated",
        status="abandoned",
        attribution=Attribution("news", "news/model", "search", "alice", "t-1", "Summarization"),
        run="desk-17",
        saved_nano_usd=None,
        cost_nano_usd=None,
        response_model="gpt-4o-2026",
        service_tier="flex",
        stages=("PromptCompressor", "WordLimit"),
        flaws=("input_tokens is negative (-1)", "second"),
        rates_version="v1",
    )

    assert [call] == _stored(ledger, call)


def test_a_plain_call_comes_back_as_it_was(ledger):
    """What is unset stays unset: no empty strings in place of None."""
    call = record(model=None, provider=None)

    assert [call] == _stored(ledger, call)


def test_a_call_that_is_its_own_run_keeps_its_run(ledger):
    """A model invoked by itself is a run of one call, under its own id."""
    run_id = uuid4()
    call = record(run_id=run_id, run=str(run_id))

    assert [call] == _stored(ledger, call)


def test_savings_come_back_with_their_call(ledger):
    """A call's savings are stored with it, completed by what the call knows."""
    call = record(attribution=Attribution("news"))
    saving = Saving(
        stage="PromptCompressor",
        tokens_before=900,
        tokens_after=300,
        spent_tokens=20,
        saved_nano_usd=7,
        exact=False,
        run_id=call.run_id,
        agent="news",
        model=call.model,
        at=call.started_at,
    )
    call = record(run_id=call.run_id, attribution=Attribution("news"), savings=(saving,))

    assert [call] == _stored(ledger, call)


def test_a_budget_event_comes_back_as_it_was(ledger):
    """Every field of a budget event survives."""
    event = BudgetEvent(
        kind="denied",
        budget="plan",
        agent="news",
        spent_tokens=1,
        held_tokens=2,
        limit_tokens=3,
        detail="rung 2",
        run="r",
        run_id=uuid4(),
        thread_id="t",
        at=START,
    )
    _stored(ledger, event)

    assert [event] == ledger.budget_events()


@pytest.mark.parametrize(
    "event",
    [
        record(attribution=Attribution("a", user="u"), stages=("x",), flaws=("y",)),
        record(savings=(Saving(stage="s", tokens_before=2, tokens_after=1, at=START),)),
        Saving(stage="s", tokens_before=2, tokens_after=1, side="output", run_id=uuid4()),
        BudgetEvent(
            kind="alert", budget="b", agent="a", spent_tokens=1, held_tokens=2, limit_tokens=3
        ),
    ],
    ids=["call", "call with saving", "saving", "budget event"],
)
def test_a_line_gives_back_the_event(event):
    """What waits in a file is the whole event."""
    assert event == from_line(to_line(event))


@pytest.mark.parametrize("line", ["", "{}", "[]", "7", '{"event": "Other"}', '{"event": "Saving"}'])
def test_a_line_that_is_no_event_is_refused(line):
    """Reading a foreign file says so."""
    with pytest.raises(ValueError):
        from_line(line)


@pytest.mark.parametrize(
    "name",
    [
        "alice",
        "sixteen letters!",
        "0199a4a6-43a2-7cc2-9c5c-3a1f5c3b8e61",
        "0199A4A6-43A2-7CC2-9C5C-3A1F5C3B8E61",
        "00000000-0000-0000-0000-000000000000",
        "00112233-4455-6677-8899-aabbccddeeff",
        "x" * 36,
        "ü" * 8,
    ],
)
def test_names_survive_their_short_form(name):
    """UUIDs are packed, look-alikes are not confused with them."""
    assert name == name_of(key_of(name))


def test_a_time_without_zone_is_utc(ledger):
    """Nothing shifts by the machine's zone."""
    (call,) = _stored(ledger, record(started_at=datetime(2026, 11, 2, 9)))

    assert datetime(2026, 11, 2, 9, tzinfo=UTC) == call.started_at


def test_a_time_in_another_zone_is_the_same_moment(ledger):
    """Times are kept as moments."""
    nine_in_india = datetime(2026, 11, 2, 9, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    (call,) = _stored(ledger, record(started_at=nine_in_india))

    assert nine_in_india == call.started_at


@pytest.mark.parametrize(
    "at",
    [
        datetime.max,
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
        datetime.min,
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_times_at_the_ends_of_all_time_spoil_no_answer(ledger, at):
    """What means never, in some programs, is counted on a day that every zone has."""
    ledger.record(Saving(stage="cache", tokens_before=100, tokens_after=0, at=at))
    ledger.record(record(started_at=at))
    event = BudgetEvent(
        kind="alert", budget="b", agent="", spent_tokens=1, held_tokens=0, limit_tokens=2, at=at
    )
    ledger.record(event)
    ledger.record(record())
    ledger.flush()

    for period in ("hour", "day", "week", "month"):
        for hours in (-12, 0, 14):
            assert 2 == len(ledger.by(period, tz=timezone(timedelta(hours=hours))))
    assert 2 == len(list(ledger.calls())) == len(ledger.costs_by_hour())
    assert 1 == len(list(ledger.savings())) == len(list(ledger.budget_events()))
    assert ledger.span() is not None
    assert [] == ledger.check()


def test_absurd_counts_are_stored_with_a_flaw(ledger):
    """A number that no sum could hold is cut, and the call says so."""
    (call,) = _stored(ledger, record(usage=Usage(10**30, 1)))

    assert 10**15 == call.usage.input_tokens
    assert (f"{10**30:,} was stored as {10**15:,}",) == call.flaws


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_impossible_durations_do_not_stop_the_ledger(ledger, seconds):
    """A clock gone wrong costs no record."""
    assert 1 == len(_stored(ledger, record(duration_seconds=seconds)))


@pytest.mark.parametrize(
    "agent", ["a\0b", "\ud800", "日本語", "a'; DROP TABLE calls; --", "x" * 5_000]
)
def test_any_name_can_be_stored_and_asked_for(ledger, agent):
    """Names are never a reason to lose a call."""
    _stored(ledger, record(attribution=Attribution(agent)))

    assert 1 == ledger.totals(agent=agent).calls


def test_users_can_be_hidden(path):
    """With a key, a user is only ever stored as a hash, and is still found by name."""
    with Ledger(path, user_key="secret") as ledger:
        _stored(ledger, record(attribution=Attribution("a", user="alice@example.com")))
        (name,) = ledger.by("user")

        assert 1 == ledger.totals(user="alice@example.com").calls
        assert 0 == ledger.totals(user="bob@example.com").calls
    assert name.startswith("user-")
    assert b"alice" not in path.read_bytes()


def test_the_same_key_gives_the_same_name_and_another_key_another(tmp_path):
    """Hashes can be compared over time, but not across keys."""
    names = []
    for place, key in enumerate(["one", "one", "two"]):
        with Ledger(tmp_path / f"{place}.db", user_key=key) as ledger:
            _stored(ledger, record(attribution=Attribution("a", user="alice")))
            names += ledger.by("user")

    assert names[0] == names[1] != names[2]


def test_ids_are_packed(ledger):
    """A thread named by a UUID comes back in the same spelling."""
    thread = str(UUID(int=7))
    (call,) = _stored(ledger, record(attribution=Attribution("a", thread_id=thread)))

    assert thread == call.attribution.thread_id
