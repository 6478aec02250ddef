"""``tokenopt tools``."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from langchain_tokenopt.cli import app
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import OfferedTool, ToolChoice, ToolResult
from langchain_tokenopt.ledger import Ledger
from tests.support.ledger_records import record

UNUSED = [f"idle_{n:02}" for n in range(25)]
STEERING = "steer\x1b[31m\u202e[bold]"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "tools.db"
    offered = (
        OfferedTool("search", 1_234_567),
        OfferedTool(STEERING, 99),
        *(OfferedTool(name, 300) for name in UNUSED),
    )
    with Ledger(path) as opened:
        for number in range(40):
            chosen = ToolChoice(
                offered=offered,
                left_out=3,
                tokens_before=9_000,
                tokens_after=8_000,
                called=("search",) if number % 2 else (STEERING,),
                missed=("refund",) if number == 7 else (),
                found=("refund",) if number < 3 else (),
                searches=number < 3,
            )
            opened.record(
                record(
                    attribution=Attribution("desk", user="ann" if number else "bob"),
                    tool_choice=chosen,
                    tool_results=(ToolResult("search", 12_345, 678_900_000),),
                )
            )
    return path


def run(ledger: Path, *arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["tools", "--ledger", str(ledger), *arguments], env=environment)


def test_it_counts_what_each_tool_costs(ledger: Path) -> None:
    """Schema, calls, misses, searches and results; with the advice beside them."""
    found = json.loads(run(ledger, "--json").stdout)
    tools = {row["tool"]: row for row in found["tools"]}

    assert {
        "tool": "search",
        "offered": 40,
        "schema_tokens": 40 * 1_234_567,
        "called": 20,
        "called_ratio": 0.5,
        "missed": 0,
        "searched": 0,
        "never_used": False,
        "result_tokens": 40 * 12_345,
        "result_cost_usd": "27.156",
    } == tools["search"]
    assert (1, 3, None) == tuple(
        tools["refund"][name] for name in ("missed", "searched", "called_ratio")
    )
    assert {name for name, row in tools.items() if row["never_used"]} == set(UNUSED)
    unused, missed, heavy = found["recommendations"]
    assert "25 tools were never used and cost 300,000 tokens of schemas" in unused["figure"]
    assert "ToolSelector()" in unused["advice"]
    assert "ToolSelector(always_include=['refund'])" in missed["advice"]
    assert "Results of search are 100%" in heavy["figure"]


def test_it_asks_for_one_agent_or_user(ledger: Path) -> None:
    """Filters are those of the ledger."""
    rows = json.loads(run(ledger, "--user", "bob", "--json").stdout)["tools"]

    assert {1} == {row["offered"] for row in rows if row["offered"]}
    assert "no calls with agent 'nobody'" in run(ledger, "--agent", "nobody").stderr


def test_csv_has_every_tool(ledger: Path) -> None:
    """One row per tool, disarmed."""
    rows = list(csv.DictReader(io.StringIO(run(ledger, "--csv").stdout)))

    assert len(UNUSED) + 3 == len(rows)
    assert not any("\x1b" in row["tool"] for row in rows)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_figure_is_cut(ledger: Path, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a narrow terminal names give way, figures never; names steer nothing."""
    monkeypatch.setattr(Console, "is_terminal", True)
    shown = run(ledger, "-n", "30", COLUMNS=str(columns)).stdout
    lines = shown.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("search"))
    block = " ".join(lines[at : at + 5])  # of its own, where the figures are too wide for a row

    for figure in ("40", "49.4M", "20", "50.0%", "0", "493,800", "$27.16"):
        assert re.search(rf"(^|[ ,]){re.escape(figure)}($|[ ,])", block), figure
    assert max(cell_len(line) for line in lines if not line.startswith("- ")) <= columns
    for word in ("schema", "tokens", "searched", "result", "missed", "offered"):
        assert word in re.sub(r"\x1b\[\d*m", "", shown)
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown


def test_an_empty_answer_says_why(tmp_path: Path) -> None:
    """No calls, and calls without tools, are different things."""
    with Ledger(tmp_path / "a.db") as ledger:
        pass
    assert "is empty" in run(tmp_path / "a.db").stderr
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record(record())
    assert "was shown a tool" in run(tmp_path / "a.db").stderr
