"""``tokenopt demo``, and what all commands share: one-line errors, exit codes, quick start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.outputs import ChatResult
from typer.testing import CliRunner, Result

from langchain_tokenopt import testing
from langchain_tokenopt.budget import input_margin
from langchain_tokenopt.cli import app
from langchain_tokenopt.cli.app import CommandError
from langchain_tokenopt.core.durations import format_seconds
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.counting.calibration import reset_calibration
from langchain_tokenopt.examples import trading_desk
from langchain_tokenopt.examples.trading_desk import AGENTS
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.support.model_server import ModelServer, Reply

TEXT = (
    "Orders rose by 12 %. The margin fell to 19.8 %. "
    "One broker says buy, one says hold, and so we hold."
)


@pytest.fixture(autouse=True)
def _without_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    yield
    reset_calibration()  # the server reports other tokens than there are
    input_margin._margins.clear()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    file = tmp_path / "notes.txt"
    file.write_text(TEXT)
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


def failure(result: Result) -> str:
    """The one line that a failed command leaves."""
    assert 1 == result.exit_code
    assert "" == result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("tokenopt: ")]
    assert 1 == len(lines)
    assert result.stderr.rstrip().endswith(lines[0])
    return lines[0]


# The bill


def test_shows_a_line_for_every_agent(notes: Path) -> None:
    """The table names each agent once and ends with a total; words go to stderr."""
    result = run("--input", notes)
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    agents = [row[0] for row in rows if row[0] in AGENTS]
    total = next(row for row in rows if row[0] == "total")

    assert 0 == result.exit_code
    assert sorted(AGENTS) == sorted(agents)
    assert int(total[1].replace(",", "")) > 1_000
    assert "11/11" in result.stderr
    assert "11/11" not in result.stdout


def test_unpriced_is_not_zero(notes: Path) -> None:
    """The stand-in has no price: its cost is a dash, not $0."""
    result = run("--input", notes)

    assert "$" not in result.stdout
    assert " - " in next(line for line in result.stdout.splitlines() if "total" in line)


def test_says_that_no_language_model_answered(notes: Path) -> None:
    """Results of the stand-in are marked as such on stderr, in the table and in JSON."""
    table, as_json = run("--input", notes), run("--input", notes, "--json")

    assert "not a language model" in table.stderr
    assert "not a language model" in table.stdout
    assert "extractive stand-in, not a language model" == json.loads(as_json.stdout)["note"]


def test_json_is_the_whole_truth(notes: Path) -> None:
    """--json prints one object whose rows add up to its totals."""
    answer = json.loads(run("--input", notes, "--question", "Hold?", "--json").stdout)

    assert ("extractive-1", True, "Hold?") == (
        answer["model"],
        answer["offline"],
        answer["question"],
    )
    assert list(AGENTS) == list(answer["reports"])
    assert answer["decision"] in ("BUY", "HOLD", "SELL")
    for key in ("calls", "input_tokens", "output_tokens", "total_tokens"):
        assert sum(row[key] for row in answer["rows"]) == answer["totals"][key] > 0
    assert 1 == pytest.approx(sum(row["share"] for row in answer["rows"]), abs=0.001)
    assert [None] * 12 == [row["cost_usd"] for row in (*answer["rows"], answer["totals"])]


def test_shows_both_bills_side_by_side() -> None:
    """The desk runs twice; under its budget it takes 40,000 tokens at most, and all report."""
    answer = json.loads(run("--json").stdout)
    plain, budgeted = answer["totals"], answer["with_budget"]["totals"]
    stdout = run().stdout

    assert plain["total_tokens"] > 60_000
    assert budgeted["total_tokens"] <= 40_000
    assert list(AGENTS) == list(answer["with_budget"]["reports"])
    total = next(line.split() for line in stdout.splitlines() if line.startswith("total"))
    assert f"{plain['total_tokens']:,}" == total[1]
    shown = [int(cell.replace(",", "")) for cell in total if "," in cell]
    assert 25_000 < shown[1] <= 40_000  # its analysts share a pool, first come first served
    assert max(map(len, stdout.partition("\nDecision")[0].splitlines()[1:])) < 80
    assert "Decision without a budget: " in stdout
    assert " -0%" not in stdout


def test_same_documents_same_bill(notes: Path) -> None:
    """Two runs over the same documents differ in nothing but time."""

    def timeless(result: Result) -> Any:
        answer = json.loads(result.stdout)
        assert answer.pop("with_budget")["rows"]  # its analysts share a pool, first come first
        answer["totals"].pop("elapsed_seconds")
        for row in (*answer["rows"], answer["totals"]):
            row.pop("seconds")
        return answer | {"rows": sorted(answer["rows"], key=lambda row: row["agent"])}

    assert timeless(run("--input", notes, "--json")) == timeless(run("--input", notes, "--json"))


def test_prints_decision_and_summary(notes: Path) -> None:
    """After the table come the trader's report with the decision, and the summary."""
    stdout = run("--input", notes).stdout

    assert stdout.index("total") < stdout.index("Decision: HOLD.") < stdout.index("Summary")


