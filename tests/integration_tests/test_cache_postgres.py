"""The cache in PostgreSQL: what workers share, servers that go away, and whatever else is wrong.

That it decides as a cache in a file does is shown where that is tested (``unit_tests/cache``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.outputs import Generation

from langchain_tokenopt import optimize
from langchain_tokenopt.cache import (
    CacheFileError,
    postgres_entries,
    postgres_neighbours,
    postgres_schema,
    postgres_server,
)
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage import postgres
from langchain_tokenopt.storage.postgres_listener import PostgresListener
from tests.support.cache_places import soon
from tests.support.caches import make_cache
from tests.support.embedders import WordEmbeddings
from tests.support.postgres_server import PostgresServer, SilentWire, database_of, shared_server

LLM = "llm"
ASK = "How can I change my card PIN?"
LIKE = "How can I change my card personal identification number?"


def say(text):
    return [Generation(text=text)]


def texts(found):
    return found and [answer.text for answer in found]


@pytest.fixture
def server() -> PostgresServer:
    return shared_server()


@pytest.fixture
def make(postgres_url):
    """Make caches in one database, as workers do."""
    made = []

    def make_one(url=postgres_url, **options):
        made.append(make_cache(url, **options))
        return made[-1]

    yield make_one
    for cache in made:
        cache.close()
    postgres.pool_of(postgres_url).close()


def rows(server, url, statement):
    return server.execute(statement, database_of(url))


# What workers share


def test_workers_share_answers_in_every_tier(make):
    """Equal text, the same words, the same meaning; sync and async; through a model, too."""
    one, other = make(), make()
    one.update(ASK, LLM, say("In Settings."))
    for question in (ASK, "How can I  change my card PIN", LIKE):
        assert ["In Settings."] == texts(other.lookup(question, LLM))
        assert ["In Settings."] == texts(asyncio.run(other.alookup(question, LLM)))
    assert [2, 2, 2] == [
        other.stats().exact_hits,
        other.stats().same_words_hits,
        other.stats().semantic_hits,
    ]
    models = [optimize(FakeListChatModel(responses=["a", "b"]), cache) for cache in (one, other)]
    assert ["a", "a"] == [model.invoke("What is it?").text for model in models]
    assert "a" == asyncio.run(models[1].ainvoke("What is it?")).text


def test_what_one_worker_rejects_no_worker_serves(make):
    """Though others have copied it."""
    one, other = make(), make()
    one.update(ASK, LLM, say("Wrong."))
    served = other.lookup(ASK, LLM)
    assert other.lookup(ASK, LLM)
    assert one.reject(_entry_of(one, ASK))

    assert served
    assert soon(lambda: other.lookup(ASK, LLM) is None)
    assert other.lookup(LIKE, LLM) is None


def _entry_of(cache, question):
    return next(entry.entry for entry in cache.top(99) if entry.question == question)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM cache_entries",
        "TRUNCATE cache_entries",
        "DELETE FROM cache_entries WHERE question LIKE 'How%'",
    ],
)
def test_what_anybody_deletes_no_worker_serves(make, server, postgres_url, statement):
    """With whatever program; totals and vectors follow."""
    cache = make()
    cache.update(ASK, LLM, say("a"))
    cache.update_many((f"How is number {n} today?", LLM, say(str(n))) for n in range(400))
    assert cache.lookup(ASK, LLM)
    rows(server, postgres_url, statement)

    assert soon(lambda: cache.lookup(ASK, LLM) is None)
    assert (0, 0) == (cache.check().entries, cache.stats().bytes)
    assert cache.check().is_sound


def test_an_answer_that_was_replaced_is_not_served(make):
    """A copy of the earlier one is forgotten."""
    one, other = make(), make()
    one.update(ASK, LLM, say("old"))
    assert other.lookup(ASK, LLM)
    one.update(ASK, LLM, say("new"))

    assert soon(lambda: texts(other.lookup(ASK, LLM)) == ["new"])
    assert 1 == one.check().entries


def test_what_is_asked_again_needs_no_server(make, monkeypatch):
    """An answer that is served twice is copied: nothing is asked but whether others deleted it."""
    cache = make()
    cache.update(ASK, LLM, say("a"))
    assert cache.lookup(ASK, LLM)
    monkeypatch.setattr(cache._repository._entries._server, "run", None)
    monkeypatch.setattr(cache._repository._entries._server, "ask", None)

    assert [["a"]] * 20 == [texts(cache.lookup(ASK, LLM)) for _ in range(20)]


def test_nothing_is_copied_where_nothing_is_heard(make, monkeypatch):
    """Behind a pooler that keeps notifications back, answers are right, and always asked for."""
    monkeypatch.setattr(PostgresListener, "put", lambda self, channel, message: None)
    one, other = make(), make()
    one.update(ASK, LLM, say("a"))
    assert other.lookup(ASK, LLM)
    assert one.reject(_entry_of(one, ASK))

    assert other.lookup(ASK, LLM) is None


def test_workers_share_what_they_have_learned(make):
    """Audits and comparisons of one decide in the other."""
    one, other = (make(wait_seconds=0) for _ in range(2))
    other.update(ASK, LLM, say("right"))
    assert other.lookup(LIKE, LLM)
    for _ in range(3):
        one.update(ASK, LLM, say("wrong"))
        if one.lookup(LIKE, LLM):
            one.reject(_entry_of(one, ASK))
    one.update(ASK, LLM, say("right"))

    assert one.lookup(LIKE, LLM) is None
    assert soon(lambda: other.lookup(ASK, LLM) and other.lookup(LIKE, LLM) is None)
    assert make(wait_seconds=0).lookup(LIKE, LLM) is None


def test_counts_are_those_of_all_workers(make):
    """Requests and hits; hits of entries, too."""
    one, other = make(), make()
    one.update(ASK, LLM, say("a"))
    for cache in (one, other, other):
        assert cache.lookup(ASK, LLM)
    one.stats(lifetime=True)

    assert 3 == other.stats(lifetime=True).requests
    one.top()
    assert 3 == other.top()[0].hits


@pytest.mark.parametrize("eviction", ["adaptive", "lru", "lfu", "ttl", "cost", "fifo"])
def test_caps_hold_for_all_workers_together(make, eviction):
    """Never one entry or byte more, and what is used stays."""
    options = {"max_entries": 20, "max_bytes": 9_000, "eviction": eviction, "wait_seconds": 0}
    caches = [make(**options) for _ in range(2)]
    caches[0].update("favourite", LLM, say("kept"))

    def work(number):
        for turn in range(15):
            cache = caches[number % 2]
            cache.update(f"question {number} {turn}", LLM, say(f"answer {turn}"))
            assert cache.stats().entries <= 20
            assert cache.stats().bytes <= 9_000
            cache.lookup("favourite", LLM)
            cache.top()

    with ThreadPoolExecutor(4) as pool:
        assert [None] * 4 == list(pool.map(work, range(4)))
    found = caches[0].check()
    assert found.is_sound
    assert found.entries == 20
    assert sum(cache.stats().evicted for cache in caches) == 61 - 20
    if eviction not in ("fifo", "ttl"):
        assert caches[1].lookup("favourite", LLM)


# One flight


def test_equal_requests_of_two_workers_ask_once(make):
    """The second worker waits for the first one's answer; in threads and in tasks."""
    one, other = make(), make()
    assert one.lookup(ASK, LLM) is None
    waiting = ThreadPoolExecutor(1).submit(other.lookup, ASK, LLM)

    async def wait():
        return await make().alookup(ASK, LLM)

    also = ThreadPoolExecutor(1).submit(asyncio.run, wait())
    time.sleep(0.3)
    assert not waiting.done()
    assert not also.done()
    one.update(ASK, LLM, say("a"))

    assert ["a"] == texts(waiting.result(5))
    assert ["a"] == texts(also.result(5))


