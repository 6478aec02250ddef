"""Calls that share transactions on a PostgreSQL server, and servers that are away or set back."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psycopg
import pytest

from langchain_tokenopt import BudgetLimit, BudgetPlan, optimize
from langchain_tokenopt.budget import (
    Owners,
    TokenBudget,
    postgres_accounts,
    postgres_rows,
    reports_in,
)
from langchain_tokenopt.budget.allocation import Claim
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.storage import postgres
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.support.postgres_server import PostgresServer, database_of, shared_server

DAY = [BudgetLimit(total_tokens=1_000, per="user", window="day")]
ANN, BOB = Owners("ann"), Owners("bob")


@pytest.fixture
def sizes(monkeypatch):
    """How many changes each transaction had."""
    seen = []
    lock_rows = postgres_accounts.lock_rows

    def count(pool, wishes):
        seen.append(len(wishes))
        return lock_rows(pool, wishes)

    monkeypatch.setattr(postgres_accounts, "lock_rows", count)
    return seen


@contextmanager
def _locked(url, owner):
    """Keep an account locked, as a process that stands still does."""
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM budget_accounts WHERE owner = %s FOR UPDATE", (owner,))
        yield
        with suppress(psycopg.OperationalError):  # where the server has died meanwhile
            other.rollback()


def _waiting(count, url):
    """Wait until so many changes wait."""
    queue = postgres_accounts._queues[postgres.pool_of(url)]
    deadline = time.monotonic() + 10
    while len(queue._waiting) < count and time.monotonic() < deadline:
        time.sleep(0.005)


# In one transaction


@pytest.mark.parametrize("runs", ["one", "many"])
def test_those_who_wait_share_a_transaction(postgres_url, sizes, runs):
    """Eight want 30 % each of a user's day, in one run or eight: three get it."""
    budgets = [
        TokenBudget(9_000, path=postgres_url, run="" if runs == "one" else str(n), within=DAY)
        for n in range(8)
    ]
    if runs == "one":
        budgets = budgets[:1] * 8
    budgets[0].reports(ANN)
    with ThreadPoolExecutor(8) as threads, _locked(postgres_url, "ann"):
        sizes.clear()
        each = [threads.submit(one.reserve, "a", 300, 0, owners=ANN) for one in budgets]
        _waiting(7, postgres_url)
    holds = [one.result() for one in each]

    assert [1, 7] == sizes
    assert 3 == sum(map(bool, holds))
    assert {"ann": 900} == {
        report.owner: report.held_tokens
        for report in reports_in(postgres_url)
        if report.per == "user"
    }
    assert not any(finding for one in budgets for finding in one.check(ANN))


def test_a_change_that_fails_takes_nobody_with_it(postgres_url, sizes):
    """It raises in the middle of a transaction with others: nothing of it is kept."""
    budgets = [TokenBudget(900, path=postgres_url, run=str(n), within=DAY) for n in range(4)]
    budgets[0].reports(ANN)

    def change(number):
        if number != 2:
            return budgets[number].reserve("a", 200, 100, owners=ANN)
        account = budgets[number]._account
        with account.store.transaction(account.openings(ANN)) as accounts:
            for each in accounts:
                each.totals.held += 100
                each.agent("a").held += 100
            raise ZeroDivisionError

    with ThreadPoolExecutor(4) as threads, _locked(postgres_url, "ann"):
        sizes.clear()
        each = [threads.submit(change, number) for number in range(4)]
        _waiting(3, postgres_url)
    assert [False, False, True, False] == [one.exception() is not None for one in each]
    assert 4 == sum(sizes)
    assert [300, 300, 0, 300, 900] == [report.held_tokens for report in reports_in(postgres_url)]
    assert [] == budgets[0].check(ANN)


def test_shares_are_divided_once_among_those_who_come_together(postgres_url):
    """Eight open the same run at once, each with claims."""

    def open_it(_):
        budget = TokenBudget(1_000, path=postgres_url, run="r")
        return budget.allocate([Claim("a", priority=3), Claim("b")])

    with ThreadPoolExecutor(8) as threads:
        assert [{"a": 750, "b": 250}] * 8 == list(threads.map(open_it, range(8)))


