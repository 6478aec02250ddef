"""Accounts in PostgreSQL: one clock, no wait without an end, and a sentence for whatever is wrong.

That they decide as accounts in memory and in files do is shown where those are tested.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from langchain_tokenopt import BudgetExceededError, BudgetLimit, BudgetPlan, optimize
from langchain_tokenopt.budget import (
    BudgetStoreError,
    Owners,
    TokenBudget,
    account_columns,
    reports_in,
)
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.storage import postgres
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.support.postgres_server import PostgresServer, SilentWire, database_of, shared_server
from tests.support.waiting import until

LEVELS = [
    BudgetLimit(total_tokens=10_000, per="user", window="day"),
    BudgetLimit(total_tokens=12_000, per="organization", window="month"),
]
ANN = Owners("ann", "acme")


@pytest.fixture
def server() -> PostgresServer:
    return shared_server()


@pytest.fixture
def impatient(monkeypatch):
    """Wait a second for locks and two for any answer."""
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "SILENT_SECONDS", 2.0)
    settings = postgres._SETTINGS.replace("'10s'", "'1s'").replace("'12s'", "'2s'")
    monkeypatch.setattr(postgres, "_SETTINGS", settings)


# As anywhere


def test_a_plan_runs_on_a_server(postgres_url):
    """Sync and async, and whoever comes next finds what is left, at every level."""
    plan = BudgetPlan(total_tokens=3_000, name="desk", within=LEVELS)
    model = optimize(ExtractiveChatModel(), plan)
    with plan.run("monday", user="ann", organization="acme", store=postgres_url) as run:
        model.invoke("What is blue? The sky is blue.")
        asyncio.run(model.ainvoke("What is green? The grass is green."))
        spent = run.report().account.spent_tokens
    with plan.run("monday", user="ann", organization="acme", store=postgres_url) as run:
        assert spent == run.report().account.spent_tokens

    assert {("run", "monday"), ("user", "ann"), ("organization", "acme")} == {
        (report.per, report.owner) for report in reports_in(postgres_url)
    }
    assert {spent} == {report.spent_tokens for report in reports_in(postgres_url)}


async def test_an_event_loop_goes_on_while_a_call_waits_for_an_account(postgres_url):
    """Another task runs meanwhile."""
    plan = BudgetPlan(total_tokens=3_000)
    model = optimize(ExtractiveChatModel(), plan)
    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    with plan.run("t", store=postgres_url), psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM budget_accounts FOR UPDATE")
        ticking = asyncio.create_task(tick())
        call = asyncio.create_task(model.ainvoke("What is blue? The sky is blue."))
        await asyncio.sleep(0.3)
        assert not call.done()
        await asyncio.to_thread(other.rollback)
        assert "blue" in (await call).text
        ticking.cancel()

    assert max(b - a for a, b in itertools.pairwise(ticks)) < 0.25


def test_nothing_is_kept_in_a_session(server, postgres_url):
    """A pooler may give every transaction another one: no statement is prepared."""
    budget = TokenBudget(1_000, path=postgres_url)
    for number in range(8):
        budget.settle(budget.reserve("a", 1, 0), Usage(1, 0))
        budget._account.store._known.clear()
        assert number + 1 == budget.report().spent_tokens
    with postgres.pool_of(postgres_url).session() as session:
        assert [] == session.run("SELECT name FROM pg_prepared_statements")


def test_a_path_and_a_store_are_one_too_many(tmp_path):
    """Accounts are in one place."""
    with pytest.raises(ValueError, match="kept in one place"):
        BudgetPlan(total_tokens=1).run(path=tmp_path / "b.db", store="postgresql://h/d")


def test_names_may_have_any_characters(postgres_url):
    """Also those that PostgreSQL does not take in a text."""
    names = ["a\0b", "ab", "\ud800", "\x1a0\x1a", "ü' \"%s\\"]
    budget = TokenBudget(1_000, path=postgres_url, name="n\0", run="\udfff")
    for number, name in enumerate(names):
        hold = budget.reserve(name, number, 0, run_id=name)
        assert budget.reserve(name, number, 0, run_id=name).id == hold.id

    (report,) = reports_in(postgres_url)
    assert ("n\0", "\udfff") == (report.budget, report.run)
    assert dict(zip(names, range(5), strict=True)) == {
        name: agent.held_tokens for name, agent in report.agents.items()
    }


def test_leases_end_by_the_servers_clock(postgres_url, monkeypatch):
    """A worker whose own clock is hours ahead takes nothing from anybody, and gains nothing."""
    budget = TokenBudget(1_000, path=postgres_url, lease_seconds=1)
    hold = budget.reserve("writer", 500, 0)
    monkeypatch.setattr(time, "time", lambda: 1e10)
    ahead = TokenBudget(1_000, path=postgres_url, lease_seconds=1)
    assert not ahead.reserve("reader", 501, 0)
    assert (0, 500) == (ahead.report().spent_tokens, ahead.report().held_tokens)
    time.sleep(1.05)
    assert (500, 0) == (ahead.report().spent_tokens, ahead.report().held_tokens)

    budget.settle(hold, Usage(200, 0))
    assert 200 == ahead.report().spent_tokens


def test_windows_long_over_are_forgotten_and_not_begun_anew(postgres_url):
    """Who comes back to one with a wrong clock pays from the next."""
    now = [1_000_000_000.0]
    limit = BudgetLimit(total_tokens=1_000, per="user", window="hour")
    budget = TokenBudget(
        9_000, path=postgres_url, within=[limit], clock=lambda: now[0], lease_seconds=60
    )
    budget.settle(budget.reserve("a", 900, 0, owners=ANN), Usage(900, 0))
    late = budget.reserve("a", 10, 0, owners=ANN)
    now[0] += 60 * 86_400
    budget.settle(budget.reserve("a", 900, 0, owners=ANN), Usage(900, 0))
    assert 2 == len(reports_in(postgres_url))  # the run's, and one hour

    now[0] -= 60 * 86_400
    hold = budget.reserve("a", 900, 0, owners=ANN)
    assert 0 < hold.accounts[1].starts - now[0] < 3_600
    assert 10 == budget.settle(late, Usage(10, 0)).charged_tokens  # by the run alone


# Many at once


def test_accounts_that_are_opened_in_any_order_cause_no_deadlock(postgres_url):
    """Levels around each other the other way round, new ones among old ones; nothing is refused."""
    lists = [LEVELS, LEVELS[::-1]]
    for limits in lists:
        TokenBudget(10**9, path=postgres_url, within=limits).reports(ANN)

    def work(number):
        for turn in range(15):
            run = f"{number}-{turn}"
            limits = [limit.model_copy(update={"name": "all"}) for limit in lists[number % 2]]
            budget = TokenBudget(10**9, path=postgres_url, run=run, within=limits)
            owners = Owners(f"u{turn % 4}", f"o{turn % 3}")
            hold = budget.reserve("a", 10, 0, owners=owners)
            assert hold, hold
            budget.settle(hold, Usage(10, 0))
        return True

    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        assert all(pool.map(work, range(8)))
    assert not [report for report in reports_in(postgres_url) if report.held_tokens]


def test_eight_threads_get_what_there_is_and_no_more(postgres_url):
    """Each with a run of its own, in one user's day."""
    limit = [BudgetLimit(total_tokens=1_000, per="user", window="day")]

    def work(number):
        budget = TokenBudget(10_000, path=postgres_url, run=str(number), within=limit)
        return sum(bool(budget.reserve("a", 30, 0, owners=ANN)) for _ in range(8))

    with ThreadPoolExecutor(8) as pool:
        assert 1_000 // 30 == sum(pool.map(work, range(8)))


