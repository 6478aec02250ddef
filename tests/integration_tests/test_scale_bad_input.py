"""Whatever is wrong with a server: accounts, cache and ledger say it in the same words, in time."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from langchain_tokenopt import BudgetPlan, Ledger, SemanticCache, optimize, track_usage
from langchain_tokenopt.budget import BudgetStoreError, TokenBudget
from langchain_tokenopt.cache import CacheFileError, postgres_schema, postgres_server
from langchain_tokenopt.cli import app
from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.ledger import writer
from langchain_tokenopt.storage import postgres
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.support.caches import make_cache
from tests.support.postgres_server import PostgresServer, SilentWire, database_of, shared_server

SECRET = "s3cret-pässwörd"
IN_URL = quote(SECRET, safe="")
LIMIT_SECONDS = 5.0
"""Two that each URL sets here, and as much again for a busy machine."""

Open = Callable[[str], Any]
ROOMS: dict[str, Open] = {
    "accounts": lambda url: TokenBudget(1_000, path=url),
    "cache": lambda url: SemanticCache(url, semantic=False),
    "ledger": lambda url: Ledger(url, max_wait_seconds=1),
}


@pytest.fixture(params=ROOMS)
def room(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def strict() -> Iterator[PostgresServer]:
    """A server that asks for passwords, with a user who may do little."""
    with PostgresServer(trusting=False) as server:
        server.execute(f"CREATE ROLE ann LOGIN PASSWORD '{SECRET}'")
        server.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        yield server
        postgres.close_all()


@pytest.fixture(autouse=True)
def no_memory_of_failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(postgres, "_RETRY_SECONDS", 0.0)
    for pool in list(postgres._pools.values()):
        pool._failed = None
    yield
    postgres.close_all()


def refusal(room: str, url: str, caplog: pytest.LogCaptureFixture, *secrets: str) -> str:
    """Return what opening says, which comes in time and nowhere tells a secret."""
    caplog.set_level(logging.DEBUG)
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises((TokenOptError, ValueError)) as refused:
            ROOMS[room](url)
    assert time.monotonic() - began < LIMIT_SECONDS
    told = "".join(traceback.format_exception(refused.value, chain=True)) + caplog.text
    told += "".join(str(each.message) for each in warned) + repr(refused.value)
    for secret in (SECRET, IN_URL, *secrets):
        assert secret not in told
    return str(refused.value)


# What is opened


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"postgresql://u:{IN_URL}@127.0.0.1:9/d", "cannot be reached. Check that the server"),
        (f"postgresql://u:{IN_URL}@nowhere.invalid/d", "cannot be reached. Check that the server"),
        (f"postgresql://u:{IN_URL}@/d?host=/nowhere", "cannot be reached. Check that the server"),
        (f"postgresql://u:{IN_URL}@[::1]:9/d", "@[::1]:9/d cannot be reached. Check"),
        (f"postgresql://u@127.0.0.1:9/d?password={IN_URL}", "cannot be reached. Check that"),
    ],
    ids=["no server", "no host", "no socket", "IPv6", "password among the options"],
)
def test_no_server(room, url, sentence, caplog):
    """Is said with its address."""
    assert sentence in refusal(room, url, caplog)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://u:SECRET@h/d?nonsense=1", "no option nonsense"),
        ("postgresql://u:SECRET@h/d?sslmode", "stands alone"),
        ("postgresql://u:%zzSECRET@h/d", "stands alone"),
        ("postgresql://u:SECRET@x@h/d", "an @ or a / in it"),
        ("postgresql://u:a/SECRET@h/d", "an @ or a / in it"),
        ("postgresql://u:SECRET@h:port/d", "its port is not a number"),
        ("postgresql://u:SECRET", "its port is not a number"),
        ("postgresql://u:SECRET@::1:5432/d", "its port is not a number"),
        ("postgresql://u:SECRET@h/d?connect_timeout=soon", "its connect_timeout is not a number"),
        ("postgresql://u:SECRET@127.0.0.1/d?sslmode=nonsense", "does not take a setting of its"),
        ("postgresql://u:SECRET@127.0.0.1:99999/d", "does not take a setting of its URL. Mend"),
        ("mysql://u:SECRET@h/d", "a place is a file, sqlite:///file or postgresql://"),
        ("https://u:SECRET@h/d", "a place is a file, sqlite:///file or postgresql://"),
        ("postgresql:/u:SECRET@h/d", "a place is a file, sqlite:///file or postgresql://"),
        ("Postgres:u:SECRET@h/d", "a place is a file, sqlite:///file or postgresql://"),
        ("host=h user=u password=SECRET", "a place is a file, sqlite:///file or postgresql://"),
        ("sslmode=require password = SECRET", "a place is a file, sqlite:///file or"),
    ],
)
def test_urls_that_cannot_be_read(room, url, sentence, caplog):
    """Are refused without repeating what may be a password."""
    said = refusal(room, url.replace("SECRET", "geheim"), caplog, "geheim")
    assert sentence in said


@pytest.mark.parametrize(
    "spelling",
    [
        "postgresql://ann:{pw}@127.0.0.1:{port}/{name}",
        "postgres://ann:{pw}@127.0.0.1:{port}/{name}",
        "postgresql+psycopg://ann:{pw}@127.0.0.1:{port}/{name}",
        "PostgreSQL+AsyncPG://ann:{pw}@127.0.0.1:{port}/{name}\n",
        "postgresql://ann:{raw}@127.0.0.1:{port}/{name}",
        "postgresql://127.0.0.1:{port}/{name}?user=ann&password={pw}",
        "postgresql://ann:{pw}@{socket}:{port}/{name}",
        "postgresql://ann:{pw}@/{name}?host={socket}&port={port}",
        "postgresql://ann:{pw}@127.0.0.1:9,127.0.0.1:{port}/{name}",
    ],
)
def test_spellings_that_mean_the_same_database(room, spelling, strict):
    """Also with a password that is not of ASCII, by socket, and with a second host."""
    server_socket = quote(str(strict.folder), safe="")
    name = database_of(strict.new_database())
    strict.execute("GRANT CREATE ON SCHEMA public TO ann", name)
    url = spelling.format(pw=IN_URL, raw=SECRET, port=strict.port, name=name, socket=server_socket)
    opened = ROOMS[room](url)
    for text in (repr(opened), str(getattr(opened, "location", ""))):
        assert SECRET not in text
        assert IN_URL not in text
    opened.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"password": "wrong"}, "refuses this user or password. Check both, in the URL"),
        ({"password": None}, "refuses this user or password. Check both, in the URL"),
        ({"password": "fälsch"}, "refuses this user or password. Check both, in the URL"),
        ({"user": "nobody"}, "refuses this user or password. Check both, in the URL"),
        ({"database": "elsewhere"}, "has no such database. Create it first (createdb)"),
        ({"user": "guest", "password": "guest", "database": ""}, "has no such database. Create"),
    ],
    ids=["wrong", "none", "wrong and not ASCII", "no such user", "no such database", "unnamed"],
)
def test_a_wrong_user_password_or_database(room, change, sentence, strict, caplog):
    """Each has a sentence of its own."""
    said = refusal(room, strict.url(host="127.0.0.1", **change), caplog, "fälsch")
    assert sentence in said


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("sslmode=require", "does not agree about encryption. Mend sslmode"),
        ("options=-cnonsense%3D1", "does not take a setting of its URL. Mend it"),
        ("options=-csearch_path%3Dnowhere", "has no schema to make tables in. Create the one"),
    ],
)
def test_options_that_the_server_does_not_take(room, option, sentence, strict, caplog):
    """Are told from a server that is away."""
    url = f"{strict.url(database_of(strict.new_database()), host='127.0.0.1')}?{option}"
    assert sentence in refusal(room, url, caplog)


def test_no_rights(room, strict, caplog):
    """To make tables, then to use them; with what the message names, it works."""
    url = strict.new_database()
    name = database_of(url)
    as_guest = strict.url(name, user="guest", password="guest")
    assert "GRANT CREATE, USAGE ON SCHEMA public" in refusal(room, as_guest, caplog)
    ROOMS[room](url).close()
    said = refusal(room, as_guest, caplog)
    assert "does not allow this user to use its tables. Let their owner run GRANT SELECT" in said
    for grant in re.findall(r"GRANT [^;(]*(?=TO the user)", said):
        strict.execute(f"{grant} TO guest", name)
    opened = ROOMS[room](as_guest)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _use(room, opened, as_guest)
    opened.close()


def test_an_old_server(room, postgres_url, monkeypatch, caplog):
    """The message has both versions."""
    monkeypatch.setattr(postgres, "LEAST_VERSION", 99)
    said = refusal(room, postgres_url, caplog)
    assert "is PostgreSQL 18; 99 is needed at least. Upgrade the server." in said
    assert not said.endswith("..")


SCHEMAS = {"accounts": "budget_schema", "cache": "cache_schema", "ledger": "ledger_schema"}


def test_tables_of_a_newer_release(room, postgres_url, caplog):
    """Both versions, and the command that mends it."""
    ROOMS[room](postgres_url).close()
    _age(room, postgres_url)
    said = refusal(room, postgres_url, caplog)
    assert "version 99" in said
    assert "newer langchain-tokenopt" in said
    assert "pip install -U langchain-tokenopt" in said


def test_without_pgvector(room, postgres_url, monkeypatch):
    """Only a cache that compares meanings needs it, and it goes on without."""
    monkeypatch.setattr(postgres_schema, "_pgvector", lambda session: ())
    monkeypatch.setattr(postgres_schema, "_add_pgvector", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = ROOMS[room](postgres_url)
        _use(room, opened, postgres_url)
    opened.close()


@pytest.mark.parametrize("talks", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_of_something_else(room, talks, caplog):
    """That hangs up, or speaks another language."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def answer() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(1_000)
                    client.sendall(talks)

        threading.Thread(target=answer, daemon=True).start()
        said = refusal(room, f"postgresql://u:{IN_URL}@127.0.0.1:{port}/d", caplog)
        listening.shutdown(socket.SHUT_RDWR)
    assert ("is no PostgreSQL server" if talks else "cannot be reached") in said