def test_who_fails_hands_the_turn_over(make, server, postgres_url):
    """To a worker that waits, and nothing is left of it."""
    one, other = make(), make()
    with pytest.raises(ZeroDivisionError):
        optimize(_Failing(responses=["never"]), one).invoke(ASK)
    began = time.monotonic()
    assert other.lookup(ASK, LLM) is None
    model = optimize(FakeListChatModel(responses=["b"]), other)

    assert "b" == model.invoke(ASK).text
    assert time.monotonic() - began < 3
    other.update(ASK, LLM, say("b"))
    assert soon(lambda: rows(server, postgres_url, "SELECT * FROM cache_flights") == [])


def test_a_call_that_was_cancelled_hands_the_turn_over(make):
    """As a stage and as LangChain's cache; nobody waits for what will not come."""

    class Slow(FakeListChatModel):
        async def _acall(self, *args, **kwargs):
            await asyncio.sleep(30)

    async def cancel(model):
        task = asyncio.create_task(model.ainvoke(ASK))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for number in range(2):
        one, other = make(), make()
        slow = Slow(responses=["never"], cache=one if number else None)
        asyncio.run(cancel(slow if number else optimize(slow, one)))
        began = time.monotonic()
        model = optimize(FakeListChatModel(responses=["b"]), other)
        assert "b" == asyncio.run(model.ainvoke(ASK)).text
        assert time.monotonic() - began < 8
        other.clear()


