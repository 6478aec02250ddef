"""Budgets and ledgers move between files and PostgreSQL, whole."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from langchain_core.outputs import Generation
from typer.testing import CliRunner

from langchain_tokenopt.budget import BudgetLimit, BudgetStoreError, Owners, TokenBudget, reports_in
from langchain_tokenopt.cache import CacheFileError
from langchain_tokenopt.cli import app
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger, LedgerError, migration
from langchain_tokenopt.storage import postgres
from tests.support.caches import make_cache
from tests.support.ledger_records import desk_calls, record
from tests.support.migrations import copy_accounts, copy_cache, copy_ledger
from tests.support.postgres_server import SilentWire, database_of, shared_server

pytestmark = pytest.mark.exhaustive

LEVELS = [
    BudgetLimit(total_tokens=9_000, total_usd=5, per="user", window="day"),
    BudgetLimit(total_tokens=9_000, per="organization", window="month"),
]


@pytest.fixture
def budgets(tmp_path):
    """A file with two runs, of which one holds something."""
    path = tmp_path / "budgets.db"
    for run in ("one", "two\0"):
        budget = TokenBudget(5_000, path=path, run=run, within=LEVELS)
        owners = Owners("ann", "acme")
        for agent in ("writer", "réader"):
            hold = budget.reserve(agent, 100, 50, cost_nano_usd=7, run_id=agent, owners=owners)
            budget.settle(hold, Usage(100, 20))
        held = budget.reserve("writer", 300, 0, cost_nano_usd=9, run_id="open", owners=owners)
        budget.close()
    return path, held


def test_budgets_go_to_a_server_and_back(budgets, postgres_url, tmp_path):
    """Totals, agents and leases; what is held there can be settled here."""
    path, held = budgets
    sums = copy_accounts(path, postgres_url)
    assert (4, 8, 6) == (sums["accounts"], sums["agents"], sums["leases"])
    assert sums == copy_accounts(path, postgres_url)
    assert reports_in(path) == reports_in(postgres_url)
    assert sums == copy_accounts(postgres_url, tmp_path / "back.db")
    assert reports_in(path) == reports_in(tmp_path / "back.db")

    moved = TokenBudget(5_000, path=postgres_url, run="two\0", within=LEVELS)
    assert 250 == moved.settle(held, Usage(200, 50)).charged_tokens
    assert [] == moved.check(Owners("ann", "acme"))


def test_budgets_that_are_in_use_are_not_overwritten(budgets, postgres_url):
    """Who has begun to spend there keeps what was spent."""
    path, _ = budgets
    copy_accounts(path, postgres_url)
    moved = TokenBudget(5_000, path=postgres_url, run="one")
    moved.settle(moved.reserve("writer", 10, 0), Usage(10, 0))
    before = reports_in(postgres_url)

    with pytest.raises(BudgetStoreError, match="has other figures for the budget 'default'"):
        copy_accounts(path, postgres_url)
    assert before == reports_in(postgres_url)


def _fill(path):
    with Ledger(path) as ledger:
        for call in desk_calls(300, days=2):
            ledger.record(call)
        ledger.record(record(savings=(Saving(stage="s", tokens_before=9, tokens_after=4),)))
        ledger.record(
            BudgetEvent(
                kind="alert", budget="b", agent="a", spent_tokens=1, held_tokens=2, limit_tokens=3
            )
        )


def _answers(ledger):
    return (
        list(ledger.calls()),
        ledger.totals(),
        ledger.by("agent"),
        list(ledger.savings()),
        ledger.budget_events(),
        ledger.check(),
    )


def test_a_ledger_of_many_calls_is_compared_to_the_last_microsecond(postgres_url, tmp_path):
    """Times of 6,000 calls sum up to more than SQLite can add."""
    with Ledger(tmp_path / "usage.db") as ledger:
        for call in desk_calls(6_000, days=2):
            ledger.record(call)
    assert 6_000 == copy_ledger(tmp_path / "usage.db", postgres_url)["calls"]
    with psycopg.connect(postgres_url) as server:
        server.execute("UPDATE calls SET started_at = started_at + 1 WHERE seq = 3000")
    with pytest.raises(LedgerError, match="has other records than the source"):
        copy_ledger(tmp_path / "usage.db", postgres_url)
    assert 6_000 == copy_ledger(postgres_url, tmp_path / "back.db")["calls"]


def test_a_ledger_goes_to_a_server_and_back(postgres_url, tmp_path):
    """It answers the same, and goes on with numbers of its own."""
    _fill(tmp_path / "usage.db")
    copy_ledger(tmp_path / "usage.db", postgres_url)
    copy_ledger(postgres_url, tmp_path / "back.db")

    with Ledger(tmp_path / "usage.db") as one, Ledger(tmp_path / "back.db") as other:
        assert _answers(one) == _answers(other)
    with Ledger(postgres_url) as moved:
        with Ledger(tmp_path / "usage.db") as one:
            assert _answers(one) == _answers(moved)
        before = moved.totals().calls
        moved.record(record())
        moved.flush()
        assert (before + 1, []) == (moved.totals().calls, moved.check())


def test_what_was_interrupted_goes_on(postgres_url, tmp_path, monkeypatch):
    """In the middle of a table, and then to the end; a third time there is nothing to do."""
    _fill(tmp_path / "usage.db")
    monkeypatch.setattr(migration, "BATCH_ROWS", 50)
    left = iter(range(4))
    insert = type(migration._TABLES[0]).insert

    def fail_later(table):
        if next(left, None) is None:
            raise sqlite3.OperationalError("disk I/O error")
        return insert(table)

    with monkeypatch.context() as patched:
        patched.setattr(type(migration._TABLES[0]), "insert", fail_later)
        with pytest.raises(LedgerError, match="could not be written to disk"):
            copy_ledger(tmp_path / "usage.db", postgres_url)
    first = copy_ledger(tmp_path / "usage.db", postgres_url)
    assert first == copy_ledger(tmp_path / "usage.db", postgres_url)
    assert 301 == first["calls"]


@pytest.mark.parametrize("step", [0, 1, 2, 4, 7, 11])
@pytest.mark.parametrize("back", [False, True])
def test_whenever_it_is_interrupted_it_goes_on(postgres_url, tmp_path, monkeypatch, step, back):
    """After any transaction, both ways: in the end all sums are the same, and months have parts."""
    path = str(tmp_path / "usage.db")
    _fill(path)
    source, target = path, postgres_url
    if back:
        copy_ledger(path, postgres_url)
        source, target = postgres_url, str(tmp_path / "back.db")
    monkeypatch.setattr(migration, "BATCH_ROWS", 40)
    writing, left = migration.Database.writing, iter(range(step))

    def killed(self, *arguments, **named):
        if next(left, None) is None:
            raise sqlite3.OperationalError("killed")
        return writing(self, *arguments, **named)

    Ledger(target).close()
    with monkeypatch.context() as patched:
        patched.setattr(migration.Database, "writing", killed)
        with pytest.raises(LedgerError, match="killed"):
            copy_ledger(source, target)
    copy_ledger(source, target)
    with Ledger(source) as one, Ledger(target) as other:
        assert _answers(one) == _answers(other)
        assert one.figures() == other.figures()


def test_a_ledger_whose_old_calls_are_gone_keeps_its_sums(postgres_url, tmp_path):
    """Sums of removed times are copied, and known as such."""
    path = tmp_path / "usage.db"
    _fill(path)
    old = record(started_at=datetime.now(UTC) - timedelta(days=300))
    with Ledger(path) as ledger:
        ledger.record(old)
        assert 1 == ledger.maintain("200 days")
    copy_ledger(path, postgres_url)
    with Ledger(path) as one, Ledger(postgres_url) as moved:
        assert _answers(one) == _answers(moved)
        assert 302 == moved.totals().calls
        with moved._database.engine.connect() as connection:
            parts = connection.exec_driver_sql(
                "SELECT DISTINCT tableoid::regclass::text FROM calls ORDER BY 1"
            )
            assert ["calls_2026_11"] == list(parts.scalars())


@pytest.mark.parametrize("kind", ["file", "link", "server", "server by another name"])
def test_a_source_that_is_the_target(kind, postgres_url, tmp_path):
    """It is left alone, by whatever name it is called."""
    path = tmp_path / "usage.db"
    _fill(path)
    pair = {
        "file": (str(path), f"{tmp_path}/./usage.db"),
        "link": (str(path), str(tmp_path / "link.db")),
        "server": (postgres_url, postgres_url),
        "server by another name": (
            postgres_url,
            shared_server().url(database_of(postgres_url), host="127.0.0.1"),
        ),
    }[kind]
    (tmp_path / "link.db").symlink_to(path)
    result = CliRunner().invoke(app, ["migrate", *pair])
    assert 1 == result.exit_code
    assert "are the same place" in result.stderr


@pytest.mark.parametrize("kind", ["no file", "a folder", "no database", "nobody", "no answer"])
def test_a_source_that_cannot_be_reached_is_tried_once(kind, postgres_url, tmp_path, monkeypatch):
    """One sentence for all that could have been there, and one wait."""
    monkeypatch.setattr(postgres, "SILENT_SECONDS", 1.0)
    with SilentWire(shared_server().port, 1) as wire:
        source, words = {
            "no file": (str(tmp_path / "gone.db"), "there is no file"),
            "a folder": (str(tmp_path), "is a folder"),
            "no database": (shared_server().url("nowhere"), "has no such database"),
            "nobody": ("postgresql://me:secret@127.0.0.1:9/d", "cannot be reached"),
            "no answer": (f"postgresql://postgres:secret@127.0.0.1:{wire.port}/postgres", "answer"),
        }[kind]
        result = CliRunner().invoke(app, ["migrate", source, str(tmp_path / "to.db")])
    assert 1 == result.exit_code
    assert words in result.stderr
    assert len(result.stderr) < 300
    assert "secret" not in result.output
    assert not (tmp_path / "to.db").exists()


def test_what_can_be_read_and_has_nothing_says_so_of_each_kind(postgres_url, tmp_path):
    """As one sentence would not say what was looked for."""
    result = CliRunner().invoke(app, ["migrate", postgres_url, str(tmp_path / "to.db")])
    assert 1 == result.exit_code
    for words in ("no budgets at", "not a token ledger", "no cache at"):
        assert words in result.stderr


def test_targets_that_take_no_ledger(postgres_url, tmp_path):
    """One sentence each: something else's file, a newer release's ledger; nothing is changed."""
    path = tmp_path / "usage.db"
    _fill(path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE notes (text)")
    with Ledger(postgres_url) as newer, newer._database.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO ledger_schema VALUES (99, 0, '9.9')")
    for target, words in (
        (tmp_path / "other.db", "is a database but not a token ledger"),
        (postgres_url, "written by a newer langchain-tokenopt"),
        (tmp_path / "none" / "x.db", "does not exist"),
    ):
        result = CliRunner().invoke(app, ["migrate", str(path), str(target)])
        assert 1 == result.exit_code
        assert words in result.stderr
        assert 1 == len(result.stderr.strip().splitlines())


def test_a_ledger_of_something_else_is_not_mixed_in(postgres_url, tmp_path):
    """What is there stays."""
    _fill(tmp_path / "usage.db")
    with Ledger(postgres_url) as other:
        other.record(record())
        other.flush()
        before = _answers(other)
        with pytest.raises(LedgerError, match="Copy into an empty ledger"):
            copy_ledger(tmp_path / "usage.db", postgres_url)
        assert before == _answers(other)


def test_the_command_says_what_it_has_moved(budgets, postgres_url, tmp_path):
    """It finds out what the source is; a file takes one of both."""
    path, _ = budgets
    _fill(tmp_path / "usage.db")
    run = CliRunner().invoke
    moved = run(app, ["migrate", str(path), postgres_url])
    assert moved.exit_code == 0, moved.output
    assert "budgets: 4 accounts, 8 agents, 6 leases, 480 spent tokens" in moved.output.replace(
        "1,440", "480"
    )
    moved = run(app, ["migrate", str(tmp_path / "usage.db"), postgres_url])
    assert "301 calls" in moved.output
    assert "secret" not in moved.output
    both = run(app, ["migrate", postgres_url, str(tmp_path / "out.db")])
    assert 1 == both.exit_code
    assert "--only" in both.stderr
    moved = run(app, ["migrate", postgres_url, str(tmp_path / "out.db"), "--only", "budgets"])
    assert reports_in(path) == reports_in(tmp_path / "out.db")


@pytest.mark.parametrize("source", ["nowhere.db", "mysql://u:secret@h/d"])
def test_a_source_that_is_none(source, tmp_path, postgres_url):
    """One line, without a password."""
    result = CliRunner().invoke(app, ["migrate", source, postgres_url])
    assert 1 == result.exit_code
    assert "secret" not in result.output


def test_a_ledger_that_goes_on_can_be_copied_again(postgres_url, tmp_path):
    """Runs that cost more meanwhile, and what was forgotten, are no other records."""
    path = tmp_path / "usage.db"
    _fill(path)
    copy_ledger(path, postgres_url)
    with Ledger(path) as ledger:
        last = list(ledger.calls())[-2]
        ledger.record(record(run=last.run, started_at=last.started_at))
    copy_ledger(path, postgres_url)
    with Ledger(path) as one, Ledger(postgres_url) as moved:
        assert _answers(one) == _answers(moved)
        assert one.figures() == moved.figures()
        for ledger in (one, moved):
            ledger.forget(user=last.attribution.user)
        assert _answers(one) == _answers(moved)


ASK, LIKE = "How can I change my card PIN?", "How can I modify my card PIN?"


def _filled_cache(path):
    with make_cache(path, wait_seconds=0) as cache:
        cache.update(ASK, "llm", [Generation(text="In Settings.")])
        cache.update("a\0b is it", "llm", [Generation(text="Yes.")])
        cache.update(LIKE + " please", "llm", [Generation(text="in settings")])
        with cache.scope(user="ann"):
            cache.update(ASK, "llm", [Generation(text="Ann's.")])
        for _ in range(3):
            served = cache.lookup(LIKE, "llm")
        cache.confirm(served and cache.top(1)[0].entry)
        cache.stats(lifetime=True)


def _served(path):
    with make_cache(path, wait_seconds=0) as cache:
        found = [cache.lookup(text, "llm") for text in (ASK, LIKE, "a\0b is it", "Trains?")]
        with cache.scope(user="ann"):
            found.append(cache.lookup(LIKE, "llm"))
        groups = {entry.question: entry.answer for entry in cache._repository.top(9)}
        same = groups[ASK] == groups[LIKE + " please"]
        return [one and one[0].text for one in found], same, cache.check().is_sound


def test_a_cache_goes_to_a_server_and_back(postgres_url, tmp_path):
    """Answers, likeness, hits, evidence; each in its scope; done again it changes nothing."""
    one, back = tmp_path / "one.db", tmp_path / "back.db"
    _filled_cache(one)
    sums = copy_cache(one, postgres_url)
    assert 4 == sums["answers"]
    assert sums["hits"] >= 3
    assert sums["observations"] > 0
    assert sums == copy_cache(one, postgres_url)
    assert sums == copy_cache(postgres_url, back)
    served = _served(back)
    assert served == _served(postgres_url)
    assert ["In Settings.", "in settings", "Yes.", None, "Ann's."] == served[0]
    assert served[2]


def test_the_command_moves_a_cache(postgres_url, tmp_path):
    """And others look at it there; nobody is shown the password."""
    one = tmp_path / "one.db"
    _filled_cache(one)
    done = CliRunner().invoke(app, ["migrate", str(one), postgres_url])
    assert "cache: 4 answers" in done.output
    done = CliRunner().invoke(app, ["cache", "top", "--cache", postgres_url])
    assert "change my card PIN" in done.output
    done = CliRunner().invoke(app, ["cache", "clear", "--cache", postgres_url], input="y\n")
    assert "4 answers deleted" in done.output
    assert "secret" not in done.output
    for other in (shared_server().new_database(), tmp_path / "none.db"):
        with pytest.raises(CacheFileError, match="There is no cache at") as refused:
            copy_cache(other, tmp_path / "new.db")
        assert "secret" not in str(refused.value)


def _filled_server(budgets_path, tmp_path):
    """A database that has all three."""
    url = shared_server().new_database()
    _fill(tmp_path / "all_usage.db")
    _filled_cache(tmp_path / "all_answers.db")
    copy_accounts(budgets_path, url)
    copy_ledger(tmp_path / "all_usage.db", url)
    copy_cache(tmp_path / "all_answers.db", url)
    return url


def _migrate(*words):
    return CliRunner().invoke(app, ["migrate", *map(str, words)])


HELD = """
import sys
from langchain_tokenopt.cli import app
from langchain_tokenopt.ledger import migration