def test_whoever_wants_another_account_need_not_wait(postgres_url):
    """Ann's is held up; Bob's is not."""
    ann, bob = (TokenBudget(900, path=postgres_url, run=run, within=DAY) for run in "ab")
    ann.reports(ANN)
    bob.reports(BOB)
    with ThreadPoolExecutor(2) as threads, _locked(postgres_url, "ann"):
        late = threads.submit(ann.reserve, "a", 10, 0, owners=ANN)
        time.sleep(0.1)
        assert threads.submit(bob.reserve, "a", 10, 0, owners=BOB).result(5)
        assert not late.done()
    assert late.result()


def test_a_call_that_is_cancelled_while_it_reserves_leaves_nothing(postgres_url):
    """200 at once, every other one cancelled; the connections go on."""
    plan = BudgetPlan(total_tokens=10**6)
    model = optimize(ExtractiveChatModel(), plan)

    async def ask():
        calls = [
            asyncio.create_task(model.ainvoke(f"What is {n}? It is number {n}.")) for n in range(40)
        ]
        for number, call in enumerate(calls):
            if number % 2:
                asyncio.get_running_loop().call_later(0.01 * number, call.cancel)
        return await asyncio.gather(*calls, return_exceptions=True)

    with plan.run("t", store=postgres_url) as run:
        ended = asyncio.run(ask())
        answered = [end for end in ended if not isinstance(end, BaseException)]
        assert len(answered) >= 20
        assert all(isinstance(end, asyncio.CancelledError) for end in ended if end not in answered)
        deadline = time.monotonic() + 10
        while run.report().account.held_tokens and time.monotonic() < deadline:
            time.sleep(0.02)
        assert 0 == run.report().account.held_tokens
        assert model.invoke("What is blue? The sky is blue.").text
        assert [] == run.account.check()


def test_a_loop_that_ends_while_calls_reserve_leaves_nothing(postgres_url):
    """Cancelled while others have locked the account; the loop ends before they give it back."""
    plan = BudgetPlan(total_tokens=10**6)
    model = optimize(ExtractiveChatModel(), plan)

    async def ask():
        calls = [asyncio.create_task(model.ainvoke(f"What is {n}? It is {n}.")) for n in range(6)]
        await asyncio.sleep(0.3)
        for call in calls:
            call.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError)
            for end in await asyncio.gather(*calls, return_exceptions=True)
        )

    with plan.run("t", store=postgres_url) as run:
        model.invoke("What is blue? The sky is blue.")
        paid = run.report().account.spent_tokens
        with psycopg.connect(postgres_url) as others:
            others.execute("SELECT 1 FROM budget_accounts FOR UPDATE")
            threading.Timer(0.8, others.rollback).start()
            asyncio.run(ask())
        account = run.report().account
        assert (0, paid) == (account.held_tokens, account.spent_tokens)


# Servers that are away, or set back


@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_a_server_that_comes_back_is_used_again(seconds, monkeypatch):
    """What is held meanwhile can be settled then; a settlement in between is charged in the end."""
    monkeypatch.setattr(postgres, "_RETRY_SECONDS", 0.1)
    with PostgresServer() as server:
        budget = TokenBudget(10_000, path=server.new_database(), lease_seconds=1.0)
        late, lost = budget.reserve("a", 100, 0), budget.reserve("a", 50, 0)
        server.stop()
        time.sleep(seconds)
        with pytest.warns(TokenOptWarning, match="could not be written, so 50 tokens stay held"):
            budget.settle(lost, Usage(20, 0))
        server.start()
        time.sleep(0.2)
        budget.settle(late, Usage(70, 0))
        deadline = time.monotonic() + 10
        while budget.report().held_tokens and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (120, 0) == (budget.report().spent_tokens, budget.report().held_tokens)
        assert budget.reserve("a", 1, 0)
        postgres.close_all()


def test_a_server_that_stays_away_stops_nothing_but_calls():
    """Those who call at once are all told, each within the time that is set."""
    with PostgresServer() as server:
        budgets = [TokenBudget(100, path=server.new_database(), run=str(n)) for n in range(2)]
        held = budgets[0].reserve("a", 10, 0)
        server.stop()
        began = time.monotonic()
        with (
            pytest.warns(TokenOptWarning, match="cannot be reached"),
            ThreadPoolExecutor(8) as many,
        ):
            reasons = many.map(lambda n: budgets[n % 2].reserve("a", 1, 0).reason, range(8))
            assert {"store"} == set(reasons)
            assert 10 == budgets[0].settle(held, Usage(10, 0)).charged_tokens
        assert time.monotonic() - began < 10
        postgres.close_all()