def test_who_is_cancelled_while_waiting_takes_nothing_along(make):
    """The one who was asked first stores his answer; a third one gets it."""
    one, other = make(), make()
    assert one.lookup(ASK, LLM) is None

    async def wait_and_leave():
        task = asyncio.create_task(other.alookup(ASK, LLM))
        await asyncio.sleep(0.3)
        task.cancel()
        found = await asyncio.gather(task, return_exceptions=True)
        return isinstance(found[0], asyncio.CancelledError)

    assert asyncio.run(wait_and_leave())
    one.update(ASK, LLM, say("a"))
    assert ["a"] == texts(asyncio.run(other.alookup(ASK, LLM)))


def test_no_event_loop_waits_for_the_server(make, server, postgres_url, monkeypatch):
    """Whatever a call does there, a failed one's farewell included, is done in other threads."""
    one = make()
    run, on_loop = one._repository._entries._server.run, []

    def watched(statement, *values, **options):
        if asyncio._get_running_loop() is not None:
            on_loop.append(statement)
        return run(statement, *values, **options)

    monkeypatch.setattr(one._repository._entries._server, "run", watched)
    model = optimize(_Failing(responses=["never"]), one)

    async def ask_all():
        found = await asyncio.gather(
            *(one.alookup(f"is it {n}", LLM) for n in range(20)),
            model.ainvoke(ASK),
            return_exceptions=True,
        )
        await one.aupdate("is it 3", LLM, say("a"))
        return found

    assert isinstance(asyncio.run(ask_all())[-1], ZeroDivisionError)
    assert [] == on_loop
    assert soon(lambda: rows(server, postgres_url, "SELECT * FROM cache_flights") == [])
    assert one.lookup("is it 3", LLM)


class _Failing(FakeListChatModel):
    def _call(self, *args, **kwargs):
        return 1 / 0


def test_a_worker_that_takes_too_long_is_not_waited_for_longer_than_said(make):
    """Though it is at work."""
    one, other = (make(wait_seconds=0.6) for _ in range(2))
    one.lookup(ASK, LLM)  # and never comes back
    began = time.monotonic()

    assert other.lookup(ASK, LLM) is None
    assert 0.3 < time.monotonic() - began < 3


def test_a_worker_that_is_at_work_is_waited_for(make):
    """However often its turn would have ended by itself."""
    one, other = make(), make()
    assert one.lookup(ASK, LLM) is None
    waiting = ThreadPoolExecutor(1).submit(other.lookup, ASK, LLM)
    time.sleep(2.5)

    assert not waiting.done()
    one.update_many([(ASK, LLM, say("a"))])
    assert ["a"] == texts(waiting.result(5))