def _wait_with(accounts, began):
    accounts[0].totals.spent += 1
    began.set()
    time.sleep(1.0)


def test_a_process_that_stands_still_holds_nobody_up_for_long(postgres_url, impatient, monkeypatch):
    """The server undoes what it had begun; others go on."""
    settings = postgres._SETTINGS.replace("'5s'", "'300ms'").replace("'1s'", "'5s'")
    monkeypatch.setattr(postgres, "_SETTINGS", settings.replace("'2s'", "'6s'"))
    budget = TokenBudget(1_000, path=postgres_url)
    store = budget._account.store
    opening = budget._account.levels[0].opening(Owners(), time.time())
    began = threading.Event()

    def stand_still():
        with (
            pytest.raises(BudgetStoreError, match="cannot be"),
            store.transaction([opening]) as accounts,
        ):
            _wait_with(accounts, began)

    thread = threading.Thread(target=stand_still)
    thread.start()
    began.wait()
    assert TokenBudget(1_000, path=postgres_url).reserve("a", 1_000, 0)
    thread.join()


# Servers that go away


def test_a_server_that_crashes_loses_nothing_that_was_granted_or_settled(monkeypatch):
    """As after kill -9: with everything on the disk when it was said to be done."""
    with PostgresServer({"wal_writer_delay": "10s"}) as server:
        url = server.new_database()
        budget = TokenBudget(10_000, path=url)
        settled = budget.reserve("a", 100, 0)
        budget.settle(settled, Usage(70, 0))
        held = budget.reserve("a", 500, 0)
        server.stop(crash=True)
        monkeypatch.setattr(postgres, "_RETRY_SECONDS", 0.0)
        with pytest.warns(TokenOptWarning, match=r"refuses every call.*cannot be reached"):
            assert "store" == budget.reserve("a", 1, 0).reason
        server.start()

        assert (70, 500) == (budget.report().spent_tokens, budget.report().held_tokens)
        assert 40 == budget.settle(held, Usage(40, 0)).charged_tokens
        assert (110, 0, []) == (
            *(budget.report().spent_tokens, budget.report().held_tokens),
            budget.check(),
        )
        postgres.close_all()


