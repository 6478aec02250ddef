"""Accounts in a file: shared, resumed, gone, damaged."""

from __future__ import annotations

import os
import sqlite3

import pytest

from langchain_tokenopt.budget import BudgetStoreError, TokenBudget, reports_in, sqlite_accounts
from langchain_tokenopt.budget.levels import NOBODY, AccountLevel
from langchain_tokenopt.budget.records import AccountTotals
from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.usage import Usage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "budgets.db"


@pytest.fixture
def impatient(monkeypatch):
    """Give up on a locked file at once."""
    monkeypatch.setattr(sqlite_accounts, "_BUSY_SECONDS", 0.05)


def test_who_opens_the_same_name_works_on_the_same_account(path):
    """By path or by URL; another name or run is another account."""
    one = TokenBudget(1_000, path=path, name="desk", run="1")
    two = TokenBudget(1_000, path=f"sqlite:///{path}", name="desk", run="1")
    hold = one.reserve("writer", 600, 0)

    assert not two.reserve("reader", 500, 0)
    assert 600 == two.settle(hold, Usage(600, 0)).charged_tokens
    assert one.settle(hold, Usage(600, 0)).repeated
    assert 400 == one.available("writer")
    assert TokenBudget(1_000, path=path, name="desk", run="2").reserve("reader", 1_000, 0)


def test_an_account_outlives_its_process(path):
    """What was spent is spent; shares and alerts stay."""
    budget = TokenBudget(1_000, path=path)
    budget.settle(budget.reserve("writer", 600, 0), Usage(600, 0))
    budget.close()

    report = TokenBudget(1_000, path=path).report()
    assert (600, (0.5,)) == (report.spent_tokens, report.alerts)


def test_other_totals_are_refused(path):
    """With both; nothing is changed."""
    TokenBudget(1_000, path=path)

    with pytest.raises(ValueError, match=r"has 1,000 tokens, but 2,000 tokens and 0\.5 USD were"):
        TokenBudget(2_000, total_usd="0.5", path=path)
    assert 1_000 == TokenBudget(1_000, path=path).total_tokens


def test_a_store_tells_of_all_its_accounts(path):
    """For those who only want to look."""
    TokenBudget(1_000, path=path, name="b").reserve("writer", 100, 0)
    TokenBudget(2_000, path=path, name="a", run="7")

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
        TokenBudget(1_000, path=path)
    with pytest.raises(BudgetStoreError, match="something else"):
        reports_in(path)


def test_a_later_version_is_left_alone(path):
    """The message has both versions."""
    TokenBudget(1_000, path=path).close()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 9")
    file.close()

    with pytest.raises(BudgetStoreError, match=r"version 9 .* reads version 4"):
        TokenBudget(1_000, path=path)


@pytest.mark.parametrize("content", [b"not a database" * 100, None], ids=["text", "folder"])
def test_what_is_no_database_is_refused(path, content):
    """The message says what to do."""
    path.mkdir() if content is None else path.write_bytes(content)

    with pytest.raises(BudgetStoreError, match="cannot be used"):
        TokenBudget(1_000, path=path)


def test_a_store_in_no_folder_fails_closed(tmp_path):
    """By default nothing runs uncounted."""
    with pytest.raises(BudgetStoreError, match="Check that the folder exists"):
        TokenBudget(1_000, path=tmp_path / "nowhere" / "budgets.db")


def test_a_store_in_no_folder_may_fail_open(tmp_path):
    """By option, said aloud; calls that end when the store is there are charged as surplus."""
    folder = tmp_path / "nowhere"
    with pytest.warns(TokenOptWarning, match="lets calls through without counting"):
        budget = TokenBudget(1_000, path=folder / "budgets.db", on_store_error="open")

    hold, other = budget.reserve("writer", 4_000, 0), budget.reserve("writer", 10, 0)
    assert (4_000, False) == (hold.tokens, hold.recorded)
    with pytest.warns(TokenOptWarning, match="a call of 'writer' was not counted"):
        assert 10 == budget.settle(other, Usage(10, 0)).charged_tokens
    folder.mkdir()
    assert budget.reserve("writer", 700, 0).recorded
    assert [300, 0] == [budget.settle(hold, Usage(300, 0)).charged_tokens for _ in range(2)]
    assert (300, 300) == (budget.report().spent_tokens, budget.report().surplus_tokens)
    assert [] == budget.check()