def test_a_connection_that_hangs_at_once(room, caplog):
    """Ends when the time in the URL is over."""
    with SilentWire() as wire:
        url = f"postgresql://u:{IN_URL}@127.0.0.1:{wire.port}/d?connect_timeout=2"
        assert "cannot be reached" in refusal(room, url, caplog)


# What is in use


def _age(room: str, url: str) -> None:
    extra = ", 0, '9.9'" if room == "ledger" else ""
    shared_server().execute(f"INSERT INTO {SCHEMAS[room]} VALUES (99{extra})", database_of(url))


def _use(room: str, opened: Any, url: str) -> None:
    """Ask a model once through what is open; sync, and async on another request."""
    with ExitStack() as stack:
        stages = []
        if room == "accounts":
            plan = BudgetPlan(total_tokens=5_000)
            run = plan.run(store=url, on_store_error="open")
            stages = [plan]
            stack.enter_context(run)
        elif room == "cache":
            stages = [opened]
        else:
            stack.enter_context(track_usage(sinks=[opened]))
        model = optimize(ExtractiveChatModel(), *stages)
        assert "blue" in model.invoke("What is blue? The sky is blue.").text
        answer = asyncio.run(model.ainvoke("What is green? The grass is green."))
        assert "green" in answer.text


def _fall_silent(wire: SilentWire, url: str, room: str) -> None:
    wire.silent = True


