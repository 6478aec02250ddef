"""``validate``: kept promises pass, broken ones fail with what was seen, the rest is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_tokenopt import Ledger, PromptCompressor, WordLimit, track_usage, validate
from langchain_tokenopt.cli import app
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.stage import StageCall
from langchain_tokenopt.testing import ExtractiveChatModel
from langchain_tokenopt.validate import CheckResult, Validation
from tests.support.fakes import FakeAnswer, fake_chat


def of(found: Validation, suite: str) -> dict[str, CheckResult]:
    return {check.name: check for check in found.checks if check.suite == suite}


def test_everything_that_can_be_tried_here_passes(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger, track_usage(sinks=[ledger]):
        for number in range(130):
            ExtractiveChatModel().invoke(f"Ada won race {number}. It rained. Who won?")
    found = validate.validate(
        ExtractiveChatModel(),
        ledger=tmp_path / "ledger.db",
        questions=["What does plan 7 cost?", "Who are you?"],
    )
    assert {c.name: c.saw for c in found.checks if c.status == "failed"} == {
        "A call of the model has a known price": "extractive-1: None nUSD"
    }
    assert [check.name for check in found.checks if check.status == "skipped"] == []


def test_what_cannot_be_tried_is_skipped_and_does_not_count() -> None:
    found = validate.validate(level="basic")
    assert found.score() == 1.0
    assert found.score("forecast") is None
    skipped = {check.name: check.saw for check in found.checks if check.status == "skipped"}
    assert skipped == {"Your ledger's sums are those of its calls": "no ledger was given"}


def test_a_provider_that_counts_otherwise_is_seen() -> None:
    model = fake_chat(answers=[FakeAnswer("yes", usage=Usage(900, 1))] * 50)
    found = of(validate.validate(model), "counting")
    wrong = found["Our count of a request is near what the provider reports"]
    assert wrong.status == "failed"
    assert "-9" in wrong.saw


def test_a_limit_that_does_not_limit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WordLimit, "open", lambda self, request: StageCall(request))
    (wrong,) = of(validate.validate(), "limits").values()
    assert wrong.status == "failed"


def test_a_compressor_that_loses_the_question_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptCompressor, "invoke", lambda self, given: given[:1] * len(given))
    failed = {c.name for c in of(validate.validate(level="basic"), "compression").values()
              if c.status == "failed"}  # fmt: skip
    assert "The system message and the question stay whole; JSON stays JSON" in failed


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'deep'"):
        validate.validate(level="deep")  # type: ignore[arg-type]


def test_the_command_compares_with_the_last_run(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    run = CliRunner().invoke(app, ["validate", "--level", "basic", "--results", str(results)])
    assert run.exit_code == 0, run.output
    kept = json.loads(results.read_text())
    assert kept["score"] == 1.0
    before = Validation.from_dict(kept)
    after = Validation("basic", (CheckResult("cache", before.checks[2].name, "failed", "", 0.0),))
    assert after.newly_failed(before) in ([], list(after.checks))
    names = {check.name for check in before.checks if check.suite == "cache"}
    broken = Validation("basic", tuple(CheckResult("cache", n, "failed", "", 0.0) for n in names))
    assert {check.name for check in broken.newly_failed(before)} == names


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--level", "deep"), "level must be one of"),
        (("--model", "nowhere:model"), "cannot import"),
        (("--results", "{folder}/other.json"), "holds no results"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    (tmp_path / "other.json").write_text("[]")
    run = CliRunner().invoke(app, ["validate", *(a.format(folder=tmp_path) for a in args)])
    assert run.exit_code == 1
    assert message in run.stderr


def test_the_command_ends_with_1_when_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptCompressor, "invoke", lambda self, given: [])
    run = CliRunner().invoke(app, ["validate", "--level", "basic", "--json"])
    assert run.exit_code == 1
    assert json.loads(run.stdout)["suites"]["compression"] < 1