def test_a_server_that_was_set_back_confuses_no_accounts(tmp_path):
    """A failover to a copy that lacks the last accounts: their numbers are given to others."""
    with PostgresServer() as server:
        url = server.new_database()
        TokenBudget(1_000, path=url, run="old").reserve("a", 10, 0)
        server.stop()
        shutil.copytree(server.folder / "data", tmp_path / "copy", copy_function=shutil.copy2)
        server.start()
        lost = TokenBudget(1_000, path=url, run="lost")
        hold = lost.reserve("a", 500, 0)
        server.stop()
        for file in (tmp_path / "copy").rglob("*"):
            if file.is_file():
                target = server.folder / "data" / file.relative_to(tmp_path / "copy")
                target.write_bytes(file.read_bytes())
        server.start()
        other = TokenBudget(1_000, path=url, run="other")
        numbers = [[*budget._account.store._known.values()] for budget in (lost, other)]
        assert numbers[0] == numbers[1]
        with pytest.warns(TokenOptWarning, match="no longer has the budget"):
            assert not lost.reserve("a", 400, 0)
        lost.settle(hold, Usage(500, 0))
        assert {"old": 10, "other": 0} == {
            report.run: report.held_tokens + report.spent_tokens
            for report in reports_in(url)
            if report.run != "lost"
        }
        postgres.close_all()


def test_a_thread_that_waits_is_told_when_its_time_is_over(postgres_url, monkeypatch):
    """Nobody hangs behind an account that is locked for long."""
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 0.3)
    settings = postgres._SETTINGS.replace("'10s'", "'300ms'")
    monkeypatch.setattr(postgres, "_SETTINGS", settings)
    budget = TokenBudget(1_000, path=postgres_url)
    with (
        _locked(postgres_url, ""),
        pytest.warns(TokenOptWarning, match="Try again"),
        ThreadPoolExecutor(4) as threads,
    ):
        began = time.monotonic()
        each = [threads.submit(budget.reserve, "a", 1, 0) for _ in range(4)]
        assert {"store"} == {one.result(20).reason for one in each}
        assert time.monotonic() - began < 8
    assert budget.reserve("a", 1, 0)


# In the order of their numbers


def test_accounts_are_locked_in_the_order_of_their_numbers(postgres_url):
    """Who waits for the first has not locked the second, however the rows lie in the table."""
    name = database_of(postgres_url)
    for setting in ("enable_indexscan", "enable_bitmapscan", "enable_indexonlyscan"):
        shared_server().execute(f"ALTER DATABASE {name} SET {setting} = off")
    budget = TokenBudget(9_000, path=postgres_url, within=DAY)
    budget.reports(ANN)
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor(1) as threads:
        other.execute("UPDATE budget_accounts SET ticks = ticks WHERE id = 1")  # moves to the end
        other.commit()
        found = other.execute("SELECT id FROM budget_accounts").fetchall()
        assert [(2,), (1,)] == found
        other.execute("SELECT FROM budget_accounts WHERE id = 1 FOR UPDATE")
        waiting = threads.submit(budget.reserve, "a", 10, 0, owners=ANN)
        _blocked(postgres_url)
        other.execute("SELECT FROM budget_accounts WHERE id = 2 FOR UPDATE NOWAIT")
        other.rollback()
        assert waiting.result(10)


def _blocked(url):
    """Wait until a session of this database waits for a lock."""
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 10
    while not shared_server().execute(query, database_of(url)) and time.monotonic() < deadline:
        time.sleep(0.01)


# Threads that are interrupted, or stand still