_ASKING = """
import sys, time
from tests.support.caches import make_cache
cache = make_cache(sys.argv[1])
cache.lookup(sys.argv[2], "llm")
print("asking", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_a_worker_that_is_gone_is_not_waited_for(make, postgres_url, name):
    """Its turn ends in a moment; the next one asks, and what was lost is forgotten some day."""
    other = make()
    command = [sys.executable, "-c", _ASKING, postgres_url, ASK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout.readline() == "asking\n"
            worker.send_signal(getattr(signal, name))
            began = time.monotonic()
            assert other.lookup(ASK, LLM) is None
            assert time.monotonic() - began < 8
        finally:
            worker.kill()


def test_what_was_lost_with_a_worker_is_forgotten(make, server, postgres_url):
    """By whoever gives a turn back later."""
    cache = make()
    lost = "INSERT INTO cache_flights VALUES ('x', 'gone', now() - interval '1 hour')"
    rows(server, postgres_url, lost)
    cache.lookup(ASK, LLM)
    cache.update(ASK, LLM, say("a"))
    assert soon(lambda: rows(server, postgres_url, "SELECT * FROM cache_flights") == [])


def test_a_cache_that_was_closed_after_a_call_failed_is_not_waited_for(make, server, postgres_url):
    """Its turn is given back before it is closed."""
    with make() as one:
        assert one.lookup(ASK, LLM) is None  # and the model fails, which no cache is told

    assert [] == rows(server, postgres_url, "SELECT * FROM cache_flights")
    assert make().lookup(ASK, LLM) is None


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_database_whose_transactions_are_isolated_by_default(
    make, server, postgres_url, isolation
):
    """Is used as any other: begun at once, one asks, and all is stored."""
    name = database_of(postgres_url)
    server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    server.execute(f"ALTER DATABASE {name} SET statement_timeout = '2s'")
    with ThreadPoolExecutor(6) as pool, warnings.catch_warnings():
        warnings.simplefilter("error")
        caches = list(pool.map(lambda _: make(), range(6)))
        found = list(pool.map(lambda cache: cache.lookup(ASK, LLM) or _stored(cache), caches))
        list(pool.map(lambda n: _stored(caches[n % 6], f"question {n}"), range(60)))

    assert 1 == found.count(None)
    assert 61 == caches[0].check().entries


def _stored(cache, question=ASK):
    return cache.update(question, LLM, say("a"))


# Scopes


def test_scopes_are_apart_for_the_server_as_well(make, server, postgres_url):
    """A session that has named a scope sees no other, whatever it asks for."""
    cache = make()
    for user in ("ann", "bob"):
        with cache.scope(user=user):
            cache.update(ASK, LLM, say(user))
    for user in ("ann", "bob"):
        with cache.scope(user=user):
            assert [user] == texts(cache.lookup(LIKE, LLM))
    assert cache.lookup(LIKE, LLM) is None
    scopes = rows(server, postgres_url, "SELECT scope FROM cache_entries ORDER BY id")
    guest = _guest(server, postgres_url)
    _grant(server, postgres_url)
    with postgres.pool_of(guest).session() as session:
        for table in ("cache_entries", "cache_vectors"):
            assert [[(2,)]] == session.run_all((f"SELECT count(*) FROM {table}", ()))
            *_, seen = session.run_all(
                (f"SELECT set_config('{postgres_schema.SCOPE}', %s, true)", (scopes[0][0].hex(),)),
                (f"SELECT scope FROM {table}", ()),
            )
            assert [scopes[0]] == seen


def test_the_server_stops_what_a_mistake_here_would_show(make, server, postgres_url, monkeypatch):
    """Statements that forget the scope see it alone all the same; an owner's see everything."""
    owner = make()
    for user in ("ann", "bob", "cid"):
        with owner.scope(user=user):
            owner.update(ASK, LLM, say(user))
    guest_url = _guest(server, postgres_url)
    _grant(server, postgres_url)
    guest = make(guest_url)
    near = postgres_neighbours._near
    monkeypatch.setattr(
        postgres_neighbours,
        "_near",
        lambda order: near(order).replace("scope = %s", "%s::bytea IS NOT NULL"),
    )
    seen = []
    for cache in (guest, owner):
        of = cache._repository._entries.neighbours.of

        def noted(vector, scope, *rest, of=of):
            found = of(vector, scope, *rest)
            seen[-1] += [row.scope != scope for row, _ in found.rows]
            return found

        monkeypatch.setattr(cache._repository._entries.neighbours, "of", noted)
        seen.append([])
        for user in ("ann", "bob", "cid"):
            with cache.scope(user=user):
                assert texts(cache.lookup(LIKE, LLM)) in (None, [user])

    assert [False] * 3 == seen[0]
    assert any(seen[1])


def test_an_answer_is_read_by_its_number_in_its_own_scope(make, server, postgres_url):
    """Whatever number is asked for; the server stops it where the statement forgets the scope."""
    owner = make()
    for user in ("ann", "bob"):
        with owner.scope(user=user):
            owner.update(ASK, LLM, say(user))
    guest_url = _guest(server, postgres_url)
    _grant(server, postgres_url)
    listed = "SELECT id, scope FROM cache_entries ORDER BY id"
    (ann, scope), (bob, _) = rows(server, postgres_url, listed)
    for entries in (make()._repository._entries, make(guest_url)._repository._entries):
        assert {ann} == {*entries.answers_of([ann, bob], scope)}
        assert entries.get(bob, scope) is None
        assert entries.get(bob).id == bob
        assert entries.get(ann, scope).id == ann


