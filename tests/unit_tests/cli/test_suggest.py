"""``tokenopt budget suggest``: a plan for a graph, as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.cli import app
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.tracking.callbacks import track_usage
from tests.support.fakes import FakeAnswer, fake_chat

GRAPH = """
from langgraph.graph import END, START, MessagesState, StateGraph

def draw():
    graph = StateGraph(MessagesState).add_node("news", print).add_node("the judge", print)
    return graph.add_edge(START, "news").add_edge("news", "the judge").add_edge("the judge", END)

graph = draw()
number = 7
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "their_app.py").write_text(GRAPH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def suggested(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["budget", "suggest", *arguments])


@pytest.mark.parametrize("where", ["their_app:graph", "their_app.py:graph", "their_app.py:draw"])
def test_what_is_written_is_a_plan(where: str, folder: Path) -> None:
    """With the reasons in comments, on stdout or in a file."""
    shown = suggested(where, "--total", "9000")
    (folder / "shown.toml").write_text(shown.stdout)
    written = suggested(where, "--total", "9000", "--output", "written.toml")
    plan = BudgetPlan.from_file("shown.toml")

    assert (0, 0) == (shown.exit_code, written.exit_code), shown.output
    assert ["news", "the judge"] == list(plan.agents)
    assert plan == BudgetPlan.from_file("written.toml")
    assert "# Who may starve: nobody" in shown.stdout


def test_a_strategy_is_named_and_explained(folder: Path) -> None:
    """Auto says what it would pick, on how many runs; forecast, what agents are likely to need."""
    model = fake_chat(
        answers=[FakeAnswer("x", Usage(3_000, 500)), FakeAnswer("x", Usage(200, 9))] * 12
    )
    with Ledger("usage.db") as ledger:
        for _ in range(12):
            with track_usage(sinks=[ledger]):
                for agent in ("news", "the judge"):
                    model.invoke("Hi", config={"metadata": {"tokenopt_agent": agent}})
    asked = ("their_app:graph", "--total", "3000", "--ledger", "usage.db", "--strategy")
    auto, forecast = (suggested(*asked, name).stdout for name in ("auto", "forecast"))
    (folder / "auto.toml").write_text(auto)

    assert "auto" == BudgetPlan.from_file("auto.toml").strategy
    assert "# Strategy 'priority'" in auto
    assert "# news: usually 3,500 tokens a run" in forecast
    assert 2 == suggested(*asked, "fair").exit_code


def test_a_ledger_is_read(folder: Path) -> None:
    """What agents have used before counts."""
    model = fake_chat(answers=[FakeAnswer("x", Usage(3_000, 500))])
    with Ledger("usage.db") as ledger, track_usage(sinks=[ledger]):
        model.invoke("Hi", config={"metadata": {"tokenopt_agent": "news"}})
    without = suggested("their_app:graph", "--total", "9000").stdout
    with_ledger = suggested("their_app:graph", "--total", "9000", "--ledger", "usage.db").stdout

    assert without != with_ledger
    assert "as before" in with_ledger


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("their_app", "module:name"),
        ("their_app:nothing", "has no 'nothing'"),
        ("nowhere:graph", "cannot be imported"),
        ("nowhere.py:graph", "there is no file"),
        ("their_app:number", "a StateGraph is needed"),
    ],
)
def test_what_cannot_be_done_is_one_line(where: str, why: str) -> None:
    """With the reason."""
    result = suggested(where, "--total", "9000")

    assert (1, "") == (result.exit_code, result.stdout)
    assert why in result.stderr


def test_help_and_the_other_command() -> None:
    """``tokenopt budget FILE`` is what it was."""
    shown = suggested("--help").stdout
    other = CliRunner().invoke(app, ["budget", "--help"]).stdout

    assert "--ledger" in shown
    assert "--completion" not in shown
    assert "budget suggest" in other