copy_behind = migration._copy_behind

def held(*arguments):
    print("copying", flush=True)
    sys.stdin.readline()
    migration._copy_behind = copy_behind
    copy_behind(*arguments)

migration._copy_behind = held
app(["migrate", *sys.argv[1:]])
"""


@pytest.mark.parametrize("ending", ["ends", "is killed"])
@pytest.mark.parametrize("back", [False, True])
def test_two_at_once_take_turns(budgets, postgres_url, tmp_path, ending, back):
    """The second is refused for as long as the first copies; then it goes on, and copies once."""
    source, target = str(tmp_path / "usage.db"), postgres_url
    _fill(source)
    if back:
        copy_ledger(source, postgres_url)
        source, target = postgres_url, str(tmp_path / "back.db")
    first = subprocess.Popen(
        [sys.executable, "-c", HELD, source, target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout.readline() == "copying\n"
        others = [(source, target)] if back else [(source, target), (budgets[0], target)]
        for other in others:  # whatever it would copy there
            refused = _migrate(*other)
            assert 1 == refused.exit_code
            assert "another tokenopt migrate is copying to" in refused.stderr
            assert 1 == len(refused.stderr.strip().splitlines())
        if ending == "is killed":
            first.kill()
        first.communicate("\n" if ending == "ends" else None)
    for _ in range(2):
        again = _migrate(source, target)
        assert again.exit_code == 0, again.output
        assert "301 calls" in again.output
    with Ledger(source) as one, Ledger(target) as other:
        assert _answers(one) == _answers(other)
    assert not list(tmp_path.glob("*-migrating"))


@pytest.mark.parametrize("wrong", ["account", "ledger", "cache", "newer budgets", "newer cache"])
def test_what_is_refused_has_copied_nothing(budgets, postgres_url, tmp_path, wrong):
    """All of the target is looked at before anything is written to it."""
    source = _filled_server(budgets[0], tmp_path)
    if wrong == "account":
        with TokenBudget(5_000, path=postgres_url, run="two\0", within=[]) as budget:
            budget.settle(budget.reserve("writer", 10, 0), Usage(10, 0))
    elif wrong == "ledger":
        with Ledger(postgres_url) as other:
            other.record(record())
    elif wrong == "cache":
        with make_cache(postgres_url, wait_seconds=0) as cache:
            cache.update(ASK, "llm", [Generation(text="Elsewhere.")])
    else:
        name = wrong.removeprefix("newer ").replace("budgets", "budget")
        with psycopg.connect(postgres_url) as connection:
            connection.execute(f"CREATE TABLE {name}_schema (version integer PRIMARY KEY)")
            connection.execute(f"INSERT INTO {name}_schema VALUES (99)")
    before = _rows(postgres_url)
    refused = _migrate(source, postgres_url)
    assert before == _rows(postgres_url)
    assert 1 == refused.exit_code
    words = {
        "account": "the budget 'default' ('two\\x00')",
        "ledger": "has other records",
        "cache": "has 1 answers of its own",
    }.get(wrong, "written by a newer langchain-tokenopt")
    assert words in refused.stderr
    assert "Nothing was copied." in refused.stderr
    assert 1 == len(refused.stderr.strip().splitlines())


def _rows(url):
    """How many rows each table has that has some; what only says which release made them aside."""
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND "
            "relnamespace = current_schema()::regnamespace AND relname !~ '_(schema|settings)$'"
        ).fetchall()
        found = {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for (name,) in names
        }
    return {name: number for name, number in found.items() if number and name != "cache_totals"}


def test_a_file_that_is_refused_has_got_nothing(budgets, postgres_url, tmp_path):
    """Neither other accounts nor other answers."""
    copy_accounts(budgets[0], postgres_url)
    budget = TokenBudget(5_000, path=tmp_path / "back.db", run="two\0")
    budget.settle(budget.reserve("writer", 10, 0), Usage(10, 0))
    budget.close()
    _filled_cache(tmp_path / "one.db")
    with make_cache(tmp_path / "other.db", wait_seconds=0) as cache:
        cache.update(ASK, "llm", [Generation(text="Elsewhere.")])
    before = reports_in(tmp_path / "back.db")
    refused = _migrate(postgres_url, tmp_path / "back.db")
    assert "Nothing was copied." in refused.stderr
    assert before == reports_in(tmp_path / "back.db")
    refused = _migrate(tmp_path / "one.db", tmp_path / "other.db")
    assert "Nothing was copied." in refused.stderr
    with make_cache(tmp_path / "other.db", wait_seconds=0) as cache:
        assert cache.lookup("a\0b is it", "llm") is None
        assert "Elsewhere." == cache.lookup(ASK, "llm")[0].text


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), KeyboardInterrupt()])
def test_what_ends_in_the_middle_says_what_was_copied(
    budgets, postgres_url, tmp_path, monkeypatch, error
):
    """And that it goes on when it is done again, as it does."""
    source = _filled_server(budgets[0], tmp_path)
    monkeypatch.setattr(migration, "BATCH_ROWS", 100)
    left, insert = iter(range(2)), migration._insert

    def fail_later(table, *arguments):
        if table.name == "calls" and next(left, None) is None:
            raise error
        insert(table, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(migration, "_insert", fail_later)
        ended = _migrate(source, postgres_url)
    assert ended.exit_code in (1, 130)
    assert "Copied before that: 4 accounts (budgets); " in ended.stderr
    assert "200 calls" in ended.stderr
    assert "Run it again when that is mended: it goes on." in ended.stderr
    assert 1 == len(ended.stderr.strip().splitlines())
    again = _migrate(source, postgres_url)
    assert again.exit_code == 0, again.output
    assert _rows(source) == _rows(postgres_url)