def test_connections_that_have_been_ended_are_replaced(server, postgres_url):
    """A restart in between is not noticed."""
    budget = TokenBudget(1_000, path=postgres_url)
    server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database_of(postgres_url)}' AND pid <> pg_backend_pid()"
    )
    time.sleep(0.1)

    assert budget.reserve("a", 1, 0)


def test_a_server_that_falls_silent_is_given_up(server, postgres_url, impatient, monkeypatch):
    """In the middle of a connection: refused within the time that is set, and then at once."""
    with SilentWire(server.port) as wire:
        url = f"postgresql://postgres:secret@127.0.0.1:{wire.port}/{database_of(postgres_url)}"
        budget = TokenBudget(1_000, path=f"{url}?connect_timeout=2")
        wire.silent = True
        began = time.monotonic()
        with pytest.warns(TokenOptWarning, match="no answer within 2 seconds"):
            assert "store" == budget.reserve("a", 1, 0).reason
        assert 1.5 < time.monotonic() - began < 6
        began = time.monotonic()  # whatever else is asked in that moment need not wait again
        assert not budget.reserve("a", 1, 0)
        assert time.monotonic() - began < 1.5
        wire.silent = False
        asyncio.run(until(lambda: budget.reserve("a", 1, 0)))


def test_accounts_wait_once_for_a_server_that_lets_one_in_and_never_answers(
    impatient, server, postgres_url, monkeypatch
):
    """Their clock, their tables and their rows are asked one after another."""
    TokenBudget(1_000, path=postgres_url, name="a").close()
    late, passed = [], postgres._ending
    monkeypatch.setattr(
        postgres, "_ending", lambda gen, seconds: _noted(passed(gen, seconds), late)
    )
    with SilentWire(server.port, answers=1) as wire:
        url = f"postgresql://postgres:secret@127.0.0.1:{wire.port}/{database_of(postgres_url)}"
        with pytest.raises(BudgetStoreError, match="no answer within 2 seconds"):
            TokenBudget(1_000, path=url, name="a").available("a")
    assert 1 == len(late)


def _noted(waiting, late):
    try:
        return (yield from waiting)
    except postgres._SilentServerError as error:
        late.append(error)
        raise