def test_what_a_locked_store_cannot_be_told_stays_held(path, impatient, clock):
    """No call breaks: tokens stay held, and are charged in full when the lease ends."""
    budget = TokenBudget(1_000, path=path, clock=clock, lease_seconds=60)
    hold, other = budget.reserve("writer", 300, 200), budget.reserve("writer", 100, 0)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")

    with pytest.warns(TokenOptWarning, match="refuses every call"):
        denial = budget.reserve("writer", 10, 0)
    with pytest.warns(TokenOptWarning, match="500 tokens stay held for 'writer'"):
        settlement = budget.settle(hold, Usage(300, 50))
    assert not budget.release(other)

    assert ("store", 350) == (denial.reason, settlement.charged_tokens)
    with pytest.raises(BudgetStoreError, match="locked"):
        budget.report()
    locker.execute("ROLLBACK")
    locker.close()
    assert (0, 600) == (budget.report().spent_tokens, budget.report().held_tokens)
    budget.settle(other, Usage(100, 0))
    clock.now += 60
    assert (600, 0) == (budget.report().spent_tokens, budget.report().held_tokens)


def test_a_charge_that_the_store_cannot_take_breaks_nothing(path, impatient):
    """It is said once that calls were not counted."""
    budget = TokenBudget(1_000, path=path)
    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    with pytest.warns(TokenOptWarning, match="'stranger' was not counted") as warned:
        for _ in range(2):
            budget.charge("stranger", Usage(100, 0))
    locker.execute("ROLLBACK")
    locker.close()

    assert 1 == len(warned)
    assert 0 == budget.report().spent_tokens


def _is_open(path):
    folder = f"/proc/{os.getpid()}/fd"
    return str(path) in {os.path.realpath(f"{folder}/{number}") for number in os.listdir(folder)}


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc")
def test_the_last_block_closes_the_file(path):
    """Late calls are still settled: the file is opened for each, and closed again."""
    budget = TokenBudget(1_000, path=path)
    with budget:
        hold = budget.reserve("writer", 300, 0)
        with budget:
            budget.report()
        assert _is_open(path)
    assert not _is_open(path)

    assert 200 == budget.settle(hold, Usage(200, 0)).charged_tokens
    assert not _is_open(path)
    with budget:
        budget.report()
        assert _is_open(path)


def test_clocks_of_two_processes_may_differ(path):
    """A clock that is ahead ends leases early; nothing is overdrawn, and late ends mend it."""
    ahead = TokenBudget(1_000, path=path, clock=lambda: 90_000.0, lease_seconds=60)
    behind = TokenBudget(1_000, path=path, clock=lambda: 10.0, lease_seconds=60)
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
    budget = TokenBudget(1_000, path=path)
    budget.reserve("writer", 1_000, 0)
    for file in path.parent.iterdir():
        file.rename(file.with_suffix(file.suffix + ".gone"))
    if replaced:
        TokenBudget(1_000, path=path)

    with pytest.warns(TokenOptWarning, match="refuses every call"):
        assert "store" == budget.reserve("writer", 1, 0).reason
    budget.close()
    assert not budget.reserve("writer", 1, 0)


def test_an_account_that_was_removed_is_no_blank_one_either(path):
    """Somebody has deleted its rows."""
    budget = TokenBudget(1_000, path=path)
    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM account")
    file.close()

    with pytest.raises(BudgetStoreError, match="no longer has the budget 'default'"):
        budget.report()


def test_a_change_that_fails_is_undone(path, monkeypatch):
    """All of it or nothing."""
    budget = TokenBudget(1_000, path=path)
    monkeypatch.setattr(sqlite_accounts, "_WRITE", "UPDATE account SET nonsense = 1")
    with pytest.warns(TokenOptWarning):
        assert not budget.reserve("writer", 100, 0)
    monkeypatch.undo()

    report = budget.report()
    assert (0, {}) == (report.held_tokens, report.agents)
    assert [] == budget.check()


def test_an_error_within_a_change_undoes_it(path):
    """The store stays usable."""
    store = sqlite_accounts.SqliteAccountStore(path, "b")
    opening = [AccountLevel("b", "run", AccountTotals(1_000)).opening(NOBODY, 0)]
    with (
        pytest.raises(BudgetStoreError, match="no such table"),
        store.transaction(opening) as [account],
    ):
        _spend_then(account, lambda: account._connection.execute("SELECT * FROM nowhere"))
    with pytest.raises(ZeroDivisionError), store.transaction(opening) as [account]:
        _spend_then(account, lambda: 1 // 0)

    with store.transaction(opening) as [account]:
        assert [] == account.agents()
    store.close()


def _spend_then(account, fail):
    account.agent("writer").spent = 5
    account.write()
    fail()


def test_looking_at_a_store_changes_nothing(path):
    """Not even the time that has passed."""
    TokenBudget(1_000, path=path, clock=lambda: 10.0).close()
    before = path.read_bytes()

    reports_in(path)

    assert before == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "sqlite://x", "sqlite:///"])
def test_other_urls_are_refused(url):
    """The message says what is possible, and no password."""
    with pytest.raises(ValueError, match="a file, sqlite:///file or postgresql://") as refused:
        TokenBudget(1_000, path=url)
    assert "secret" not in str(refused.value)


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
            os._exit(7 if "a copy would spend" in str(error) else 1)
        os._exit(0)

    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert budget.reserve("writer", 1, 0)
