"""How events get into the ledger: once, all of them, and never at the model call's expense."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import time
import warnings
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy
from langchain_core.language_models import FakeListChatModel

from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.records import BudgetEvent, Saving, UsageSink
from langchain_tokenopt.ledger import Ledger, LedgerError, writer
from langchain_tokenopt.ledger.writer import Writer
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler
from tests.support.ledger_records import START, desk_calls, record

pytestmark = pytest.mark.exhaustive


def _to_the_microsecond(records):
    """Round durations as the ledger does."""
    return [replace(r, duration_seconds=round(r.duration_seconds, 6)) for r in records]


def _record_all(ledger, events):
    for event in events:
        ledger.record(event)


def _limit_pages(ledger: Ledger, pages: int | None) -> None:
    """Make the disk full, as far as the ledger can tell; ``None`` gives room again."""

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages or 2**30}")

    ledger._writer.before_fork()  # let go of the connection that has another limit
    sqlalchemy.event.listen(ledger._database.engine, "connect", limit)


def test_a_ledger_is_a_sink(ledger):
    """It can be handed to whatever tells usage events."""
    assert isinstance(ledger, UsageSink)


def test_calls_through_langchain_are_recorded(path):
    """The callback handler's records arrive."""
    with Ledger(path) as ledger:
        handler = TokenUsageCallbackHandler(sinks=[ledger])
        FakeListChatModel(responses=["four"]).invoke("2 + 2?", config={"callbacks": [handler]})
        ledger.flush()

        assert _to_the_microsecond(handler.records) == list(ledger.calls())


async def test_calls_through_async_langchain_are_recorded(path):
    """Async models are recorded alike."""
    with Ledger(path) as ledger:
        handler = TokenUsageCallbackHandler(sinks=[ledger])
        await FakeListChatModel(responses=["four"]).ainvoke("?", config={"callbacks": [handler]})
        ledger.flush()

        assert _to_the_microsecond(handler.records) == list(ledger.calls())


def test_a_call_told_twice_is_one(ledger):
    """The run id decides, in one batch and across batches; sums count it once as well."""
    call = record()
    for _ in range(2):
        ledger.record(call)
        ledger.record(call)
        ledger.flush()

    assert 1 == ledger.totals().calls
    assert [] == ledger.check()


@pytest.mark.parametrize("order", ["call first", "saving first", "together"])
def test_a_saving_told_alone_and_with_its_call_is_one(ledger, order):
    """A saving's id decides, however it arrives."""
    saving = Saving(stage="s", tokens_before=100, tokens_after=40)
    call = record(savings=(saving,))
    events = [saving, call] if order == "saving first" else [call, saving]
    for event in events:
        ledger.record(event)
        if order != "together":
            ledger.flush()
    ledger.flush()

    assert (1, 60) == (ledger.totals().calls, ledger.totals().saved_tokens)
    assert [] == ledger.check()


def test_a_budget_event_told_twice_is_one(ledger):
    """Its id decides."""
    event = BudgetEvent(
        kind="alert", budget="b", agent="a", spent_tokens=1, held_tokens=2, limit_tokens=3
    )
    ledger.record(event)
    ledger.record(event)
    ledger.flush()

    assert 1 == len(ledger.budget_events())


def test_a_saving_without_a_time_gets_the_time_it_was_told(ledger):
    """Nothing falls out of every period."""
    ledger.record(Saving(stage="s", tokens_before=100, tokens_after=40, agent="news", model="m"))
    ledger.flush()

    assert 60 == ledger.by("agent", since=START)["news"].saved_tokens


def test_background_writing_needs_no_flush(ledger, path):
    """What is recorded arrives by itself, for others to see."""
    ledger.record(record())
    with Ledger(path, read_only=True) as other:
        deadline = time.monotonic() + 10
        while not other.totals().calls and time.monotonic() < deadline:
            time.sleep(0.01)

        assert 1 == other.totals().calls


def test_answers_include_what_was_just_recorded(ledger):
    """Who records and asks gets an answer with it, without a flush in between."""
    for number in range(1, 4):
        ledger.record(record())

        assert number == ledger.totals().calls