# What it reads


def test_reads_several_inputs(tmp_path: Path, notes: Path) -> None:
    """--input may be a file and a folder together; both end up in the prompts."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.md").write_text("The harbour crane is blue. " * 20)
    alone = json.loads(run("--input", notes, "--json").stdout)
    both = json.loads(run("--input", notes, "--input", folder, "--json").stdout)

    assert both["totals"]["input_tokens"] > alone["totals"]["input_tokens"] + 400


def test_skipped_files_are_named(tmp_path: Path) -> None:
    """A binary among the documents is passed over with a note."""
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00")
    result = run("--input", tmp_path)

    assert 0 == result.exit_code
    assert f"Skipped {tmp_path / 'b.png'}: it is not text." in result.stderr


def test_long_documents_are_announced_as_cut(tmp_path: Path) -> None:
    """Documents beyond the share of a prompt are cut, and a note says so."""
    (tmp_path / "long.txt").write_text("One more harbour crane is painted blue. " * 12_000)
    result = run("--input", tmp_path, "--json")

    assert "have 479,999 characters; every analyst reads 400,000" in result.stderr


@pytest.mark.parametrize("content", [b"", b" \n\t ", b"\x00\x01\x02\x03" * 50])
def test_unreadable_input_is_one_line(tmp_path: Path, content: bytes) -> None:
    """A folder without readable text ends with one sentence that says what to give."""
    (tmp_path / "only.bin").write_bytes(content)

    assert "There is no readable text in the folder" in failure(run("--input", tmp_path))


def test_missing_input_is_one_line(tmp_path: Path) -> None:
    """A path that does not exist is named."""
    assert f"no file or folder '{tmp_path / 'gone'}'" in failure(run("--input", tmp_path / "gone"))


def test_empty_question_is_refused(notes: Path) -> None:
    """A question without words is answered by what to do."""
    assert "--question" in failure(run("--input", notes, "--question", "  "))


# Which model


def test_asks_openai_when_there_is_a_key(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, notes: Path
) -> None:
    """With a key the named model is asked, and its price is on the bill."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    model_server.answer = lambda _: Reply(text="Decision: SELL.", usage=Usage(1_000, 100))
    result = run("--input", notes, "--model", "gpt-4.1-mini", "--json")
    answer = json.loads(result.stdout)

    assert ("gpt-4.1-mini", False, "SELL", None) == (
        answer["model"],
        answer["offline"],
        answer["decision"],
        answer["note"],
    )
    assert {"gpt-4.1-mini"} == {request.model for request in model_server.requests}
    assert len(AGENTS) * 1_100 == answer["totals"]["total_tokens"]
    assert Decimal(answer["totals"]["cost_usd"]) > 0
    assert "Asking gpt-4.1-mini." in result.stderr


def test_default_model_is_named(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, notes: Path
) -> None:
    """Without --model the default is asked and shown."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")

    assert "Answered by gpt-5.4-mini, in" in run("--input", notes).stdout
    assert {"gpt-5.4-mini"} == {request.model for request in model_server.requests}


@pytest.mark.parametrize(
    ("status", "message"),
    [(400, "The model 'nope' does not exist"), (401, "Incorrect API key"), (503, "Over\nloaded")],
)
def test_provider_failures_are_one_line(
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    notes: Path,
    status: int,
    message: str,
) -> None:
    """An unknown model, a wrong key or a refused request end with the provider's words."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    model_server.answer = lambda _: Reply(status=status, text=message)
    line = failure(run("--input", notes, "--model", "nope"))

    assert line.startswith("tokenopt: nope did not answer: ")
    assert message.split()[0] in line


