"""Names are data: whatever a user, an agent or a run is called is shown and kept, never obeyed."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_tokenopt import BudgetPlan, Ledger, Usage, optimize, track_usage
from langchain_tokenopt.cli.app import app
from tests.support.fakes import FakeAnswer, fake_chat

HOSTILE = [
    "mia[/b]",
    "[link=http://example.org]click[/link]",
    "team [eu]",
    "team [us]",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;a title\x07",
    "two\nlines",
    "back\r\x08wards",
    "=1+1",
    "lone \ud83d",
    "\u202eright to left",
    "\u2066isolated",
    "\x85next\x9b31m",
    "nul \x00",
    "%s {0}",
    '"quoted", and; so on',
    "../../etc/passwd",
    " ",
    "x" * 500,
]
COMMANDS = [
    ["stats"],
    ["top", "--by", "agent"],
    ["top", "--by", "user"],
    ["top", "--by", "organization"],
    ["top", "--by", "thread_id"],
    ["runs"],
    ["report"],
    ["export"],
    ["top", "--by", "user", "--json"],
    ["export", "--json"],
    ["doctor"],
]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of one budgeted call for each name, as user, organization, agent, run and thread."""
    path = tmp_path_factory.mktemp("names") / "tokenopt.db"
    with Ledger(str(path)) as ledger:
        for name in HOSTILE:
            model = optimize(fake_chat(answers=[FakeAnswer(usage=Usage(10, 2))]))
            metadata = {"tokenopt_agent": name, "thread_id": name}
            with (
                track_usage(sinks=[ledger], user=name, organization=name),
                BudgetPlan(total_tokens=100, name=name).run(sinks=[ledger]),
            ):
                answer = model.invoke("Hi", {"metadata": metadata, "run_name": name})
            assert answer.text
    return path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_terminal_shows_names_and_obeys_none(ledger: Path, command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--ledger", str(ledger)], env={"COLUMNS": "900"})
    assert result.exit_code == 0, result.output
    odd = {c for c in result.output if unicodedata.category(c) in ("Cc", "Cf")} - {"\n"}
    assert odd == set()
    result.output.encode()  # nothing that cannot be written to a file


@pytest.mark.parametrize("dimension", ["user", "organization", "agent", "thread_id"])
def test_every_name_has_a_row_of_its_own(ledger: Path, dimension: str) -> None:
    command = ["top", "--by", dimension, "--json", "-n", "100", "--ledger", str(ledger)]
    rows = json.loads(CliRunner().invoke(app, command).output)
    assert len(rows) >= len(HOSTILE) - 1  # a blank is no name
    shown = CliRunner().invoke(
        app, [*command[:3], "-n", "100", "--ledger", str(ledger)], env={"COLUMNS": "900"}
    )
    for name in ("mia[/b]", "team [eu]", "team [us]", "%s {0}", "=1+1"):
        assert shown.output.count(name) == 1


@pytest.mark.parametrize("tokens", [2**63 - 1, 2**63, 10**30])
def test_absurd_numbers_lose_no_answer(tmp_path: Path, tokens: int) -> None:
    path = str(tmp_path / "tokenopt.db")
    with Ledger(path) as ledger, track_usage(sinks=[ledger], user="ann") as usage:
        answers = [FakeAnswer("Four.", Usage(tokens, 2)), FakeAnswer("Five.", Usage(10, 2))]
        model = fake_chat(answers=answers)
        assert [model.invoke("Hi").text for _ in range(2)] == ["Four.", "Five."]
    assert usage.records[0].flaws
    result = CliRunner().invoke(app, ["top", "--by", "user", "--json", "--ledger", path])
    assert json.loads(result.output)[0]["calls"] == 2