def test_the_server_stops_a_number_whose_scope_a_statement_forgets(
    make, server, postgres_url, monkeypatch
):
    """Not for the owner of everything."""
    forgetful = postgres_entries._ANSWERS.replace("scope = %s", "%s::bytea IS NOT NULL")
    monkeypatch.setattr(postgres_entries, "_ANSWERS", forgetful)
    owner = make()
    for user in ("ann", "bob"):
        with owner.scope(user=user):
            owner.update(ASK, LLM, say(user))
    guest_url = _guest(server, postgres_url)
    _grant(server, postgres_url)
    listed = "SELECT id, scope FROM cache_entries ORDER BY id"
    (ann, scope), (bob, _) = rows(server, postgres_url, listed)

    guest = make(guest_url)._repository._entries
    assert {ann} == {*guest.answers_of([ann, bob], scope)}
    assert {ann, bob} == {*owner._repository._entries.answers_of([ann, bob], scope)}


def _guest(server, url):
    """Make a user of that database who has no rights there, and return his URL."""
    name = f"guest_of_{database_of(url)}"
    server.execute(f"CREATE ROLE {name} LOGIN")
    return server.url(database_of(url), user=name, password=None)


def _grant(server, url):
    rights = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    rows(server, url, f"{rights} TO guest_of_{database_of(url)}")


def test_an_answer_in_another_scopes_row_is_not_served(make, server, postgres_url):
    """A row that was changed by hand does not match its checksum."""
    cache = make()
    for user in ("ann", "bob"):
        with cache.scope(user=user):
            cache.update(ASK, LLM, say(user))
    rows(
        server,
        postgres_url,
        "UPDATE cache_entries SET answers = "
        "(SELECT answers FROM cache_entries ORDER BY id LIMIT 1)",
    )
    fresh = make()
    with fresh.scope(user="bob"):
        assert fresh.lookup(ASK, LLM) is None
    with fresh.scope(user="ann"):
        assert ["ann"] == texts(fresh.lookup(ASK, LLM))
    assert 1 == fresh.check().entries


# Servers that go away


def test_a_server_that_is_stopped_is_a_miss_and_comes_back():
    """Calls go on with one warning; what was stored is there afterwards, nothing else."""
    with PostgresServer({}) as server:
        cache = make_cache(server.new_database())
        cache.update(ASK, LLM, say("a"))
        model = optimize(FakeListChatModel(responses=["x", "y", "z"]), cache)
        server.stop()
        with pytest.warns(TokenOptWarning, match="cache server failed.*cannot be reached") as seen:
            assert cache.lookup(ASK, LLM) is None
            assert asyncio.run(cache.alookup(LIKE, LLM)) is None
            cache.update("another", LLM, say("b"))
            assert "x" == model.invoke("What is it?").text
            assert "y" == asyncio.run(model.ainvoke("What is it?")).text
        assert 1 == len(seen)
        server.start()

        assert soon(lambda: cache.lookup(ASK, LLM) is not None, 10)
        assert ["a"] == texts(cache.lookup(LIKE, LLM))
        cache.close()
        postgres.close_all()


def test_reports_of_a_server_that_is_away_say_so():
    """Whoever asks for them is told in one sentence; a model call is not."""
    with PostgresServer({}) as server:
        cache = make_cache(server.new_database())
        cache.update(ASK, LLM, say("a"))
        server.stop()
        reports = cache.stats, cache.top, cache.check, lambda: cache.explain(ASK, LLM)
        for report in (*reports, lambda: cache.explain(ASK), cache.clear, lambda: cache.reject(1)):
            with pytest.raises(CacheFileError, match=r"postgresql://.* cannot be reached\. Check"):
                report()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert cache.lookup(ASK, LLM) is None
            cache.close()
        postgres.close_all()