def test_no_connection_is_one_line(monkeypatch: pytest.MonkeyPatch, notes: Path) -> None:
    """A provider that cannot be reached is no traceback."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")

    assert "did not answer: Connection error." in failure(run("--input", notes))


def test_errors_of_the_client_itself_are_one_line(
    monkeypatch: pytest.MonkeyPatch, notes: Path
) -> None:
    """An error that langchain-openai passes on as OpenAI's client raised it is told as well."""
    from openai import OpenAIError

    class Failing(ExtractiveChatModel):
        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            raise OpenAIError("no more credit")

    monkeypatch.setattr(testing, "ExtractiveChatModel", Failing)

    assert "did not answer: no more credit" in failure(run("--input", notes))


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, notes: Path) -> None:
    """A key without langchain-openai tells which extra to install."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setitem(sys.modules, "langchain_openai", None)

    assert "langchain-tokenopt[openai]" in failure(run("--input", notes))


def test_a_model_that_cannot_be_asked_is_mentioned(notes: Path) -> None:
    """Naming a model without a key runs offline and says that the model is not asked."""
    result = run("--input", notes, "--model", "gpt-4.1")

    assert 0 == result.exit_code
    assert "gpt-4.1 is not asked" in result.stderr
    assert "Answered by extractive-1" in result.stdout


def test_the_stand_in_can_be_chosen(monkeypatch: pytest.MonkeyPatch, notes: Path) -> None:
    """--model extractive-1 runs offline even when there is a key."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")

    assert "offline, as you asked" in run("--input", notes, "--model", "extractive-1").stderr


# What all commands share


def test_version() -> None:
    """--version prints the version of the package."""
    from langchain_tokenopt import __version__

    assert __version__ == CliRunner().invoke(app, ["--version"]).stdout.strip()


@pytest.mark.parametrize("arguments", [["demo", "--inptu", "x"], ["dmeo"], []], ids=str)
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    """Unknown options and commands end with 2."""
    assert 2 == CliRunner().invoke(app, arguments).exit_code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CommandError("no ledger\n  at x.db."), "tokenopt: no ledger at x.db."),
        (
            BudgetExceededError(account="a", needed_tokens=2, left_tokens=1, limit_tokens=9),
            "tokenopt: 'a' needs 2 tokens for this call but has 1 of 9 left.",
        ),
        (PermissionError(13, "Permission denied", "x.db"), "cannot use x.db: Permission denied."),
    ],
    ids=["command", "package", "file"],
)
def test_known_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    """What can be foreseen is told in one line with exit code 1."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(trading_desk, "build_desk", fail)

    assert line in failure(run())


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is not dressed up as a message."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(trading_desk, "build_desk", fail)

    assert isinstance(run().exception, ZeroDivisionError)


def test_interrupting_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command as a shell expects it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trading_desk, "build_desk", interrupt)

    assert 130 == run().exit_code


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 ms"), (0.9996, "1.0 s"), (59.96, "1 min 0 s"), (61, "1 min 1 s")],
)
def test_durations_are_readable(seconds: float | None, text: str) -> None:
    """Durations are rounded to what matters, never to 60 s or 1000 ms."""
    assert text == format_seconds(seconds)


# As a process


def tokenopt(*arguments: str, before: str = "pass", **variables: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    code = f"{before}; from langchain_tokenopt.cli import main; main()"
    environment = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment | {"PYTHONIOENCODING": "utf-8"} | variables,
    )


def test_runs_without_a_vocabulary(tmp_path: Path, notes: Path) -> None:
    """Where no tokenizer can be had, the demo runs with estimates and says so in one line."""
    process = tokenopt(
        "demo",
        "--json",
        "--input",
        str(notes),
        before="import sys; sys.modules['bpe_openai'] = None",
        TIKTOKEN_CACHE_DIR=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path),
        HTTPS_PROXY="http://127.0.0.1:9",
    )
    stdout, stderr = process.communicate()

    assert 0 == process.returncode
    assert json.loads(stdout)["totals"]["input_tokens"] > 1_000
    assert 1 == sum("estimates" in line for line in stderr.splitlines())
    assert "Traceback" not in stderr


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "JSON"])
def test_a_reader_that_leaves_is_no_error(notes: Path, form: list[str]) -> None:
    """``tokenopt demo | head -1`` leaves no traceback."""
    process = tokenopt("demo", "--input", str(notes), *form)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()

    assert 1 == process.wait()
    assert "Traceback" not in stderr
    assert "pipe" not in stderr.lower()


def test_terminals_without_unicode_get_question_marks(tmp_path: Path) -> None:
    """A character that stdout cannot show ends no command."""
    (tmp_path / "a.txt").write_text("Der Umsatz stieg auf 5 € und sie sagen hold. ☂ " * 3)
    process = tokenopt("demo", "--input", str(tmp_path), PYTHONIOENCODING="latin-1")
    stdout, _ = process.communicate()

    assert 0 == process.returncode
    assert "auf 5 ? und" in stdout


def test_starting_loads_nothing_heavy() -> None:
    """The app itself imports neither langchain nor anything else that takes time to load."""
    heavy = {"langchain_core", "langchain", "langgraph", "faiss", "torch", "numpy", "pydantic"}
    code = "import sys, langchain_tokenopt.cli; print(*sys.modules)"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert set() == heavy & set(started.stdout.decode().split())
