"""``tokenopt context``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import messages_to_dict
from typer.testing import CliRunner

from langchain_tokenopt.cli import app
from langchain_tokenopt.context import context_costs
from tests.support.conversations import agent_loop


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("context") / "loop.jsonl"
    lines = map(json.dumps, messages_to_dict(agent_loop(12)))
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


def run(*arguments: object, **given: Any) -> Any:
    return CliRunner().invoke(app, ["context", *map(str, arguments)], **given)


def test_it_shows_each_policy_and_a_plot(loop):
    """The figures are those of the function; a row of bars for each policy, one for each call."""
    shown = run(loop)
    costs = context_costs([agent_loop(12)])

    assert shown.exit_code == 0
    for name, found in costs.policies.items():
        row = next(line for line in shown.stdout.splitlines() if line.startswith(name))
        assert f" {found.sent:,.0f} " in row
        assert f" {found.units:,.0f} " in row
    bars = re.findall("[▁▂▃▄▅▆▇█]+", shown.stdout)
    assert [len(one) for one in bars] == [12] * 4
    assert bars[0] == "".join(sorted(bars[0]))  # dearer with each call
    assert "fetch back" in shown.stderr


def test_json_has_each_call_and_step(tmp_path):
    """All figures, by conversation."""
    loop = tmp_path / "loop.jsonl"
    lines = map(json.dumps, messages_to_dict(agent_loop(24)))
    loop.write_text("\n".join(lines), encoding="utf-8")
    found = json.loads(run(loop, "--model", "claude-sonnet-4-5", "--json").stdout)
    everything, window, ours, with_tool = found["policies"]

    assert (found["conversations"], found["calls"]) == (1, 24)
    assert found["price_profile"] == {"write": 1.25, "read": 0.1}
    assert everything["bills"][0]["steps"] == []
    assert window["policy"].startswith("sliding window")
    assert len(ours["bills"][0]["billed_tokens"]) == 24
    assert sum(ours["bills"][0]["billed_tokens"]) == pytest.approx(ours["billed_tokens"], abs=6)
    assert with_tool["bills"][0]["steps"][0].keys() == {
        "call", "removed_tokens", "rewritten_tokens", "paid_for_after_calls", "calls_to_come",
    }  # fmt: skip


def test_it_explains_each_message(loop):
    """What became of it, what it is, and why; and what each step had to bring."""
    shown = run(loop, "--explain", 1).stdout
    rows = json.loads(run(loop, "--explain", 1, "--json").stdout)["policies"][-1]["messages"]

    assert "what a tool has returned" in shown
    assert "paid after" in shown
    assert [row["message"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["shown"] for row in rows} == {"whole", "a line"}
    assert rows[0]["kind"] == "system"


def test_a_limit_holds_for_all(loop):
    """The window and the compressor have the limit that is asked for."""
    found = json.loads(run(loop, "--max-tokens", 2_000, "--json").stdout)["policies"]

    assert [row["policy"] for row in found[1:]] == [
        "sliding window, 2,000 tokens",
        "ContextCompressor(2_000)",
        "expand_tool from the start",
    ]
    for row in found[1:]:
        assert max(row["bills"][0]["sent_tokens"]) <= 2_000


def test_claude_without_marks_is_said(loop):
    """Its prompts are known only with cache_control; nothing else is what ``none`` says."""
    assert "cache_control" in run(loop, "--model", "claude-sonnet-4-5").stderr
    assert "cache_control" not in run(loop).stderr
    none = json.loads(run(loop, "--price-profile", "none", "--json").stdout)
    assert all(row["sent_tokens"] == row["billed_tokens"] for row in none["policies"])


def test_it_writes_a_page(loop, tmp_path):
    """A table and two plots; names are text, and nothing runs."""
    page = tmp_path / "page.html"
    odd = tmp_path / "<b>.jsonl"
    odd.write_bytes(loop.read_bytes())
    shown = run(odd, "--html", page)
    text = page.read_text(encoding="utf-8")

    assert shown.exit_code == 0
    assert text.count("<svg") == 2
    assert text.count("<polyline") == 8
    assert "default-src 'none'" in text
    assert "&lt;b&gt;.jsonl" in text
    assert "<b>" not in text


def test_standard_input(loop):
    """As other commands that read a text."""
    assert run("-", input=loop.read_text(encoding="utf-8")).exit_code == 0


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("[{]", [], "Line 1 of .* is no JSON"),
        ('{"role": "user", "content": "Hi"}', [], "has no call of a model"),
        ("", [], "has no call of a model"),
        ("[]", ["--explain", "2"], "has 1 conversation; --explain is 2"),
        ("[]", ["--price-profile", "free"], "price_profile is 'auto'"),
    ],
)
def test_anything_else_is_one_sentence(content, arguments, said, tmp_path):
    """With the line, where it is the file."""
    path = tmp_path / "chat.jsonl"
    path.write_text(content, encoding="utf-8")
    shown = run(path, *arguments)

    assert shown.exit_code == 1
    assert re.search(said, shown.stderr)
    assert len(shown.stderr.splitlines()) == 1