def test_connections_that_have_been_ended_are_replaced(make, server, postgres_url):
    """At most one request notices."""
    cache = make()
    cache.update(ASK, LLM, say("a"))
    server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database_of(postgres_url)}' AND pid <> pg_backend_pid()"
    )
    time.sleep(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.lookup(ASK, LLM)

    assert soon(lambda: texts(cache.lookup(ASK, LLM)) == ["a"])


def test_a_server_that_falls_silent_is_given_up(server, postgres_url, monkeypatch):
    """Within the time that is set, and the next requests do not wait at all."""
    for name in ("READING_SECONDS", "WRITING_SECONDS"):
        monkeypatch.setattr(postgres_server, name, 1.0)
    with SilentWire(server.port) as wire:
        url = f"postgresql://postgres:secret@127.0.0.1:{wire.port}/{database_of(postgres_url)}"
        cache = make_cache(f"{url}?connect_timeout=2")
        cache.update(ASK, LLM, say("a"))
        wire.silent = True
        time.sleep(2.1)  # so long what others do may go unnoticed
        began = time.monotonic()
        with pytest.warns(TokenOptWarning, match="no answer within"):
            assert cache.lookup(ASK, LLM) is None
        assert time.monotonic() - began < 3
        began = time.monotonic()
        assert cache.lookup("another", LLM) is None
        cache.update("another", LLM, say("b"))
        assert time.monotonic() - began < 1.5
        cache.close()


def test_tables_that_were_removed_are_made_anew(make, server, postgres_url):
    """Requests are misses meanwhile."""
    cache = make()
    cache.update(ASK, LLM, say("a"))
    rows(server, postgres_url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert soon(lambda: cache.lookup(LIKE, LLM) is None)
        soon(lambda: cache.update(ASK, LLM, say("b")) or cache.lookup(ASK, LLM), 10)
        assert ["b"] == texts(cache.lookup(ASK, LLM))


# Whatever else is wrong


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@127.0.0.1:9/d",
        "postgresql://u:secret@nowhere.invalid/d",
        "postgresql:///d?host=/nowhere",
    ],
    ids=["no server", "no host", "no socket"],
)
def test_no_server(url):
    """Is said in one sentence, without a password."""
    with pytest.raises(CacheFileError, match=r"cannot be reached\. Check that") as refused:
        make_cache(url)
    assert "secret" not in str(refused.value)


def test_urls_that_cannot_be_read():
    """Are refused without telling what they contain."""
    for url in ("postgresql://u:secret@x@h/d", "postgres://u:se%zzcret@h/d"):
        with pytest.raises((ValueError, CacheFileError)) as refused:
            make_cache(url)
        assert "secret" not in str(refused.value)
        assert "se%zz" not in str(refused.value)


def test_a_connection_that_hangs():
    """Ends when its time is over."""
    with SilentWire() as wire:
        began = time.monotonic()
        with pytest.raises(CacheFileError, match="cannot be reached"):
            make_cache(f"postgresql://u:secret@127.0.0.1:{wire.port}/d?connect_timeout=2")
        assert time.monotonic() - began < 6


def test_a_wrong_password_or_database():
    """Each in a sentence of its own."""
    with PostgresServer(trusting=False) as server:
        for password in ("wrong", None):
            with pytest.raises(CacheFileError, match="refuses this user or password") as refused:
                make_cache(server.url(password=password))
            assert "wrong" not in str(refused.value)
        with pytest.raises(CacheFileError, match=r"no such database\. Create it first"):
            make_cache(server.url("elsewhere"))
        postgres.close_all()


