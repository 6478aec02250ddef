"""``tokenopt compare``: sides by name, cases from a file, an exit code for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_tokenopt.cli import app

APP = """
def plain(question): return "Ada won, and it rained all day."
def short(question): return "Ada won."
def wrong(question): return "Bob."
pair = (plain, short)
class worse: baseline, candidate = plain, wrong
def has_name(case, answer): return "Ada" in answer.text
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "race", raising=False)
    (tmp_path / "race.py").write_text(APP)
    lines = [json.dumps({"input": f"Who won race {n}?", "reference": "Ada"}) for n in range(80)]
    (tmp_path / "cases.jsonl").write_text("\n".join(lines))
    return tmp_path


def run(*args: str):
    return CliRunner().invoke(app, ["compare", *args])


@pytest.mark.parametrize(("pair", "code"), [("race:pair", 0), ("race:worse", 3)])
def test_the_exit_code_is_the_verdict(folder: Path, pair: str, code: int) -> None:
    done = run(pair, "--cases", "cases.jsonl", "--margin", "0.1")
    assert done.exit_code == code, done.output
    assert "Verdict:" in done.stdout


def test_too_few_cases_are_unclear(folder: Path) -> None:
    done = run("race:pair", "--cases", "cases.jsonl", "--max-cases", "3")
    assert done.exit_code == 4
    assert "cannot show it" in done.stdout


def test_json_is_one_line(folder: Path) -> None:
    done = run("race:pair", "--cases", "cases.jsonl", "--margin", "0.1", "--json")
    assert json.loads(done.stdout)["verdict"] == "not worse"


def test_a_file_names_sides_cases_and_judges(folder: Path) -> None:
    (folder / "compare.toml").write_text(
        'baseline = "race:plain"\ncandidate = "race:wrong"\ncases = "cases.jsonl"\n'
        'judges = ["contains", "race:has_name"]\nmargin = 0.1\n'
    )
    done = run("compare.toml", "--html", "page.html")
    assert done.exit_code == 3
    assert "has name" in done.stdout
    assert "<del>Ada" in (folder / "page.html").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("race:pair",), "no cases"),
        (("race:nothing", "--cases", "cases.jsonl"), "does not exist"),
        (("nowhere:pair", "--cases", "cases.jsonl"), "cannot import"),
        (("race", "--cases", "cases.jsonl"), "names no object"),
        (("race:plain", "--cases", "cases.jsonl"), "has no baseline"),
        (("race:pair", "--cases", "cases.jsonl", "--judge", "taste"), "no judge 'taste'"),
        (("race:pair", "--cases", "cases.jsonl", "--margin", "7"), "margin must be"),
        (("missing.toml",), "missing.toml"),
    ],
)
def test_what_cannot_be_used_is_one_line(folder: Path, args: tuple[str, ...], message: str) -> None:
    done = run(*args)
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("line", ['cases = ["q"]', 'judges = "numbers"', "margin = true"])
def test_values_that_cannot_be_are_named(folder: Path, line: str) -> None:
    (folder / "compare.toml").write_text(
        f'baseline = "race:plain"\ncandidate = "race:plain"\n{line}\n'
    )
    done = run("compare.toml")
    assert done.exit_code == 1
    assert "cannot be" in done.stderr


def test_a_page_that_cannot_be_written_is_said_before_anything_is_asked(folder: Path) -> None:
    done = run("race:pair", "--cases", "cases.jsonl", "--html", "nowhere/page.html")
    assert done.exit_code == 1
    assert "nowhere" in done.stderr


def test_keys_that_nobody_knows_are_named(folder: Path) -> None:
    (folder / "compare.toml").write_text('baselin = "race:plain"\n')
    done = run("compare.toml")
    assert done.exit_code == 1
    assert "unknown keys baselin" in done.stderr


def test_a_page_shows_what_was_said_as_text(folder: Path) -> None:
    (folder / "race.py").write_text(
        APP + "\ndef script(q): return '<script>alert(1)</script>'\nbad = (plain, script)\n"
    )
    run("race:bad", "--cases", "cases.jsonl", "--margin", "0.1", "--html", "page.html")
    page = (folder / "page.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
