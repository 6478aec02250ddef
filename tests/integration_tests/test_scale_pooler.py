"""Behind poolers: nothing that was deleted is served on, whoever has the session that listens."""

from __future__ import annotations

import asyncio
import time

import pytest
from langchain_core.outputs import Generation

from langchain_tokenopt.storage import postgres_listener
from langchain_tokenopt.storage.postgres import pool_of
from langchain_tokenopt.storage.postgres_listener import PostgresListener
from tests.support.cache_places import soon
from tests.support.caches import make_cache
from tests.support.pooler import Pooler
from tests.support.postgres_server import PostgresServer, database_of, shared_server

LLM, ASK = "llm", "Who is on the board?"
POOLERS = [
    {"sessions": 1},
    {"sessions": 2},
    {"sessions": 20},
    {"sessions": 1, "lingering": True},
    {"sessions": 2, "lingering": True},
    {"sessions": 20, "lingering": True},
]


@pytest.fixture
def server() -> PostgresServer:
    return shared_server()


def listener_of(url):
    return PostgresListener(pool_of(url), "news", proof_seconds=0.1, wait_seconds=2.0)


def notify(server, url, message):
    server.execute(f"SELECT pg_notify('news', '{message}')", database_of(url))


@pytest.mark.parametrize("options", POOLERS, ids=str)
@pytest.mark.parametrize("deletes", ["forget", "clear", "sql"])
def test_what_is_deleted_no_copy_serves(server, postgres_url, options, deletes):
    """Sync and async, by whatever way, however many sessions the pooler has."""
    with Pooler(server.port, **options) as pooler:
        url = pooler.url(database_of(postgres_url))
        one, two = (make_cache(url, semantic=False, wait_seconds=0) for _ in range(2))
        with one.scope(organization="north"):
            one.update(ASK, LLM, [Generation(text="Ada")])
            assert all(one.lookup(ASK, LLM) for _ in range(3))
        if deletes == "forget":
            assert two.forget(organization="north") == 1
        elif deletes == "clear":
            two.clear()
        else:
            server.execute("DELETE FROM cache_entries", database_of(url))
        with one.scope(organization="north"):
            if options.get("lingering"):  # which it may believe until its next proof
                assert soon(lambda: one.lookup(ASK, LLM) is None)
            assert one.lookup(ASK, LLM) is None
            assert asyncio.run(one.alookup(ASK, LLM)) is None
        for cache in (one, two):
            cache.close()
        pool_of(url).close()


@pytest.mark.parametrize("options", POOLERS[:3], ids=str)
def test_who_shares_a_session_hears_nothing(server, postgres_url, options):
    """Not even by luck; and a session that is shared does not listen to what all say."""
    with Pooler(server.port, **options) as pooler:
        url = pooler.url(database_of(postgres_url))
        listener = listener_of(url)
        assert [listener.heard() for _ in range(20)] == [None] * 20
        listener._again_at = 0.0
        assert listener.heard() is None
        with pool_of(url).session() as session:
            for _ in range(options["sessions"]):
                assert ("news",) not in session.run("SELECT pg_listening_channels()")
        pool_of(url).close()


def test_a_session_of_ones_own_is_heard(server, postgres_url):
    """Directly, and where a pooler pools sessions: each message once, proof after proof."""
    with Pooler(server.port, 4, pooling="session") as pooler:
        for url in (postgres_url, pooler.url(database_of(postgres_url))):
            listener = listener_of(url)
            assert listener.heard() is None
            for number in range(3):
                notify(server, url, number)
                deadline = time.monotonic() + 5
                heard = []
                while not heard and time.monotonic() < deadline:
                    heard = listener.heard()
                assert heard == [str(number)]
                time.sleep(0.1)  # a proof is old by then
            listener.close()
            pool_of(url).close()


def test_a_session_that_was_replaced_is_noticed(server, postgres_url):
    """By the next proof, though the connection to the pooler stands; then it listens again."""
    with Pooler(server.port, 4, pooling="session") as pooler:
        url = pooler.url(database_of(postgres_url))
        listener = listener_of(url)
        listener.heard()
        assert listener.heard() == []
        pooler.replace_sessions()
        notify(server, url, "lost")
        time.sleep(0.1)

        assert listener.heard() is None
        listener._again_at = 0.0
        assert listener.heard() is None
        assert listener.heard() == []
        listener.close()
        pool_of(url).close()


@pytest.mark.parametrize("uses", ["SELECT 1", "UNLISTEN *", "LISTEN other"])
def test_a_session_that_others_have_used_is_no_proof(server, postgres_url, uses):
    """They may have taken a message along, though all that comes now arrives."""
    listener = listener_of(postgres_url)
    listener.heard()
    assert listener.heard() == []
    listener._held.connection.execute(uses)
    time.sleep(0.1)

    assert listener.heard() is None
    listener._again_at = 0.0
    assert listener.heard() is None
    assert listener.heard() == []
    listener.close()


def test_who_cannot_hear_asks_less_and_less_often(server, postgres_url, monkeypatch):
    """A call that waits for a message in vain is one in many."""
    with Pooler(server.port) as pooler:
        url = pooler.url(database_of(postgres_url))
        listener = listener_of(url)
        pauses = []
        for _ in range(12):
            listener._again_at = 0.0
            listener.heard()
            pauses.append(listener._pause)
            monkeypatch.setattr(postgres_listener, "_PATIENCE_SECONDS", 0.01)
        assert pauses[:3] == [0.2, 0.4, 0.8]
        assert pauses[-1] == 60
        pool_of(url).close()


def test_no_connection_to_listen_with_is_no_failure(server, postgres_url):
    """Whoever else can ask the server goes on; nothing is copied."""
    name = database_of(postgres_url)
    server.execute(f"CREATE ROLE {name}_worker LOGIN CONNECTION LIMIT 1")
    url = server.url(name, user=f"{name}_worker")
    listener = listener_of(url)

    assert [listener.heard() for _ in range(3)] == [None] * 3
    with pool_of(url).session() as session:
        assert session.run("SELECT 1") == [(1,)]
    pool_of(url).close()