def _end_sessions(wire: SilentWire, url: str, room: str) -> None:
    shared_server().execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database_of(url)}'"
    )


def _drop_tables(wire: SilentWire, url: str, room: str) -> None:
    shared_server().execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database_of(url))


def _make_read_only(wire: SilentWire, url: str, room: str) -> None:
    name = database_of(url)
    shared_server().execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    _end_sessions(wire, url, room)


def _upgrade(wire: SilentWire, url: str, room: str) -> None:
    _age(room, url)


@pytest.mark.parametrize(
    "trouble", [_fall_silent, _end_sessions, _drop_tables, _make_read_only, _upgrade]
)
def test_trouble_in_the_middle_breaks_no_call(room, trouble, monkeypatch, caplog):
    """Sync and async, in time; what is said then tells no password."""
    for module, name in (
        *((postgres_server, name) for name in ("READING_SECONDS", "WRITING_SECONDS")),
        (postgres, "SILENT_SECONDS"),
        (writer, "ANSWER_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 1.0)
    caplog.set_level(logging.DEBUG)
    server = shared_server()
    with SilentWire(server.port) as wire, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", TokenOptWarning)
        name = database_of(server.new_database())
        url = f"postgresql://postgres:{IN_URL}@127.0.0.1:{wire.port}/{name}?connect_timeout=2"
        with ExitStack() as stack:
            plan = BudgetPlan(total_tokens=5_000)
            opened: Any = None
            stages: list[Any] = []
            if room == "accounts":
                stack.enter_context(plan.run(store=url, on_store_error="open"))
                stages = [plan]
            else:
                opened = ROOMS[room](url)
                stages = [opened] if room == "cache" else []
            if room == "ledger":
                stack.enter_context(track_usage(sinks=[opened]))
            model = optimize(ExtractiveChatModel(), *stages)
            model.invoke("What is red? The rose is red.")
            if room == "ledger":
                opened.flush()
            trouble(wire, url, room)
            for number in range(2):
                began = time.monotonic()
                question = f"What is blue {number}? The sky is blue."
                assert "blue" in model.invoke(question).text
                assert "blue" in asyncio.run(model.ainvoke(f"Please, {question}")).text
                assert time.monotonic() - began < 6 * LIMIT_SECONDS
            wire.silent = False
            if room == "ledger":
                with suppress(TokenOptError):  # which names the files that events wait in
                    opened.close()
            elif opened is not None:
                opened.close()
        postgres.close_all()
    told = caplog.text + "".join(str(each.message) for each in warned)
    assert SECRET not in told
    assert IN_URL not in told


# Commands


@pytest.mark.parametrize(
    "words",
    [
        ["budget", "--budgets"],
        ["top", "--ledger"],
        ["doctor", "--ledger"],
        ["cache", "stats", "--cache"],
        ["migrate", "here.db"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{IN_URL}@127.0.0.1:9/d",
        f"postgresql://u:{SECRET}/x@h/d",
        f"mysql://u:{SECRET}@h/d",
        f"host=h password={SECRET}",
    ],
    ids=["no server", "slash", "mysql", "words"],
)
def test_commands_say_it_too(words, url, tmp_path, monkeypatch):
    """In a sentence, with an exit code, and without the password."""
    monkeypatch.chdir(tmp_path)
    Ledger("here.db").close()
    ended = CliRunner().invoke(app, [*words, url])
    assert ended.exit_code in (1, 2)
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    assert ended.output.strip()
    assert SECRET not in ended.output
    assert IN_URL not in ended.output


@pytest.mark.parametrize("place", ["tokens-db", "sqlite:///tokens.db", "${TOKENS}"])
def test_what_machines_share_is_no_file(place):
    """Each of them would have the whole budget."""
    with pytest.raises(ValueError, match="several machines share a database"):
        BudgetPlan(total_tokens=100).run(store=place)


@pytest.mark.parametrize("url", ["postgresql://", " POSTGRES://", "postgresql:/", "mysql://"])
@pytest.mark.parametrize("command", ["guard", "learned", "doctor"])
def test_commands_of_files_repeat_no_password(command, url, monkeypatch):
    """Somebody may try a database there."""
    place = f"{url}me:{SECRET}@127.0.0.1:1/tokens"
    words = [command, place] if command != "doctor" else [command]
    monkeypatch.setenv("TOKENOPT_LEARNED", place)
    said = CliRunner().invoke(app, words)
    assert said.exit_code in (1, 2)
    assert SECRET not in said.output
    assert not any(name in said.output for name in ("Traceback", "no file"))


# What a database, or a number, cannot hold


@pytest.mark.parametrize("encoding", ["WIN1252", "LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_that_is_not_utf8_is_refused_when_it_is_opened(encoding):
    """In a sentence, whatever the names are; calls go through by option, and cached ones, too."""
    server, name = shared_server(), f"old_{encoding.lower()}"
    server.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' "
        f"TEMPLATE template0"
    )
    url = server.url(name)
    with pytest.raises(BudgetStoreError, match=f"has the encoding {encoding}.*ENCODING 'UTF8'"):
        TokenBudget(5, path=url)
    with pytest.raises(CacheFileError, match=f"has the encoding {encoding}.*ENCODING 'UTF8'"):
        make_cache(url, semantic=False)
    plan = BudgetPlan(total_tokens=2_000)
    with (
        pytest.warns(TokenOptWarning, match=f"has the encoding {encoding}"),
        plan.run(store=url, thread_id="заказ-17", user="文子", on_store_error="open"),
    ):
        model = optimize(ExtractiveChatModel(), plan)
        assert model.invoke("Ada won. Who won?").text
        assert asyncio.run(model.ainvoke("Ada won. Who won then?")).text


def test_the_encoding_of_a_client_does_no_harm(monkeypatch):
    """In the URL or the environment."""
    url = shared_server().new_database()
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    plan = BudgetPlan(total_tokens=2_000)
    with plan.run(store=f"{url}&client_encoding=WIN1252", thread_id="заказ-17") as run:
        optimize(ExtractiveChatModel(), plan).invoke("Ada won. Who won?")
        assert run.report().account.spent_tokens


@pytest.mark.parametrize("place", [None, "file", "url"])
def test_a_total_that_no_store_holds_is_refused(place, tmp_path):
    """With both numbers, wherever it would be kept; the greatest one is kept."""
    path = {"file": tmp_path / "a.db", "url": shared_server().new_database()}.get(place)
    with pytest.raises(
        ValueError, match=r"at most 4,611,686,018,427,387,904.*10000000000000000000"
    ):
        TokenBudget(10**19, path=path)
    assert TokenBudget(2**62, path=path).available("a") == 2**62


def test_a_line_end_in_a_url_makes_no_second_line():
    """Of a message about what is not there."""
    url = shared_server().url("x%0Ay%0D%C2%85z")
    with pytest.raises(BudgetStoreError) as refused:
        TokenBudget(5, path=url)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("stops", "says"),
    [
        ("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}", "GRANT SELECT, INSERT"),
        ("INSERT INTO budget_schema VALUES (99)", "newer langchain-tokenopt.*Upgrade"),
        ("ALTER ROLE {} SET default_transaction_read_only = on", "can only be read"),
        ("DROP TABLE budget_agents", "was removed or changed"),
    ],
)
def test_a_refusal_says_what_stops_the_accounts(stops, says):
    """The error of each call does, sync and async; nobody is told to count nothing for that."""
    server = shared_server()
    url = server.new_database()
    name = database_of(url)
    TokenBudget(5, path=url).available("a")
    server.execute(f"CREATE ROLE {name}_user LOGIN")
    server.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}_user", name)
    plan = BudgetPlan(total_tokens=2_000, on_exceed="raise")
    model = optimize(ExtractiveChatModel(), plan)
    with (
        warnings.catch_warnings(),
        plan.run(store=server.url(name, user=f"{name}_user")),
    ):
        warnings.simplefilter("ignore", TokenOptWarning)
        model.invoke("Ada won. Who won?")
        server.execute(stops.format(f"{name}_user"), name)
        pools = list(postgres._pools.values())
        for pool in pools:
            pool.close()
        for ask in (model.invoke, lambda text: list(model.stream(text))):
            with pytest.raises(BudgetStoreError, match=says) as refused:
                ask("Who lost?")
            assert "cannot be reached" not in str(refused.value)
            assert "on_store_error" not in str(refused.value)
        with pytest.raises(BudgetStoreError, match=says):
            asyncio.run(model.ainvoke("Who lost?"))
