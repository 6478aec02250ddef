"""``tokenopt budget``: the accounts of a store."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from langchain_tokenopt.budget import BudgetPlan, TokenBudget
from langchain_tokenopt.budget.holds import Hold
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.cli.app import _OneLineErrors
from langchain_tokenopt.cli.budget import budget
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.rate_card import RateCard
from tests.support.fakes import FakeAnswer, fake_chat

app = typer.Typer(cls=_OneLineErrors)
app.command()(budget)
app.command("other")(lambda: None)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return a store with two runs of one plan."""
    path = str(tmp_path / "budgets.db")
    plan = BudgetPlan(total_tokens=1_000, name="desk", agents={"default": {"tokens": 400}})
    model = optimize(fake_chat(answers=[FakeAnswer("x", Usage(90, 10))] * 3), plan)
    for thread, calls in (("monday", 1), ("tuesday", 2)):
        with plan.run(thread_id=thread, path=path):
            for _ in range(calls):
                model.invoke("Hi")
    return path


def called(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["budget", *arguments])


def test_every_budget_is_a_line(store: str) -> None:
    """Each run stands with what it has spent and has left."""
    lines = called(store).stdout.splitlines()

    assert ["desk", "run", "monday", "1,000", "100", "0", "900", "10.0%", "0", "-"] == lines[
        1
    ].split()[:10]
    assert ["desk", "run", "tuesday", "1,000", "200", "0", "800", "20.0%", "0", "-"] == lines[
        2
    ].split()[:10]


def test_a_run_is_shown_by_agent(store: str) -> None:
    """With --run its agents follow."""
    last = called(store, "--run", "tuesday").stdout.splitlines()[-1]

    assert ["default", "400", "200", "0", "800", "0", "2", "0"] == last.split()


def test_json_has_the_same_figures(store: str) -> None:
    """--json gives everything that the account says."""
    (told,) = json.loads(called(store, "--json", "--run", "monday").stdout)

    assert (100, 900, 0.1) == (told["spent_tokens"], told["left_tokens"], told["used_ratio"])
    assert 100 == told["agents"]["default"]["spent_tokens"]


def test_what_nobody_was_told_of_is_said(tmp_path: Path) -> None:
    """A stream that was cut off may have cost more than is charged for it."""
    path = str(tmp_path / "budgets.db")
    account = TokenBudget(1_000, path=path, name="desk", run="monday")
    hold = account.reserve("reader", 100, 400)
    assert isinstance(hold, Hold)
    account.settle(hold, Usage(100, 40), outcome="cancelled")
    charged = account.report().spent_tokens

    assert f"desk monday: up to {500 - charged} tokens more" in called(path).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "never"], "has 2 budgets, none with run 'never'."),
        (["--name", "x", "--run", "y"], "none with name 'x' and run 'y'."),
    ],
)
def test_nothing_found_is_one_line(store: str, arguments: list[str], said: str) -> None:
    """What is not there is named, with what is."""
    result = called(store, *arguments)

    assert 1 == result.exit_code
    assert said in result.stderr


def test_no_file_is_one_line(tmp_path: Path) -> None:
    """A store that does not exist is not made."""
    result = called(str(tmp_path / "gone.db"))

    assert 1 == result.exit_code
    assert "there are no budgets at" in result.stderr
    assert [] == list(tmp_path.iterdir())


def test_every_limit_is_a_line_with_its_reset(tmp_path: Path) -> None:
    """Of users and windows, beside the runs inside of them; --owner shows one, with its agents."""
    path = str(tmp_path / "levels.db")
    plan = BudgetPlan(
        total_tokens=500,
        name="desk",
        within=[
            {"total_tokens": 1_000, "per": "user", "window": "day", "timezone": "Asia/Tokyo"},
            {"total_usd": 5, "per": "organization", "window": "month", "name": "acme's bill"},
        ],
    )
    model = optimize(fake_chat(answers=[FakeAnswer("x", Usage(90, 10))]), plan)
    rates = RateCard({"models": {"fake-1": {"input": "1", "output": "2"}}})
    clock = datetime(2026, 5, 5, 12, tzinfo=UTC).timestamp
    with plan.run("t", user="ann", organization="[x]", path=path, rate_card=rates, clock=clock):
        model.invoke("Hi")

    lines = called(path).stdout.splitlines()
    owned = called(path, "--owner", "ann").stdout.splitlines()
    told = {report["per"]: report for report in json.loads(called(path, "--json").stdout)}

    assert 4 == len(lines)
    assert any("desk" in line and "ann" in line and "2026-05-06 00:00" in line for line in lines)
    assert any("[x]" in line and "$5" in line and "2026-06-01 00:00 UTC" in line for line in lines)
    assert ["default", "0", "100"] == owned[-1].split()[:3]
    assert "2026-05-06T00:00:00+09:00" == told["user"]["resets_at"]
    assert None is told["run"]["resets_at"]
