"""Accounts in a file: shared, resumed, gone, damaged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from langchain_tokenopt.budget import BudgetStoreError, TokenBudget, reports_in
from langchain_tokenopt.budget import store as stores
from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.usage import Usage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "budgets.db"


@pytest.fixture
def impatient(monkeypatch):
    """Give up on a locked file at once."""
    monkeypatch.setattr(stores, "_BUSY_SECONDS", 0.05)


def test_who_opens_the_same_name_works_on_the_same_account(path):
    """By path or by URL; another name or run is another account."""
    one = TokenBudget(1_000, store=path, name="desk", run="1")
    two = TokenBudget(1_000, store=f"sqlite:///{path}", name="desk", run="1")
    hold = one.reserve("writer", 600, 0)

    assert not two.reserve("reader", 500, 0)
    assert 600 == two.settle(hold, Usage(600, 0)).charged_tokens
    assert one.settle(hold, Usage(600, 0)).repeated
    assert 400 == one.available("writer")
    assert TokenBudget(1_000, store=path, name="desk", run="2").reserve("reader", 1_000, 0)


def test_an_account_outlives_its_process(path):
    """What was spent is spent; shares and alerts stay."""
    budget = TokenBudget(1_000, store=path)
    budget.settle(budget.reserve("writer", 600, 0), Usage(600, 0))
    budget.close()

    report = TokenBudget(1_000, store=path).report()
    assert (600, (50,)) == (report.spent_tokens, report.alerts)


def test_other_totals_are_refused(path):
    """With both; nothing is changed."""
    TokenBudget(1_000, store=path)

    with pytest.raises(ValueError, match=r"has 1,000 tokens, but 2,000 tokens and 0\.5 USD were"):
        TokenBudget(2_000, total_usd="0.5", store=path)
    assert 1_000 == TokenBudget(1_000, store=path).total_tokens


def test_a_store_tells_of_all_its_accounts(path):
    """For those who only want to look."""
    TokenBudget(1_000, store=path, name="b").reserve("writer", 100, 0)
    TokenBudget(2_000, store=path, name="a", run="7")

    reports = reports_in(path)

    assert [("a", "7", 2_000, 0), ("b", "", 1_000, 100)] == [
        (report.budget, report.run, report.total_tokens, report.held_tokens) for report in reports
    ]


def test_a_store_that_is_not_there_is_not_made_by_looking(path):
    """The message says how to make one."""
    with pytest.raises(BudgetStoreError, match=r"no budgets at .*budgets\.db"):
        reports_in(path)
    assert not path.exists()


def test_a_file_of_something_else_is_left_alone(path):
    """Neither read nor written."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious (x)")
    other.close()

    with pytest.raises(BudgetStoreError, match="a database of something else"):
        TokenBudget(1_000, store=path)
    with pytest.raises(BudgetStoreError, match="something else"):
        reports_in(path)


def test_a_later_version_is_left_alone(path):
    """The message has both versions."""
    TokenBudget(1_000, store=path).close()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 9")
    file.close()

    with pytest.raises(BudgetStoreError, match=r"version 9 .* reads version 2"):
        TokenBudget(1_000, store=path)


@pytest.mark.parametrize("content", [b"not a database" * 100, None], ids=["text", "folder"])
def test_what_is_no_database_is_refused(path, content):
    """The message says what to do."""
    path.mkdir() if content is None else path.write_bytes(content)

    with pytest.raises(BudgetStoreError, match="cannot be used"):
        TokenBudget(1_000, store=path)


def test_a_store_in_no_folder_fails_closed(tmp_path):
    """By default nothing runs uncounted."""
    with pytest.raises(BudgetStoreError, match="Check that the folder exists"):
        TokenBudget(1_000, store=tmp_path / "nowhere" / "budgets.db")