def test_no_rights(make, server, postgres_url):
    """Who may not make tables is told what to allow; where there are tables, no more is needed."""
    url = _guest(server, postgres_url)
    with pytest.raises(CacheFileError, match=r"does not allow this user .* GRANT CREATE"):
        make(url)
    make().update(ASK, LLM, say("a"))
    with pytest.raises(CacheFileError, match="does not allow this user"):
        make(url)
    _grant(server, postgres_url)
    guest = make(url, max_entries=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ["a"] == texts(guest.lookup(LIKE, LLM))
        for number in range(4):
            guest.update(f"question {number}", LLM, say("b"))
        assert guest.lookup("question 3", LLM)
        assert 2 == guest.check().entries
        assert guest.top()
        guest.clear()
        assert 0 == guest.stats().entries


def test_an_old_server(postgres_url, monkeypatch):
    """The message has both versions."""
    monkeypatch.setattr(postgres, "LEAST_VERSION", 99)
    with pytest.raises(CacheFileError, match=r"is PostgreSQL 18; 99 is needed"):
        make_cache(postgres_url)


def test_a_server_that_can_only_be_read(make, server, postgres_url):
    """A standby, for instance: what is there is served."""
    make().update(ASK, LLM, say("a"))
    name = database_of(postgres_url)
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.close_all()
    cache = make()
    with pytest.warns(TokenOptWarning, match=r"can only be read\. Name the primary"):
        cache.update("another", LLM, say("b"))


def test_another_embedder(make):
    """Both are named, and the way out."""
    make()
    with pytest.raises(CacheFileError, match=r"another schema of it .*csearch_path"):
        make(embeddings=WordEmbeddings(size=32))
    make(embeddings=None, semantic=False)


def test_a_newer_release(make, server, postgres_url):
    """An older one that is at work goes on with misses, and says what to do."""
    cache = make()
    cache.update(ASK, LLM, say("a"))
    rows(server, postgres_url, "INSERT INTO cache_schema VALUES (99)")
    with pytest.warns(TokenOptWarning, match="version 99 .* Upgrade it"):
        cache.update("another", LLM, say("b"))
    assert cache.lookup("another", LLM) is None
    with pytest.raises(CacheFileError, match=r"version 99 .* newer langchain-tokenopt"):
        make()


def test_two_releases_find_the_same_tables(make):
    """Tables are made once, by whoever comes first, when many begin at the same moment."""
    with ThreadPoolExecutor(8) as pool:
        caches = list(pool.map(lambda _: make(), range(8)))
    caches[0].update(ASK, LLM, say("a"))
    assert [["a"]] * 8 == [texts(cache.lookup(LIKE, LLM)) for cache in caches]


def test_forms_that_an_earlier_release_has_stored_are_made_anew(make, server, postgres_url):
    """As entries are read; until then their other wordings are asked anew."""
    one, other = make(), make()
    one.update(ASK, LLM, say("a"))
    right = rows(server, postgres_url, "SELECT near FROM cache_entries")
    rows(server, postgres_url, "UPDATE cache_entries SET near = decode('00', 'hex')")

    assert ["a"] == texts(other.lookup(ASK, LLM))
    other.close()
    assert right == rows(server, postgres_url, "SELECT near FROM cache_entries")


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE cache_entries (name text)",
        "CREATE TABLE cache_schema (name text)",
        "CREATE VIEW cache_settings AS SELECT 1 AS x",
        "CREATE VIEW cache_schema AS SELECT 1 AS x",
        "CREATE TABLE cache_schema (version text)",
        "CREATE FUNCTION cache_entries_came() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE cache_schema (version integer); INSERT INTO cache_schema VALUES (1)",
        "CREATE TYPE cache_totals AS (x int)",
        "CREATE SEQUENCE cache_numbers",
    ],
)
def test_what_another_program_has_made_is_left_alone(make, server, postgres_url, theirs):
    """Its name is told, and the way out; nothing of it has changed, and nothing was begun."""
    rows(server, postgres_url, theirs)
    listed = (
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "UNION ALL SELECT proname, 'f' FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
        "AND proname LIKE 'cache%' ORDER BY 1"
    )
    before = [row for row in rows(server, postgres_url, listed) if "cache" in row[0]]
    with pytest.raises(CacheFileError, match=r"another program .*CREATE SCHEMA name.*search_path"):
        make()

    assert before == [row for row in rows(server, postgres_url, listed) if "cache" in row[0]]


def test_a_release_with_more_tables_comes_while_an_old_one_is_at_work(make, monkeypatch):
    """Two of its workers start at once: one adds, both go on; the old one misses, and says why."""
    every = postgres_schema._MIGRATIONS
    monkeypatch.setattr(postgres_schema, "_MIGRATIONS", every[:1])
    monkeypatch.setattr(postgres_schema, "SCHEMA_VERSION", 1)
    old = make()
    old.update(ASK, LLM, say("a"))
    more = (*every, ("CREATE TABLE cache_more (x integer)",))
    monkeypatch.setattr(postgres_schema, "_MIGRATIONS", more)
    monkeypatch.setattr(postgres_schema, "SCHEMA_VERSION", len(more))
    with ThreadPoolExecutor(6) as pool:
        caches = list(pool.map(lambda _: make(), range(6)))
    found = [texts(cache.lookup(LIKE, LLM)) for cache in caches]
    monkeypatch.setattr(postgres_schema, "SCHEMA_VERSION", 1)
    with pytest.warns(TokenOptWarning, match=r"version 3 .* Upgrade it"):
        old.update("another", LLM, say("b"))

    assert [["a"]] * 6 == found
    assert soon(lambda: texts(old.lookup(ASK, LLM)) == ["a"])
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("version", "said"), [((), "has no pgvector"), ((0, 7), "has pgvector 0.7, and 0.8 is needed")]
)
def test_without_pgvector_it_works_and_says_so(make, monkeypatch, version, said):
    """Neighbours are found here; what a scope has is not found in another."""
    monkeypatch.setattr(postgres_schema, "_pgvector", lambda session: version)
    monkeypatch.setattr(postgres_schema, "_add_pgvector", lambda *_: None)
    with pytest.warns(TokenOptWarning, match=f"{said}.*slower"):
        cache = make()
    now = [0.0]
    with pytest.warns(TokenOptWarning, match="slower"):
        other = make(ttl_seconds=60, clock=lambda: now[0])
    cache.update(ASK, LLM, say("In Settings."))
    cache.update("Where is the next train to Paris?", LLM, say("Platform 3."))
    with cache.scope(user="ann"):
        assert cache.lookup(LIKE, LLM) is None
    assert ["In Settings."] == texts(cache.lookup(LIKE, LLM))
    assert ["In Settings."] == texts(other.lookup(LIKE, LLM))
    assert cache.explain(LIKE, LLM).candidates[0].question == ASK