def test_a_change_that_is_interrupted_half_way_is_not_written(postgres_url, monkeypatch):
    """Ctrl-C after its first level was given back, and before its second: none is kept."""
    budget = TokenBudget(9_000, path=postgres_url, within=DAY)
    budget.reports(ANN)
    keep = postgres_rows.PostgresTransaction.keep

    def interrupt(account):
        keep(account)
        raise KeyboardInterrupt

    monkeypatch.setattr(postgres_rows.PostgresTransaction, "keep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        budget.reserve("a", 300, 0, owners=ANN)
    monkeypatch.undo()
    assert [0, 0] == [report.held_tokens for report in budget.reports(ANN)]
    assert budget.reserve("a", 300, 0, owners=ANN)


def test_a_thread_that_was_not_waited_for_cannot_ask_any_more(postgres_url):
    """Its connection is another one's by then."""
    with postgres.pool_of(postgres_url).session() as session:
        assert [(1,)] == session.run("SELECT 1")
    with pytest.raises(PostgresError, match=r"the transaction is over\. Try again"):
        session.run("SELECT 1")


def test_a_server_that_dies_between_lock_and_commit_grants_nothing(monkeypatch):
    """All in the transaction are refused, nothing of it is written, and nobody is charged."""
    monkeypatch.setattr(postgres, "_RETRY_SECONDS", 0.1)
    with PostgresServer() as server:
        url = server.new_database()
        budgets = [TokenBudget(9_000, path=url, run=str(n), within=DAY) for n in range(4)]
        budgets[0].reports(ANN)
        commit = postgres_rows.AccountRows.commit
        crashed = []

        def crash(rows):
            if not crashed:
                crashed.append(True)
                server.stop(crash=True)
            commit(rows)

        with (
            pytest.warns(TokenOptWarning, match="refuses every call"),
            ThreadPoolExecutor(4) as many,
        ):
            with _locked(url, "ann"):
                monkeypatch.setattr(postgres_rows.AccountRows, "commit", crash)
                each = [many.submit(one.reserve, "a", 300, 0, owners=ANN) for one in budgets]
                _waiting(3, url)
            assert ["store"] * 4 == [one.result().reason for one in each]
        server.start()
        time.sleep(0.2)
        assert {0} == {report.held_tokens + report.spent_tokens for report in reports_in(url)}
        assert [] == budgets[0].check(ANN)
        postgres.close_all()


def test_a_server_that_dies_while_leases_are_read_refuses_by_its_name(monkeypatch):
    """Also those who share another thread's transaction, and read in it what they need."""
    monkeypatch.setattr(postgres, "_RETRY_SECONDS", 0.1)
    with PostgresServer() as server:
        url = server.new_database()
        budgets = [
            TokenBudget(9_000, path=url, run=str(n), within=DAY, lease_seconds=0.05)
            for n in range(4)
        ]
        assert all(budget.reserve("a", 10, 0, owners=ANN) for budget in budgets)
        time.sleep(0.1)
        leases = postgres_rows.AccountRows.leases

        def crash(rows, number):
            server.stop(crash=True)
            return leases(rows, number)

        with (
            pytest.warns(TokenOptWarning, match="refuses every call"),
            ThreadPoolExecutor(4) as many,
        ):
            with _locked(url, "ann"):
                monkeypatch.setattr(postgres_rows.AccountRows, "leases", crash)
                each = [many.submit(one.reserve, "a", 300, 0, owners=ANN) for one in budgets]
                _waiting(3, url)
            assert ["store"] * 4 == [one.result().reason for one in each]
        postgres.close_all()


def test_finalizers_in_the_middle_of_a_transaction_settle_after_it(postgres_url):
    """A garbage collection may run in any thread that waits, leads or follows."""
    budgets = [TokenBudget(90_000, path=postgres_url, run=str(n), within=DAY) for n in range(8)]

    class Abandoned:
        def __init__(self, budget, hold):
            self.settle = lambda: budget.settle(hold, Usage(3, 0))

        def __del__(self):
            self.settle()

    def call(number):
        budget = budgets[number % 8]
        account = budget._account
        held = Abandoned(budget, budget.reserve("a", 5, 0, owners=ANN))
        with account._lock, account.store.transaction(account.openings(ANN)):
            del held
        account._lock.run_deferred()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(call, range(32)))
    assert all((0, 12) == (one.report().held_tokens, one.report().spent_tokens) for one in budgets)
    assert [96] == [r.spent_tokens for r in reports_in(postgres_url) if r.per == "user"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_leads(postgres_url):
    """It begins anew; the parent's transaction goes on."""
    budget = TokenBudget(9_000, path=postgres_url, within=DAY)
    budget.reports(ANN)
    with ThreadPoolExecutor(2) as threads, _locked(postgres_url, "ann"):
        each = [threads.submit(budget.reserve, "a", 30, 0, owners=ANN) for _ in range(2)]
        _waiting(1, postgres_url)
        child = os.fork()
        if child == 0:
            done = TokenBudget(9_000, path=postgres_url, run="child").reserve("a", 1, 0)
            os._exit(0 if done else 1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert all(one.result() for one in each)