def test_full_durability_commits_inside_the_call(path):
    """Another connection sees the call as soon as record() has returned."""
    with Ledger(path, durability="full") as ledger:
        ledger.record(record())
        with sqlite3.connect(path) as other:
            count = other.execute("SELECT count(*) FROM calls").fetchone()
        other.close()

    assert (1,) == count


def test_a_small_queue_drops_nothing(path):
    """Callers who find the queue full write themselves."""
    with Ledger(path, max_pending=7) as ledger:
        for call in desk_calls(1_000):
            ledger.record(call)
        ledger.flush()

        assert 1_000 == ledger.totals().calls
        assert [] == ledger.check()


def test_many_threads_write_one_ledger(ledger):
    """Nothing is lost or doubled between threads."""
    calls = list(desk_calls(800))

    def write(part: int) -> None:
        for call in calls[part::8]:
            ledger.record(call)
        ledger.flush()

    threads = [threading.Thread(target=write, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(call.run_id for call in calls) == sorted(c.run_id for c in ledger.calls())
    assert [] == ledger.check()


def test_two_ledgers_write_one_file(path):
    """Two objects on one file agree about names and sums."""
    calls = list(desk_calls(300))
    with Ledger(path) as one, Ledger(path) as two:
        for place, call in enumerate(calls):
            (one, two)[place % 2].record(call)
            if place % 10 == 0:
                one.flush()
                two.flush()
        one.flush()
        two.flush()

        assert calls == list(one.calls())
        assert [] == two.check()


def test_closing_writes_what_waits(path):
    """close() is a flush."""
    ledger = Ledger(path)
    ledger.record(record())
    ledger.close()
    with Ledger(path, read_only=True) as again:
        assert 1 == again.totals().calls


def test_a_late_event_is_written_too(path):
    """Recording after close() still stores: a callback may come late."""
    ledger = Ledger(path)
    ledger.close()
    ledger.record(record())
    with Ledger(path, read_only=True) as other:
        assert 1 == other.totals().calls


def test_a_forgotten_ledger_writes_what_waits(path):
    """A ledger that nobody holds any more loses nothing."""
    ledger = Ledger(path)
    writer = ledger._writer
    for call in desk_calls(100):
        ledger.record(call)
    thread = writer._thread
    del ledger
    gc.collect()
    thread.join(10)
    with Ledger(path, read_only=True) as again:
        assert 100 == again.totals().calls
    assert writer.closed


@pytest.mark.parametrize("is_async", [False, True])
def test_an_answer_waits_for_what_is_being_written(ledger, monkeypatch, is_async):
    """What the background thread has taken and not yet committed was recorded before, too."""
    found, insert = [], Writer._insert

    async def ask():
        found.append(ledger.totals().calls)

    def inserting(writer, queued, wait_seconds):
        asking = threading.Thread(target=lambda: asyncio.run(ask()) if is_async else _step(ask()))
        asking.start()
        asking.join(0.05)  # it waits for us; were it not to, it would be done by then
        threads.append(asking)
        return insert(writer, queued, wait_seconds)

    threads = []
    monkeypatch.setattr(writer, "_COMMIT_SECONDS", 5.0)
    monkeypatch.setattr(Writer, "_insert", inserting)
    ledger.record(record())
    ledger.flush()
    for thread in threads:
        thread.join()

    assert [1] == found


def _step(coroutine):
    """Run what never waits, without any event loop."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_only_events_are_taken(ledger):
    """A wrong argument is refused where the mistake is made."""
    with pytest.raises(TypeError, match=r"records events .*; got 'hello'"):
        ledger.record("hello")


def test_a_broken_record_does_not_hold_up_the_others(ledger):
    """Foreign code that fills a record with nonsense loses only that record, and is told."""
    ledger.record(record(usage=None))
    ledger.record(record(attribution=Attribution(agent=["not", "a", "name"])))
    ledger.record(record())
    with pytest.warns(TokenOptWarning, match="an event was not stored"):
        ledger.flush()

    assert 1 == ledger.totals().calls
    assert 2 == ledger._writer.refused


def test_a_full_disk_loses_nothing(path):
    """Events wait while there is no room, and are stored when there is some again."""
    with Ledger(path, durability="full") as ledger:
        ledger.record(record())
        _limit_pages(ledger, 30)
        calls = list(desk_calls(300))
        with pytest.warns(TokenOptWarning, match="has no room left. Free some disk space"):
            _record_all(ledger, calls)
        with pytest.raises(LedgerError, match="has no room left"):
            ledger.flush()
        _limit_pages(ledger, None)
        ledger.flush()

        assert 301 == ledger.totals().calls
        assert [] == ledger.check()


def test_a_full_disk_never_fails_the_model_call(path):
    """The answer comes although nothing can be stored, also where warnings are errors."""
    with Ledger(path, durability="full") as ledger:
        _limit_pages(ledger, 1)
        handler = TokenUsageCallbackHandler(sinks=[ledger])
        model = FakeListChatModel(responses=["four"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answers = {
                model.invoke("?", config={"callbacks": [handler]}).content for _ in range(300)
            }
        assert ledger._writer.trouble is not None
        _limit_pages(ledger, None)
        ledger.flush()

        assert ({"four"}, 300) == (answers, ledger.totals().calls)


def test_too_much_to_wait_in_memory_waits_in_a_file(path):
    """Beyond the bound, events go beside the ledger, and the next one takes them in."""
    calls = list(desk_calls(300))
    with Ledger(path, durability="full", max_pending=20) as ledger:
        _limit_pages(ledger, 1)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            _record_all(ledger, calls)
        assert "taken in when it can be written" in str(told[-1].message)
        assert len(ledger._writer._pending) < 20
        _limit_pages(ledger, None)
    with Ledger(path) as again:
        assert calls == list(again.calls())
        assert [] == again.check()
    assert [] == list(path.parent.glob("*.jsonl"))


def test_closing_on_a_full_disk_says_where_the_events_are(path):
    """The last word is a file, not a loss."""
    ledger = Ledger(path, durability="full")
    _limit_pages(ledger, 1)
    calls = list(desk_calls(100))
    with pytest.warns(TokenOptWarning, match="Events wait in memory and are tried again"):
        _record_all(ledger, calls)
    with pytest.raises(LedgerError, match=r"no room left.* events wait in .*unwritten-.*jsonl"):
        ledger.close()
    with Ledger(path) as again:
        assert calls == list(again.calls())


def test_events_of_a_file_are_taken_in_once(path, tmp_path):
    """Taking in the same events again changes nothing."""
    ledger = Ledger(path, durability="full")
    _limit_pages(ledger, 1)
    calls = list(desk_calls(100))
    with pytest.warns(TokenOptWarning):
        _record_all(ledger, calls)
    with pytest.raises(LedgerError):
        ledger.close()
    waiting = next(path.parent.glob("*.jsonl"))
    copy = tmp_path / "copy.jsonl"
    copy.write_text(waiting.read_text())
    with Ledger(path) as again:
        assert again.take_in(copy) > 0
        assert calls == list(again.calls())
    assert not copy.exists()


def test_no_place_at_all_is_told(path, monkeypatch):
    """When not even a file can be written, the loss is stated with its number."""
    ledger = Ledger(path, durability="full")
    _limit_pages(ledger, 1)
    monkeypatch.setattr(ledger._writer._spool, "_folders", lambda: [])
    with pytest.warns(TokenOptWarning):
        _record_all(ledger, desk_calls(100))
    with pytest.raises(LedgerError, match=r"No file could take \d+ events: they are lost"):
        ledger.close()


def test_a_ledger_that_moved_on_keeps_events(path):
    """A newer package has changed the tables: nothing is written wrongly, nothing is lost."""
    ledger = Ledger(path, durability="full")
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO ledger_schema VALUES (99, 0, '9.9')")
    other.close()
    with pytest.warns(TokenOptWarning, match="written by a newer langchain-tokenopt"):
        ledger.record(record())
    with pytest.raises(LedgerError, match="1 events wait in"):
        ledger.close()


def test_a_check_finds_what_was_changed_by_hand(ledger, path):
    """The proof is not empty: a changed row, a missing row and a missing sum are all found."""
    for call in desk_calls(50):
        ledger.record(call)
    ledger.flush()
    for damage, message in [
        ("UPDATE calls SET input_tokens = input_tokens + 1 WHERE seq = 1", "but the rows add up"),
        ("DELETE FROM calls", "a sum is stored for rows that do not exist"),
        ("DELETE FROM saving_hours", "no sum is stored for rows that exist"),
    ]:
        with sqlite3.connect(path) as other:
            other.execute(damage)
        other.close()
        assert any(message in finding for finding in ledger.check())


def test_rebuilding_repairs_the_sums(ledger, path):
    """Rows are the truth; sums can always be made again."""
    for call in desk_calls(50):
        ledger.record(call)
    ledger.flush()
    before = ledger.totals()
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM call_hours")
        other.execute("DELETE FROM call_days")
    other.close()
    assert 0 == ledger.totals().calls
    ledger.rebuild()

    assert before == ledger.totals()
    assert [] == ledger.check()


def test_a_thousand_names_are_numbered_right(ledger):
    """Names beyond what one statement looks up keep their calls."""
    calls = [
        record(
            run_id=UUID(int=number),
            attribution=Attribution(f"agent-{number % 70}", user=f"user-{number}"),
            started_at=START + timedelta(seconds=number),
        )
        for number in range(1_300)
    ]
    for call in calls:
        ledger.record(call)
    ledger.flush()

    assert calls == list(ledger.calls())


def test_a_memory_of_names_is_bounded(ledger, monkeypatch):
    """Forgetting names in memory does not give them new numbers."""
    monkeypatch.setattr("langchain_tokenopt.ledger.batch._MOST_KNOWN", 3)
    for _ in range(3):
        for number in range(10):
            ledger.record(record(run_id=uuid4(), attribution=Attribution("a", user=str(number))))
        ledger.flush()

    assert dict.fromkeys(map(str, range(10)), 3) == {
        user: totals.calls for user, totals in ledger.by("user").items()
    }


def test_prompts_and_answers_never_enter(path):
    """Nothing of what was said can be found in the file."""
    with Ledger(path) as ledger:
        handler = TokenUsageCallbackHandler(sinks=[ledger])
        FakeListChatModel(responses=["the-answer-is-here"]).invoke(
            "the-prompt-is-here", config={"callbacks": [handler]}
        )
    content = path.read_bytes()

    assert b"the-answer" not in content
    assert b"the-prompt" not in content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"durability": "half"}, "durability must be 'background' or 'full'"),
        ({"max_pending": 0}, "max_pending must be a whole number of at least 1; got 0"),
        ({"max_wait_seconds": -1}, "max_wait_seconds must be 0 or more, got -1"),
        ({"user_key": ""}, "user_key is empty"),
    ],
)
def test_wrong_arguments_are_refused(path, arguments, message):
    """Each mistake has its sentence."""
    with pytest.raises(ValueError, match=message):
        Ledger(path, **arguments)


def test_forgetting_takes_the_name_along_and_other_writers_know(path):
    """A user who was forgotten is nowhere in the file; who writes on gets a name of his own."""
    own = [record(attribution=Attribution("news", user="ada"), run="ada's run") for _ in range(3)]
    with Ledger(path) as ledger, Ledger(path) as other:
        for call in own[:2]:
            other.record(call)
        other.record(record(attribution=Attribution("news", user="bob")))
        other.flush()

        assert 2 == ledger.forget(user="ada")
        with sqlite3.connect(path) as raw:
            assert [(b"bob",)] == raw.execute("SELECT key FROM names").fetchall()
        raw.close()
        ledger.record(record(attribution=Attribution("news", user="eve")))
        ledger.flush()
        other.record(own[2])
        other.flush()
        assert {"ada": 1, "bob": 1, "eve": 1} == {u: t.calls for u, t in ledger.by("user").items()}
        assert [] == ledger.check()


def test_forgetting_needs_to_be_told_what(ledger):
    """Nothing named is not everything."""
    with pytest.raises(ValueError, match="say what"):
        ledger.forget()
    with pytest.raises(TypeError, match="cannot filter by 'usr'"):
        ledger.forget(usr="ada")
