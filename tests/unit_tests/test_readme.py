"""The README is true: its code runs, its tables are the measured ones, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.benchmarks.tables import filled

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TARGETS = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_the_code_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """As a reader would paste it, one block after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    names: dict[str, object] = {}
    assert BLOCKS
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"README block {number}", "exec"), names)


def test_tables_are_those_of_the_result_files():
    """``make tables`` writes them."""
    assert filled(README) == README


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`make ([\w-]+)`", README))))
def test_make_targets_exist(command):
    """What the README tells to run can be run."""
    assert command in TARGETS


def test_the_first_screen_is_short():
    """Promise, install, code, one command and what it does not do, within sixty lines."""
    first = README.split("\n## ")[0]
    assert len(first.splitlines()) <= 60
    assert "does not do" in first