def test_a_server_that_is_away_may_let_calls_through(postgres_url):
    """By the option that files have."""
    plan = BudgetPlan(total_tokens=1_000)
    model = optimize(ExtractiveChatModel(), plan)
    url = "postgresql://u:secret@127.0.0.1:9/d"
    with pytest.warns(TokenOptWarning) as warned, plan.run(store=url, on_store_error="open"):
        assert model.invoke("What is blue? The sky is blue.").text
    assert any("without counting" in str(each.message) for each in warned)
    assert not any("secret" in str(each.message) for each in warned)


# Whatever else is wrong


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://u:secret@127.0.0.1:9/d", "cannot be reached. Check that the server runs"),
        ("postgresql://u:secret@nowhere.invalid/d", "cannot be reached. Check that the server"),
        ("postgresql:///d?host=/nowhere", "cannot be reached. Check that the server runs"),
    ],
    ids=["no server", "no host", "no socket"],
)
def test_no_server(url, sentence):
    """Is said in one sentence, without a password."""
    with pytest.raises(BudgetStoreError, match=sentence) as refused:
        TokenBudget(1_000, path=url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@x@h/d",
        "postgresql://u:secret@h:port/d",
        "postgresql://u:secret@h/d?nonsense=1",
        "postgresql://u:se%zzcret@h/d",
        "postgresql://[u:secret@h/d",
    ],
)
def test_urls_that_cannot_be_read(url):
    """Are refused without telling what they contain."""
    with pytest.raises((ValueError, BudgetStoreError)) as refused:
        TokenBudget(1_000, path=url)
    for error in (refused.value, refused.value.__cause__):
        assert "secret" not in str(error)
        assert "se%zz" not in str(error)


def test_a_connection_that_hangs():
    """Ends when its time is over."""
    with SilentWire() as wire:
        began = time.monotonic()
        url = f"postgresql://u:secret@127.0.0.1:{wire.port}/d?connect_timeout=2"
        with pytest.raises(BudgetStoreError, match="cannot be reached"):
            TokenBudget(1_000, path=url)
        assert time.monotonic() - began < 6


def test_a_wrong_password_or_database():
    """Each in a sentence of its own."""
    with PostgresServer(trusting=False) as server:
        assert TokenBudget(1_000, path=server.url())
        for password in ("wrong", None):
            with pytest.raises(BudgetStoreError, match="refuses this user or password") as refused:
                TokenBudget(1_000, path=server.url(password=password))
            assert "wrong" not in str(refused.value)
        with pytest.raises(BudgetStoreError, match=r"no such database\. Create it first"):
            TokenBudget(1_000, path=server.url("elsewhere"))
        postgres.close_all()


def test_no_rights(server, postgres_url):
    """Who may not make tables is told what to allow; where there are tables, no more is needed."""
    server.execute("DROP ROLE IF EXISTS guest")
    server.execute("CREATE ROLE guest LOGIN")
    as_guest = server.url(database_of(postgres_url), user="guest", password=None)
    with pytest.raises(BudgetStoreError, match=r"does not allow this user .* GRANT CREATE"):
        TokenBudget(1_000, path=as_guest)
    TokenBudget(1_000, path=postgres_url)
    with pytest.raises(BudgetStoreError, match="does not allow this user"):
        TokenBudget(1_000, path=as_guest)
    server.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest",
        database_of(postgres_url),
    )
    assert TokenBudget(1_000, path=as_guest).reserve("a", 1_000, 0)


def test_an_old_server(postgres_url, monkeypatch):
    """The message has both versions."""
    monkeypatch.setattr(postgres, "LEAST_VERSION", 99)
    postgres.close_all()
    with pytest.raises(BudgetStoreError, match=r"is PostgreSQL 18; 99 is needed"):
        TokenBudget(1_000, path=postgres_url)


def test_a_server_that_can_only_be_read(server, postgres_url):
    """A standby, for instance."""
    TokenBudget(1_000, path=postgres_url)
    name = database_of(postgres_url)
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.close_all()
    with pytest.raises(BudgetStoreError, match=r"can only be read\. Name the primary"):
        TokenBudget(1_000, path=postgres_url)


