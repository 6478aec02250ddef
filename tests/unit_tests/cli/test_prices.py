"""Why a call costs what it costs, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from langchain_tokenopt.cli import app
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.pricing.money import exact_usd
from langchain_tokenopt.pricing.rate_card import RateCard
from tests.support.ledger_records import START, record


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def calls(tmp_path: Path) -> tuple[Path, list[CallRecord]]:
    """A ledger with a run of two calls, one of them partly unpriced, and a call of its own."""
    path, card, made = tmp_path / "tokenopt.db", RateCard(), []
    for model, usage, run in (
        ("gpt-5.4", Usage(300_000, 100, cache_read_tokens=8_000), "r1"),
        ("gpt-4o-audio-preview", Usage(100, 50, output_audio_tokens=40), "r1"),
        ("gpt-4o", Usage(100, 50), None),
    ):
        price = card.price(usage, model, "openai", START)
        call = record(
            model=model,
            usage=usage,
            started_at=START,
            cost_nano_usd=price.cost_nano_usd,
            unpriced=price.unpriced,
            rates_version=card.version,
        )
        made.append(
            CallRecord(
                **{
                    **{name: getattr(call, name) for name in call.__dataclass_fields__},
                    "run": run or str(call.run_id),
                }
            )
        )
    with Ledger(path) as ledger:
        for call in made:
            ledger.record(call)
    return path, made


def test_a_run_is_explained_call_by_call(calls):
    """The sums are those of the ledger, to the nano-dollar; unpriced parts are named."""
    path, made = calls
    shown = json.loads(invoke("prices", "--explain", "r1", "--ledger", str(path), "--json").stdout)

    assert [exact_usd(call.cost_nano_usd) for call in made[:2]] == [
        each["cost_usd"] for each in shown
    ]
    assert [[], ["output audio"]] == [each["unpriced"] for each in shown]
    assert "above 272,000 input tokens" in shown[0]["lines"][0]["rule"]
    text = invoke("prices", "--explain", "r1", "--ledger", str(path)).stdout
    assert "unpriced in part: output audio" in text


def test_a_call_is_found_by_the_beginning_of_its_id(calls):
    """Inside a run or alone."""
    path, made = calls
    for call in made:
        result = invoke("prices", "--explain", str(call.run_id)[:13], "--ledger", str(path))

        assert call.model in result.stdout
        assert result.stdout.count("total ") == 1


def test_what_is_not_in_the_ledger_is_one_line(calls):
    """And exit code 1."""
    path, _ = calls
    result = invoke("prices", "--explain", "nothing", "--ledger", str(path))

    assert result.exit_code == 1
    assert "has no run and no call 'nothing'" in result.stderr


def test_a_model_is_priced_by_hand():
    """Tokens as one would write them down."""
    usage = "input=300_000, output=100, cache_read=8000"
    shown = json.loads(
        invoke("prices", "gpt-5.4", "--usage", usage, "--on", "2026-11-20", "--json").stdout
    )
    cost = 292_000 * 5_000 + 8_000 * 500 + 100 * 22_500

    assert [exact_usd(cost)] == [each["cost_usd"] for each in shown]


@pytest.mark.parametrize("usage", ["input", "inputs=3", "input=-3", "input=many", "=3"])
def test_a_wrong_number_of_tokens_is_one_line(usage):
    """It names what there is."""
    result = invoke("prices", "gpt-5.4", "--usage", usage)

    assert result.exit_code == 1
    assert "is no number of tokens: write for instance input=9000" in result.stderr


def test_an_unknown_model_by_hand_says_why():
    """No price is no zero."""
    result = invoke("prices", "google/gemma-3-27b-it", "--usage", "input=1")

    assert "total -" in result.stdout
    assert "anybody may send the bill" in result.stdout


def test_a_price_list_says_what_it_lacks():
    """Sound of a model whose list has only text."""
    assert "not known: input audio" in invoke("prices", "gpt-4o-audio-preview").stderr


def test_nothing_to_price_is_one_line():
    """Neither a model nor a run."""
    result = invoke("prices")

    assert result.exit_code == 1
    assert "name a model, or a run of the ledger" in result.stderr
