"""Whatever a command is given, it ends with one sentence or with the usage, never a traceback."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from langchain_tokenopt.cli import app
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.ledger import Ledger
from tests.support.ledger_records import record

pytestmark = pytest.mark.exhaustive

LEDGER_COMMANDS = [
    "stats", "top", "weekly", "runs", "report", "effectiveness", "export", "limits",
]  # fmt: skip
READERS: dict[str, Callable[[str], list[str]]] = {
    **{name: lambda path, name=name: [name, "--ledger", path] for name in LEDGER_COMMANDS},
    "run": lambda path: ["run", "x", "--ledger", path],
    "live": lambda path: ["live", "--seconds", "0", "--ledger", path],
    "doctor": lambda path: ["doctor", "--ledger", path],
    "budget": lambda path: ["budget", path],
    "cache stats": lambda path: ["cache", "stats", "--cache", path],
    "cache top": lambda path: ["cache", "top", "--cache", path],
    "cache check": lambda path: ["cache", "check", "--cache", path],
    "cache clear": lambda path: ["cache", "clear", "--yes", "--cache", path],
    "cache explain": lambda path: ["cache", "explain", "Why?", "--cache", path],
    "compress": lambda path: ["compress", path, "--max-tokens", "9"],
    "context": lambda path: ["context", path],
    "count": lambda path: ["count", path],
    "demo": lambda path: ["demo", "--input", path],
    "demo --ledger": lambda path: ["demo", "--ledger", path or " "],
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def sentence(result: Result) -> str:
    """What a command says that could not do its work: one line, and no result."""
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert result.exit_code in (1, 2)
    lines = result.stderr.splitlines()
    if result.exit_code == 1:
        said = [line for line in lines if line.startswith("tokenopt: ")]
        assert 1 == len(said)
        assert lines[-1] == said[0]
        return said[0]
    return lines[-2]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    with Ledger(tmp_path / "ledger.db") as opened:
        opened.record(record())
    return tmp_path / "ledger.db"


def _missing(folder: Path) -> str:
    return str(folder / "nothing-here" / "x.db")


def _folder(folder: Path) -> str:
    return str(folder)


def _empty(folder: Path) -> str:
    (folder / "empty").touch()
    return str(folder / "empty")


def _junk(folder: Path) -> str:
    (folder / "junk").write_bytes(bytes(range(256)) * 64)
    return str(folder / "junk")


def _damaged(folder: Path) -> str:
    path = Path(_foreign(folder))
    path.write_bytes(path.read_bytes().replace(b"notes (text)", b"notes (t\xcbxt"))
    return str(path)


def _foreign(folder: Path) -> str:
    with sqlite3.connect(folder / "foreign.db") as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    return str(folder / "foreign.db")


def _no_name(folder: Path) -> str:
    return ""


def _zero_byte(folder: Path) -> str:
    return "a\0b"


def _no_utf8_name(folder: Path) -> str:
    (folder / "x\udcff").touch()
    return str(folder / "x\udcff")


def _other_database(folder: Path) -> str:
    return "mysql://reader@localhost/spend"


def _no_server(folder: Path) -> str:
    return "postgresql://nobody@127.0.0.1:1/spend"


def _no_port(folder: Path) -> str:
    return "postgresql://nobody@host:port/spend"


FILES = [
    _missing, _folder, _empty, _junk, _foreign, _damaged, _no_name, _zero_byte, _no_utf8_name,
    _other_database, _no_server, _no_port,
]  # fmt: skip


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__.strip("_"))
def test_a_file_that_cannot_be_read_is_one_sentence(command, make, tmp_path, monkeypatch):
    """A missing, foreign, damaged or unnameable file ends no command with a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = run(*READERS[command](make(tmp_path)))

    assert result.exception is None or isinstance(result.exception, SystemExit)
    # some have something to show, or make the file that is missing
    if command not in ("doctor", "count", "compress", "demo", "demo --ledger"):
        assert sentence(result)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
@pytest.mark.parametrize("command", READERS)
def test_a_file_without_permission_is_one_sentence(command, tmp_path):
    """The sentence names the file."""
    path = tmp_path / "secret"
    path.touch(mode=0)

    assert "secret" in sentence(run(*READERS[command](str(path))))


@pytest.mark.parametrize("command", LEDGER_COMMANDS)
def test_a_period_that_ends_before_it_begins_is_one_sentence(command, ledger):
    """Every command that takes a period says which option is wrong."""
    result = run(command, "--ledger", ledger, "--since", "2026-12-01", "--until", "2026-11-01")

    assert "--since 2026-12-01 is not before --until 2026-11-01" in sentence(result)