def test_two_releases_at_once(server, postgres_url):
    """An older one that is at work refuses as soon as a newer one has changed the tables."""
    budget = TokenBudget(1_000, path=postgres_url)
    server.execute("INSERT INTO budget_schema VALUES (99)", database_of(postgres_url))
    with pytest.warns(TokenOptWarning, match="version 99 .* Upgrade it"):
        assert "store" == budget.reserve("a", 1, 0).reason
    for look in (lambda: TokenBudget(1_000, path=postgres_url), lambda: reports_in(postgres_url)):
        with pytest.raises(BudgetStoreError, match=r"version 99 .* newer langchain-tokenopt"):
            look()


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM budget_schema",
        "ALTER TABLE budget_schema ALTER version TYPE text",
        "ALTER TABLE budget_schema DROP version",
        "DROP TABLE budget_schema; CREATE TABLE budget_schema (version boolean); "
        "INSERT INTO budget_schema VALUES (true)",
        "ALTER TABLE budget_schema DROP CONSTRAINT budget_schema_pkey, "
        "ALTER version DROP NOT NULL; UPDATE budget_schema SET version = NULL",
        "UPDATE budget_schema SET version = 0",
        "UPDATE budget_schema SET version = -1",
    ],
)
@pytest.mark.filterwarnings("ignore::langchain_tokenopt.core.errors.TokenOptWarning")
def test_tables_that_do_not_say_their_version(server, postgres_url, spoil):
    """Whether one is at work or begins: the table is named, and nothing is changed."""
    at_work = TokenBudget(1_000, path=postgres_url)
    server.execute(spoil, database_of(postgres_url))
    spoilt = server.execute("TABLE budget_schema", database_of(postgres_url))
    for look in (
        at_work.report,
        lambda: TokenBudget(1_000, path=postgres_url),
        lambda: reports_in(postgres_url),
    ):
        with pytest.raises(BudgetStoreError, match=r"budget_schema.*csearch_path%3Dname"):
            look()
    assert "store" == at_work.reserve("a", 1, 0).reason
    assert spoilt == server.execute("TABLE budget_schema", database_of(postgres_url))


@pytest.mark.parametrize(
    "make",
    [
        "TABLE {0} (mine int)",
        "TABLE {0} (version int); INSERT INTO {0} VALUES (1)",
        "VIEW {0} AS SELECT 1 AS version",
        "MATERIALIZED VIEW {0} AS SELECT 1 AS version",
        "SEQUENCE {0}",
        "TYPE {0} AS (version int)",
        "TYPE {0} AS ENUM ('a')",
        "DOMAIN {0} AS int",
        "TABLE mine (a int); CREATE INDEX {0} ON mine (a)",
    ],
)
@pytest.mark.parametrize("name", ["budget_schema", "budget_accounts", "budget_forgotten"])
def test_names_of_another_program_are_left_alone(server, postgres_url, make, name):
    """It is said which, and nothing is made; in a schema of its own there is room."""
    database = database_of(postgres_url)
    server.execute("CREATE " + make.format(name), database)
    query = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = server.execute(query, database)
    with pytest.raises(BudgetStoreError, match=r"budget_\w+.*\?options=-csearch_path%3Dname"):
        TokenBudget(1_000, path=postgres_url)
    assert before == server.execute(query, database)
    server.execute("CREATE SCHEMA own", database)
    assert TokenBudget(1_000, path=postgres_url + "&options=-csearch_path%3Down").reserve("a", 9, 0)
    assert before == server.execute(query, database)