def test_a_store_in_no_folder_may_fail_open(tmp_path):
    """By option, said aloud; what was told is written once the store is there."""
    folder = tmp_path / "nowhere"
    with pytest.warns(TokenOptWarning, match="lets calls through without counting"):
        budget = TokenBudget(1_000, store=folder / "budgets.db", on_store_error="open")

    hold = budget.top_up(budget.reserve("writer", 4_000, 0), 1_000)
    assert (5_000, False) == (hold.tokens, hold.recorded)
    with pytest.warns(TokenOptWarning, match="waits for its store"):
        assert 300 == budget.settle(hold, Usage(300, 0)).charged_tokens
    folder.mkdir()
    assert budget.reserve("writer", 700, 0).recorded
    assert 300 == budget.report().surplus_tokens
    assert [] == budget.check()


def test_a_locked_store_refuses_and_keeps_what_it_is_told(path, impatient):
    """A denial names the reason; the charge is written later, once."""
    budget = TokenBudget(1_000, store=path)
    hold, other = budget.reserve("writer", 300, 200), budget.reserve("writer", 100, 0)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")

    with pytest.warns(TokenOptWarning, match="refuses every call"):
        denial = budget.reserve("writer", 10, 0)
    assert "store" == budget.top_up(hold, 10).reason
    with pytest.warns(TokenOptWarning, match="waits for its store"):
        settlement = budget.settle(hold, Usage(300, 50))
    assert not budget.release(other)

    assert ("store", 350) == (denial.reason, settlement.charged_tokens)
    with pytest.raises(BudgetStoreError, match="locked"):
        budget.report()
    locker.execute("ROLLBACK")
    locker.close()
    assert budget.reserve("writer", 650, 0)
    assert (350, 650) == (budget.report().spent_tokens, budget.report().held_tokens)


def test_a_store_that_comes_and_goes_lets_calls_through_by_option(path, impatient):
    """A hold that was recorded before is topped up unrecorded; nothing is lost in the end."""
    budget = TokenBudget(1_000, store=path, on_store_error="open")
    hold = budget.reserve("writer", 300, 200)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    larger = budget.top_up(hold, 100)
    locker.execute("ROLLBACK")
    locker.close()

    assert (600, 100) == (larger.tokens, budget.settle(larger, Usage(300, 300)).surplus_tokens)
    assert [] == budget.check()


def test_a_charge_waits_for_its_store(path, impatient):
    """Calls without reservation too, once."""
    budget = TokenBudget(1_000, store=path)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    with pytest.warns(TokenOptWarning, match="waits for its store"):
        for _ in range(2):
            budget.charge("stranger", Usage(100, 0), run_id="1")
    locker.execute("ROLLBACK")
    locker.close()

    budget.close()

    assert 100 == budget.report().spent_tokens


def _charged(path):
    with sqlite3.connect(path) as file:
        (count,) = file.execute("SELECT count(*) FROM charged").fetchone()
    file.close()
    return count


def test_charged_runs_are_forgotten_after_a_day(path, monkeypatch):
    """Told twice on the same day they are one; the file does not grow for ever."""
    now = [1_000_000.0]
    monkeypatch.setattr(stores.time, "time", lambda: now[0])
    budget = TokenBudget(10**9, store=path, clock=lambda: 0.0)

    def spend(day):
        for number in range(100):
            run = f"{day}-{number}"
            budget.settle(budget.reserve("writer", 1, 0, run_id=run), Usage(1, 0))
            assert budget.charge("writer", Usage(1, 0), run_id=run).repeated

    for day in range(5):
        spend(day)
        now[0] += 86_401

    assert 500 == budget.report().spent_tokens
    assert _charged(path) <= 232
    assert budget.charge("writer", Usage(1, 0), run_id="4-99").repeated