def test_an_eviction_policy_of_ones_own(make):
    """Sees one process only, so it is refused."""
    from langchain_tokenopt.cache.eviction import policy_for

    with pytest.raises(ValueError, match="takes the name of an eviction policy"):
        make(eviction=policy_for("lru", 10))


def test_questions_of_any_characters(make):
    """Also those that PostgreSQL does not take in a text."""
    cache = make()
    for number, question in enumerate(["a\0b is it", "\ud800 is it", "\x1a0\x1a", "ü' \"%s\\ is"]):
        cache.update(question, LLM, say(str(number)))
        assert [str(number)] == texts(make().lookup(question, LLM))
    assert 4 == cache.check().entries


# Processes


_WORK = """
import os, random, select, signal, sys, time, warnings
from langchain_core.outputs import Generation
from langchain_tokenopt.cache import CacheFileError
from langchain_tokenopt.storage.errors import PostgresError
from tests.support.cache_places import soon
from tests.support.caches import make_cache

warnings.simplefilter("ignore")

def work(seed):
    chance = random.Random(seed)
    while True:
        try:
            cache = make_cache(sys.argv[1], max_entries=60, wait_seconds=0.05)
            break
        except CacheFileError:
            time.sleep(0.05)
    while True:
        number = chance.randrange(100)
        question = f"is object x{number} there"
        found = cache.lookup(question, "llm")
        if found and found[0].text != f"object x{number}":
            print("WRONG", number, found, flush=True)
        if not found:
            cache.update(question, "llm", [Generation(text=f"object x{number}")])
        elif chance.random() < 0.1:
            try:
                cache.reject(cache.top(1)[0].entry)
            except (CacheFileError, PostgresError):
                pass

def start(seed):
    child = os.fork()
    if child == 0:
        work(seed)
    return child

print("begun", flush=True)
running = [start(seed) for seed in range(3)]
for seed in range(3, 1_000):
    if select.select([sys.stdin], [], [], 0.6)[0]:
        break
    os.kill(running[0], signal.SIGKILL)
    os.waitpid(running.pop(0), 0)
    running.append(start(seed))
for child in running:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_processes_that_are_killed_and_servers_that_restart_leave_nothing_wrong():
    """Wherever they stand; totals add up, and whoever comes next finds right answers."""
    with PostgresServer() as server:
        url = server.new_database()
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WORK), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "begun\n"
        for crash in (True, False):
            time.sleep(1)
            server.stop(crash=crash)
            server.start()
        time.sleep(4)
        said = process.communicate("enough", timeout=60)[0]
        cache = make_cache(url)
        found = cache.check()
        cache.close()
        postgres.close_all()

    assert "" == said
    assert found.is_sound
    assert 0 < found.entries <= 60
    assert () == found.damaged


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(make):
    """Parent and child go on with the same cache at once."""
    cache = make()
    cache.update(ASK, LLM, say("a"))
    stop = threading.Event()
    busy = threading.Thread(
        target=lambda: [cache.lookup(LIKE, LLM) for _ in iter(stop.is_set, True)]
    )
    busy.start()
    child = os.fork()
    if child == 0:
        try:
            for number in range(10):
                assert texts(cache.lookup(LIKE, LLM)) == ["a"]
                cache.update(f"child {number}", LLM, say("b"))
            os._exit(0)
        finally:
            os._exit(1)
    for number in range(10):
        cache.update(f"parent {number}", LLM, say("c"))
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stop.set()
    busy.join()

    assert 0 == ended
    assert 21 == cache.check().entries
    assert ["b"] == texts(cache.lookup("child 9", LLM))