@pytest.mark.parametrize(
    ("url", "named"),
    [("postgresql://ann@127.0.0.1:1/budgets", "postgres"), ("mysql://host/budgets", "sqlite:///")],
)
def test_budgets_of_a_server_that_is_not_there_are_one_sentence(url, named):
    """It names the server that does not answer, or what can be read where there is no such kind."""
    assert named in sentence(run("budget", url))


@pytest.mark.parametrize("query", ["", " ", "  ", "\t\n"])
def test_a_blank_query_is_one_sentence(query, tmp_path):
    """A query that asks nothing is refused with what to do."""
    (tmp_path / "text").write_text("The bridge was opened in 1931. " * 9)
    result = run("compress", tmp_path / "text", "--max-tokens", 9, "--query", query)

    assert "--query" in sentence(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ["top", "-n", "0"],
        ["top", "-n", "many"],
        ["top", "--by", "colour"],
        ["top", "--by", ""],
        ["top", "--by", "user,"],
        ["export", "--format", "xml"],
        ["report", "--hours", "0"],
        ["report", "--hours", "9999999999"],
        ["runs", "-n", "-1"],
        ["compress", "x", "--max-tokens", "0"],
        ["compress", "x"],
        ["cache", "top"],
        ["cache", "colour"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_exit_code_2(arguments):
    """Wrong use shows what would be right."""
    result = run(*arguments)

    assert 2 == result.exit_code
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["top", "--by", "thread"], "you mean thread_id"),
        (["prices", "gpt-4o", "--provider", "opnai"], "Did you mean openai?"),
        (["topp"], "Did you mean 'top'"),
        (["demo", "--example", "."], "a new file only"),
        (["budget"], "--budgets FILE"),
        (["guard"], "TOKENOPT_GUARD"),
    ],
    ids=str,
)
def test_what_is_misspelt_or_missing_is_named(arguments, said):
    """With what was probably meant."""
    result = run(*arguments)

    assert result.exit_code in (1, 2)
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_dimensions_may_stand_behind_one_option(ledger):
    """As lists are written everywhere else."""
    together = run("top", "--by", "user,agent", "--json", "--ledger", ledger)
    apart = run("top", "--by", "user", "--by", "agent", "--json", "--ledger", ledger)

    assert together.stdout == apart.stdout != "[]\n"


@pytest.mark.parametrize("name", ["[/bold]", "[red", "a\x1b[31mb", "\x07", "\udcff", "[link=x]y"])
@pytest.mark.parametrize("command", ["top", "limits", "report", "export"])
def test_names_are_text_and_nothing_else(name, command, tmp_path):
    """Neither markup nor escape sequences in a name reach the terminal."""
    from langchain_tokenopt.core.records import Saving

    with Ledger(tmp_path / "ledger.db") as opened:
        saving = Saving(stage="WordLimit", tokens_before=9, tokens_after=9, side="output")
        opened.record(record(attribution=Attribution(name), savings=(saving,)))
    result = run(command, "--ledger", tmp_path / "ledger.db", "--since", "2026-11-01")

    assert result.exception is None or isinstance(result.exception, SystemExit)
    if command != "limits":  # which shows only agents under a word limit
        assert 0 == result.exit_code, result.stderr
        assert "\x1b" not in result.stdout
        assert "\x07" not in result.stdout
        if name.startswith("["):
            assert name in result.stdout


def process(*arguments: object, redirect: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a shell that redirects its output."""
    code = "from langchain_tokenopt.cli import main; main()"
    command = " ".join([sys.executable, "-c", f"'{code}'", *map(str, arguments), redirect])
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="the redirections are a shell's")
@pytest.mark.parametrize("redirect", ["| true", ">&-", "> /dev/full"])
@pytest.mark.parametrize("command", ["top", "report --json", "export"])
def test_output_that_nobody_takes_is_no_traceback(command, redirect, ledger):
    """A reader that has left, a closed output, a full disk."""
    done = process(command, "--since", "2026-11-01", "--ledger", ledger, redirect=redirect)

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if redirect == "> /dev/full":
        assert 1 == done.returncode
        assert 1 == len(done.stderr.splitlines())


@pytest.mark.skipif(sys.platform != "linux", reason="the redirections are a shell's")
def test_a_closed_input_is_one_sentence():
    """``count -`` without standard input."""
    done = process("count", "-", redirect="<&-")

    assert 1 == done.returncode
    assert 1 == len(done.stderr.splitlines())