def test_clocks_of_two_processes_may_differ(path):
    """A clock that is ahead ends leases early; nothing is overdrawn, and late ends mend it."""
    ahead = TokenBudget(1_000, store=path, clock=lambda: 90_000.0, lease_seconds=60)
    behind = TokenBudget(1_000, store=path, clock=lambda: 10.0, lease_seconds=60)
    hold = behind.reserve("writer", 300, 200)
    for budget in (ahead, behind, ahead):
        assert not budget.reserve("reader", 501, 0)

    report = ahead.report()
    assert (500, 0) == (report.spent_tokens, report.held_tokens)
    behind.settle(hold, Usage(300, 50))
    assert (350, []) == (ahead.report().spent_tokens, ahead.check())


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_file_that_is_gone_is_no_blank_account(path, replaced):
    """A new file would know of no spending."""
    budget = TokenBudget(1_000, store=path)
    budget.reserve("writer", 1_000, 0)
    for file in path.parent.iterdir():
        file.rename(file.with_suffix(file.suffix + ".gone"))
    if replaced:
        TokenBudget(1_000, store=path)

    with pytest.warns(TokenOptWarning, match="refuses every call"):
        assert "store" == budget.reserve("writer", 1, 0).reason
    budget.close()
    assert not budget.reserve("writer", 1, 0)


def test_an_account_that_was_removed_is_no_blank_one_either(path):
    """Somebody has deleted its rows."""
    budget = TokenBudget(1_000, store=path)
    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM account")
    file.close()

    with pytest.raises(BudgetStoreError, match="no longer has the budget 'default'"):
        budget.report()


def test_a_change_that_fails_is_undone(path, monkeypatch):
    """All of it or nothing."""
    budget = TokenBudget(1_000, store=path)
    monkeypatch.setattr(stores, "_WRITE", "UPDATE account SET nonsense = 1")
    with pytest.warns(TokenOptWarning):
        assert not budget.reserve("writer", 100, 0)
    monkeypatch.undo()

    report = budget.report()
    assert (0, {}) == (report.held_tokens, report.agents)
    assert [] == budget.check()


def test_an_error_within_a_change_undoes_it(path):
    """The books stay usable."""
    books = stores.SqliteBooks(path, "b", "", stores.Totals(1_000))
    with pytest.raises(BudgetStoreError, match="no such table"), books as page:
        _spend_then(page, lambda: books._open.execute("SELECT * FROM nowhere"))
    with pytest.raises(ZeroDivisionError), books as page:
        _spend_then(page, lambda: 1 // 0)

    with books as page:
        assert [] == page.lines()
    books.close()


def _spend_then(page, fail):
    page.line("writer").spent = 5
    fail()


def test_processes_that_are_gone_are_recognised():
    """By machine, process id and start; never by guess."""
    alive = stores._this_process()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = stores._started(ended.pid)
    ended.wait()
    machine, pid, start = alive.split("|")

    assert not stores._is_gone(alive)
    if start == "?":  # no Linux
        return
    assert stores._is_gone(f"{machine}|{ended.pid}|{started}")
    assert stores._is_gone(f"{machine}|{pid}|{int(start) + 1}")
    assert not stores._is_gone(f"elsewhere|{ended.pid}|{started}")
    assert not stores._is_gone(f"{machine}|{ended.pid}|?")


def test_a_zombie_is_gone():
    """Killed, but nobody has asked for its end yet."""
    if stores._started(os.getpid()) is None:
        pytest.skip("no /proc")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = f"{stores._machine()}|{child.pid}|{stores._started(child.pid)}"
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert stores._is_gone(owner)
    child.communicate()


def test_other_machines_have_other_names(monkeypatch):
    """Without /proc, the host's name, and leases end by time alone."""
    monkeypatch.setattr(stores.os, "readlink", _fail)

    assert "/" not in stores._machine()
    assert stores._started(2**30) is None


def _fail(*_):
    raise OSError("no such thing")


@pytest.mark.parametrize("url", ["postgresql://h/d", "sqlite://x", "sqlite:///"])
def test_other_urls_are_refused(url):
    """The message says what is possible."""
    with pytest.raises(ValueError, match="a path or sqlite:///path, got"):
        stores.path_of(url)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_of_an_account_in_memory_refuses_to_work():
    """It would spend the same tokens again."""
    budget = TokenBudget(1_000)
    child = os.fork()
    if child == 0:
        try:
            budget.reserve("writer", 1, 0)
        except TokenOptError as error:
            os._exit(7 if "has a copy" in str(error) else 1)
        os._exit(0)

    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert budget.reserve("writer", 1, 0)
