"""A server that goes away and comes back, workers that are killed: nothing lost, nothing double."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
import warnings

import pytest

from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.ledger import Ledger, LedgerError, database, spill, spool, writer
from langchain_tokenopt.storage import postgres
from tests.support.ledger_records import desk_calls, record
from tests.support.postgres_server import PostgresServer, SilentWire, database_of, shared_server

CALLS = list(desk_calls(60, days=2))


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Files of this test only."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "langchain-tokenopt"


def _settled(url):
    with Ledger(url) as ledger:
        return [call.run_id for call in ledger.calls()], ledger.check()


def test_what_a_worker_could_not_write_the_next_one_takes_in(state):
    """Files of two processes, one of which is still there; each event once."""
    with PostgresServer() as server:
        url = server.new_database()
        one, other = (Ledger(url, max_pending=10, max_wait_seconds=0.3) for _ in range(2))
        server.stop(crash=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for call in CALLS[:30]:
                one.record(call)
            for call in CALLS[20:]:
                other.record(call)
            with pytest.raises(LedgerError, match="events wait in"):
                one.close()
        assert list(state.glob("*.unwritten-*.jsonl"))
        server.start()
        assert sorted(c.run_id for c in CALLS[:30]) <= sorted(_settled(url)[0])
        other.close()
        found, wrong = _settled(url)
        assert sorted(call.run_id for call in CALLS) == sorted(found)
        assert [] == wrong
        assert [] == list(state.iterdir())


def test_events_of_another_database_are_left_alone(state, postgres_url):
    """Each ledger takes in its own."""
    other = shared_server().new_database()
    with Ledger(other) as ledger:
        name = ledger._database.spool_name
    assert spill.write(CALLS[:3], name, [_made(state)])
    assert ([], []) == _settled(postgres_url)
    assert 3 == len(_settled(other)[0])


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_what_a_newer_release_wrote_waits_for_it(state, postgres_url):
    """What can be read is taken in, once; the file stays, and says why."""
    with Ledger(postgres_url) as ledger:
        name = ledger._database.spool_name
    file = _made(state) / f"{name}.unwritten-new.jsonl"
    newer = json.dumps(json.loads(spill.to_line(CALLS[1])) | {"format": 2, "soul": 1})
    file.write_text(f"{spill.to_line(CALLS[0])}\n{newer}\n")
    for _ in range(2):
        with (
            pytest.warns(TokenOptWarning, match="1 events in .* were written by a newer"),
            Ledger(postgres_url) as ledger,
        ):
            assert 1 == ledger.totals().calls
        assert file.exists()
    with Ledger(postgres_url, read_only=True) as ledger:
        assert [] == ledger.check()


_KILLED = """
import os, sys, time
from pathlib import Path
from langchain_tokenopt.ledger import spill
from tests.support.ledger_records import desk_calls
os.fsync = lambda _: (print("begun", flush=True), time.sleep(600))
spill.write(list(desk_calls(60, days=2))[:20], sys.argv[1], [Path(sys.argv[2])])
"""


def test_what_a_killed_worker_has_begun_to_put_aside_is_taken_in(state, postgres_url):
    """Not while it lives; then once, as far as lines are whole."""
    with Ledger(postgres_url) as ledger:
        name = ledger._database.spool_name
    arguments = [sys.executable, "-c", _KILLED, name, str(_made(state))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        (begun,) = state.iterdir()
        assert ([], []) == _settled(postgres_url)
        assert [begun] == list(state.iterdir())
        worker.kill()
    assert 20 == len(set(_settled(postgres_url)[0]))
    assert [] == list(state.iterdir())


@pytest.mark.parametrize("cut", [1, 100, 5_000])
def test_of_a_torn_file_all_whole_lines_are_taken_in(state, postgres_url, cut):
    """The rest is kept, and mentioned."""
    with Ledger(postgres_url) as ledger:
        name = ledger._database.spool_name
    text = "".join(spill.to_line(call) + "\n" for call in CALLS[:20])
    (_made(state) / f"{name}.unwritten-a1b2c3d4").write_text(text[:-cut])
    left = text[:-cut].count("\n") + (cut == 1)  # the last may lack its end alone
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert left == len(_settled(postgres_url)[0])
    assert ["1 lines of"] * (left < 20) == [str(each.message)[:10] for each in told]
    assert (left < 20) == len(list(state.glob("*.damaged"))) == len(list(state.iterdir()))
    assert left == len(_settled(postgres_url)[0])


def test_a_file_that_is_about_to_be_filled_is_left_alone(state, postgres_url):
    """Between its making and its lock a file is empty."""
    with Ledger(postgres_url) as ledger:
        name = ledger._database.spool_name
    file = _made(state) / f"{name}.unwritten-a1b2c3d4"
    file.touch()
    _settled(postgres_url)
    assert file.exists()
    os.utime(file, (0, 0))
    _settled(postgres_url)
    assert [] == list(state.iterdir())


def test_files_of_others_are_not_read(state, postgres_url, monkeypatch):
    """Anybody may put a file among temporary ones."""
    if not hasattr(os, "geteuid"):
        pytest.skip("files have no owners here")
    with Ledger(postgres_url) as ledger:
        name = ledger._database.spool_name
    spill.write(CALLS[:2], name, [_made(state)])
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)
    assert ([], []) == _settled(postgres_url)


def test_a_full_disk_while_the_server_is_away(monkeypatch):
    """Then events wait in memory: no caller fails, none is lost."""
    with PostgresServer() as server:
        url = server.new_database()
        with Ledger(url, max_pending=10, max_wait_seconds=0.3) as ledger:
            server.stop(crash=True)
            with monkeypatch.context() as patched, pytest.warns(TokenOptWarning) as told:
                patched.setattr(spool.spill, "write", lambda *_: None)
                for call in CALLS:
                    ledger.record(call)
            assert any("they wait in memory" in str(warning.message) for warning in told)
            server.start()
            ledger.flush()
        found, wrong = _settled(url)
        assert (sorted(call.run_id for call in CALLS), []) == (sorted(found), wrong)


@pytest.mark.parametrize("durability", ["background", "full"])
def test_an_event_loop_never_waits_for_the_server(postgres_url, durability, monkeypatch):
    """Every database call is made elsewhere, whether the server answers, is silent or away."""
    from langchain_tokenopt.ledger.writer import Writer

    loops, drain = [], Writer._drain

    def noted(writer, wait_seconds):
        loops.append(threading.current_thread() is threading.main_thread())
        drain(writer, wait_seconds)

    with SilentWire(shared_server().port) as wire:
        url = _through(wire, postgres_url)
        with Ledger(url, max_wait_seconds=0.3, max_pending=5, durability=durability) as ledger:
            ledger.record(CALLS[0])
            ledger.flush()
            monkeypatch.setattr(Writer, "_drain", noted)

            async def record_some(calls):
                for call in calls:
                    ledger.record(call)
                    await asyncio.sleep(0)

            asyncio.run(record_some(CALLS[:20]))
            wire.silent = True
            asyncio.run(record_some(CALLS[20:]))
            assert not any(loops)
            monkeypatch.setattr(Writer, "_drain", drain)
            wire.silent = False
            _flushed(ledger)
            assert len(CALLS) == ledger.totals().calls


@pytest.fixture
def impatient(monkeypatch):
    """Wait half a second for any answer, and for a turn."""
    monkeypatch.setattr(postgres.PatientConnection, "silent_seconds", 0.5)
    for module, name in ((database, "ANSWER"), (database, "READ"), (writer, "ANSWER")):
        monkeypatch.setattr(module, f"{name}_SECONDS", 0.5)
    monkeypatch.setattr(database, "_QUEUE", 1)


def _ended(what, *args):
    """Do something in a thread and return what it has raised, if anything; it does end."""
    raised = []

    def do():
        try:
            what(*args)
        except LedgerError as error:
            raised.append(str(error))

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return raised


def _used(url):
    with Ledger(url, max_wait_seconds=0.5) as ledger:
        ledger.record(CALLS[0])
        ledger.flush()
        ledger.totals()


@pytest.mark.parametrize("is_new", [False, True])
def test_a_server_that_falls_silent_is_given_up_wherever_that_is(impatient, postgres_url, is_new):
    """Also one that lets one in and then never answers; events wait as if it were away."""
    if not is_new:
        Ledger(postgres_url).close()
    seen, answers = [], 1
    while not seen or seen[-1]:
        with SilentWire(shared_server().port, answers) as wire, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen.append(_ended(_used, _through(wire, postgres_url)))
        answers += 1 + answers // 2
    assert len(seen) > 4
    name = database_of(postgres_url)
    assert [(1,)] == shared_server().execute("SELECT count(*) FROM calls", name)


def test_who_records_waits_no_longer_for_a_silent_server_than_was_said(postgres_url, monkeypatch):
    """What a server may take for an answer is for one that has answered before."""
    monkeypatch.setattr("langchain_tokenopt.ledger.writer.ANSWER_SECONDS", 1_000.0)
    with SilentWire(shared_server().port) as wire, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        url = _through(wire, postgres_url)
        ledger = Ledger(url, durability="full", max_wait_seconds=0.5)
        ledger.record(CALLS[0])
        wire.silent = True
        assert [] == _ended(ledger.record, CALLS[1])
        wire.silent = False
        _flushed(ledger)
        ledger.close()
    assert [(2,)] == shared_server().execute(
        "SELECT count(*) FROM calls", database_of(postgres_url)
    )


@pytest.mark.parametrize(
    "question",
    [
        lambda url: Ledger(url),
        lambda url: Ledger(url, read_only=True).last_call(),
        lambda url: Ledger(url, max_wait_seconds=1).close(),
    ],
)
def test_a_ledger_that_lets_one_in_and_never_answers_is_not_opened(
    impatient, postgres_url, question
):
    """The error names the server, and the connection to it is not kept."""
    Ledger(postgres_url).close()
    with SilentWire(shared_server().port, 1) as wire:
        (refused,) = _ended(question, _through(wire, postgres_url))
    assert "cannot be reached" in refused
    assert "secret" not in refused


@pytest.mark.parametrize(
    "work",
    [
        lambda ledger: ledger.check(),
        lambda ledger: ledger.rebuild(),
        lambda ledger: ledger.forget(user="ada"),
        lambda ledger: ledger.maintain("90 days"),
        lambda ledger: ledger.keep_snapshot([]),
    ],
)
def test_what_may_take_long_does_not_wait_for_who_is_silent_already(impatient, postgres_url, work):
    """The hour that all rows may take is not for a server that is gone."""
    with SilentWire(shared_server().port) as wire:
        ledger = Ledger(_through(wire, postgres_url), max_wait_seconds=0.5)
        wire._left = 1
        (refused,) = _ended(work, ledger)
        assert re.search("no answer within|cannot be reached", refused)
        ledger.close()


def _through(wire, url):
    return f"postgresql://postgres:secret@127.0.0.1:{wire.port}/{database_of(url)}"


def _flushed(ledger):
    deadline = time.monotonic() + 60
    while True:
        try:
            return ledger.flush()
        except LedgerError:
            if time.monotonic() > deadline:
                raise


def test_two_releases_at_once(postgres_url, state, monkeypatch):
    """The older one keeps what it has in files, which the newer one takes in."""
    from sqlalchemy import text

    from langchain_tokenopt.ledger import schema

    old = Ledger(postgres_url, max_wait_seconds=0.5)
    old.record(CALLS[0])
    old.flush()
    with old._database.engine.begin() as connection:
        connection.execute(text("INSERT INTO ledger_schema VALUES (11, 0, '9.9')"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in CALLS[1:9]:
            old.record(call)
        with pytest.raises(LedgerError, match="Upgrade it"):
            old.flush()
        with pytest.raises(LedgerError, match="vents wait in"):
            old.close()
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 11)
    with Ledger(postgres_url) as new:
        assert (9, []) == (new.totals().calls, new.check())


def test_records_are_kept_apart_by_database_user_and_schema(postgres_url):
    """A schema of the same database is another ledger."""
    with Ledger(postgres_url) as ledger:
        ledger.record(record())
        with ledger._database.engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA other")
        names = {ledger._database.spool_name}
    with Ledger(f"{postgres_url}&options=-csearch_path%3Dother") as other:
        assert 0 == other.totals().calls
        names.add(other._database.spool_name)
    assert 2 == len(names)