@pytest.mark.parametrize(
    "settings",
    [
        {"default_transaction_isolation": "'repeatable read'"},
        {"default_transaction_isolation": "'serializable'", "default_transaction_deferrable": "on"},
        {"statement_timeout": "'2s'", "lock_timeout": "'100ms'"},
        {"idle_in_transaction_session_timeout": "'1ms'", "transaction_timeout": "'60s'"},
    ],
)
def test_settings_of_a_database_do_not_matter(server, postgres_url, settings):
    """Several begin at once and call: what there is, and no more."""
    for name, value in settings.items():
        server.execute(f"ALTER DATABASE {database_of(postgres_url)} SET {name} = {value}")
    with ThreadPoolExecutor(4) as pool:

        def call(number):
            budget = TokenBudget(9_000, path=postgres_url, run=str(number % 2), within=LEVELS)
            hold = budget.reserve("a", 3_000, 0, owners=ANN)
            return bool(hold) and budget.settle(hold, Usage(3_000, 0)).charged_tokens

        charged = list(pool.map(call, range(8)))
    assert 9_000 == sum(charged)


def test_tables_are_made_once_by_whoever_comes_first(postgres_url):
    """Eight begin at the same moment on an empty database."""
    with ThreadPoolExecutor(8) as pool:
        budgets = list(
            pool.map(lambda n: TokenBudget(1_000, path=postgres_url, run=str(n % 2)), range(8))
        )
    assert 1_000 == budgets[0].available("a")
    assert 2 == len(reports_in(postgres_url))


def test_looking_makes_nothing(server, postgres_url):
    """As with files."""
    with pytest.raises(BudgetStoreError, match="there are no budgets at"):
        reports_in(postgres_url)
    assert [] == server.execute(
        "SELECT 1 FROM pg_tables WHERE schemaname = 'public'", database_of(postgres_url)
    )


def test_an_account_that_was_removed_is_no_blank_one(server, postgres_url):
    """Somebody has deleted its rows, or all tables."""
    budget = TokenBudget(1_000, path=postgres_url)
    server.execute("DELETE FROM budget_accounts", database_of(postgres_url))
    with pytest.raises(BudgetStoreError, match="no longer has the budget 'default'"):
        budget.report()
    budget = TokenBudget(1_000, path=postgres_url)
    server.execute("DROP TABLE budget_accounts", database_of(postgres_url))
    with pytest.raises(BudgetStoreError, match='"budget_accounts" does not exist'):
        budget.report()


def test_other_totals_are_refused(postgres_url):
    """With both, and without the password."""
    TokenBudget(1_000, path=postgres_url)
    with pytest.raises(ValueError, match="has 1,000 tokens, but 2,000 tokens were") as refused:
        TokenBudget(2_000, path=postgres_url)
    assert "secret" not in str(refused.value)
    assert 1_000 == TokenBudget(1_000, path=postgres_url).total_tokens


def test_a_refusal_names_whose_total_it_is(postgres_url):
    """Through a model."""
    plan = BudgetPlan(total_tokens=5_000, within=LEVELS[:1], on_exceed="raise")
    model = optimize(ExtractiveChatModel(), plan)
    with plan.run(user="ann", store=postgres_url), pytest.raises(BudgetExceededError):
        model.invoke("Is it? " * 20_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(postgres_url):
    """Parent and children work on the same account at once."""
    budget = TokenBudget(100_000, path=postgres_url)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(20):
                    budget.settle(budget.reserve("child", 10, 0), Usage(10, 0))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
        for _ in range(10):
            budget.settle(budget.reserve("parent", 10, 0), Usage(10, 0))
    assert [0] * 3 == [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    agents = budget.report().agents
    assert (600, 300) == (agents["child"].spent_tokens, agents["parent"].spent_tokens)


def test_tables_have_a_column_for_all_that_is_kept(server, postgres_url):
    """A new field of a record needs a new step."""
    TokenBudget(1_000, path=postgres_url)
    columns = dict(
        server.execute(
            "SELECT table_name, array_agg(column_name::text) FROM information_schema.columns "
            "WHERE table_schema = 'public' GROUP BY 1",
            database_of(postgres_url),
        )
    )
    wanted = account_columns
    assert {*wanted.KEY, *wanted.TOTALS} <= {*columns["budget_accounts"]}
    assert {"account", *wanted.AGENT} == {*columns["budget_agents"]}
    assert {"account", *wanted.LEASE} == {*columns["budget_leases"]}
