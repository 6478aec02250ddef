"""Recommendations: each fires where it should and nowhere else, and its command runs as printed."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from langchain_core.language_models import FakeListChatModel
from typer.testing import CliRunner

from langchain_tokenopt.cli import app
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.records import BudgetEvent, Saving
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.report import Facts, recommendations
from langchain_tokenopt.report.page import page_of
from tests.support.ledger_records import START, record

pytestmark = pytest.mark.exhaustive

AGENTS = [f"agent {n}" for n in range(12)]


def _many(**changes):
    """Thirty calls of agents of whom none stands out."""
    made = (record(**({"usage": Usage(900, 300)} | changes)) for _ in range(36))
    return [
        replace(call, attribution=changes.get("attribution", Attribution(AGENTS[n % 12])))
        for n, call in enumerate(made)
    ]


def _saving(**changes):
    fields = {"stage": "Cut", "tokens_before": 90, "tokens_after": 40, "saved_nano_usd": 5_000}
    return Saving(**fields | changes)


def _denied():
    return BudgetEvent(
        kind="denied", budget="desk", agent="news", spent_tokens=9, held_tokens=0, limit_tokens=9,
        run="r", at=START,
    )  # fmt: skip


ONE = Attribution("news")
FIRES = {
    "no known price": [*_many(), record(model="llama", cost_nano_usd=None)],
    "had to be estimated": _many(source="estimated"),
    "failed or were abandoned": [*_many(), *_many(status="failed")[:4]],
    "Budgets refused": [
        *_many(), record(status="refused", usage=Usage(0, 0)), _denied(),
    ],
    "tokens more than it saved": [*_many(), _saving(tokens_after=200, saved_nano_usd=-900)],
    "only watches": [*_many(), _saving(observed=True)],
    "of that is input": _many(attribution=ONE, usage=Usage(1_900, 100)),
    "tokens per answer": _many(attribution=ONE, usage=Usage(900, 700)),
    "the provider's prompt cache served": _many(attribution=ONE, usage=Usage(3_000, 900)),
}  # fmt: skip
QUIET = {
    "no known price": [*_many(), record(model="llama", cost_nano_usd=None, cached=True)],
    "had to be estimated": [*_many(), record(source="estimated")],
    "failed or were abandoned": [*_many(), record(status="failed", usage=Usage(1, 0))],
    "Budgets refused": [*_many(), record(status="refused", usage=Usage(0, 0))],
    "tokens more than it saved": [*_many(), _saving(tokens_after=200, observed=True)],
    "only watches": [*_many(), _saving()],
    "of that is input": _many(usage=Usage(1_900, 100)),
    "tokens per answer": _many(attribution=ONE, usage=Usage(900, 500)),
    "the provider's prompt cache served": _many(
        attribution=ONE, usage=Usage(3_000, 900, cache_read_tokens=2_000)
    ),
}


def _advice(path, events):
    with Ledger(path) as ledger:
        for event in events:
            ledger.record(event)
        facts = Facts.of(ledger, START, None)
        return facts, recommendations(facts)


@pytest.mark.parametrize("figure", FIRES)
def test_a_figure_calls_for_its_advice(tmp_path, figure):
    """Where there is something to say it is said, once; in good order it is not."""
    facts, found = _advice(tmp_path / "x.db", FIRES[figure])
    said = [line for line in found if figure in line.figure]
    _, quiet = _advice(tmp_path / "y.db", QUIET[figure])

    assert 1 == len(said)
    saved = said[0].saved_nano_usd
    assert saved is None or 0 < saved <= max(facts.totals.cost_nano_usd, 5_000)
    assert not [line for line in quiet if figure in line.figure]


def test_a_ledger_in_good_order_and_an_empty_one_call_for_nothing(tmp_path):
    """Nothing is recommended for the sake of it."""
    for number, events in enumerate([_many(), [], [record()]]):
        assert [] == _advice(tmp_path / f"{number}.db", events)[1]


@pytest.mark.parametrize("figure", FIRES)
def test_every_command_runs_as_it_is_printed(tmp_path, figure, monkeypatch):
    """In a shell, or in Python where there is a model; whatever the ledger is called."""
    monkeypatch.delenv("TOKENOPT_LEDGER", raising=False)
    path = tmp_path / "it's $(hers).db"
    for line in _advice(path, FIRES[figure])[1]:
        if line.command.startswith("tokenopt "):
            _, *words = shlex.split(line.command)
            result = CliRunner().invoke(app, words)
            assert 0 == result.exit_code, (line.command, result.output)
            assert result.stdout.strip()
        else:
            names = {"model": FakeListChatModel(responses=["yes"])}
            exec(line.command, names)
            assert "yes" == names["model"].invoke("Is that so?").content


def test_a_filtered_report_says_so_and_asks_on_with_its_filters(tmp_path):
    """What stands there is of these calls: sentences, commands, no budgets of everybody."""
    mine = Attribution("news", user="o'hara & co")
    events = [*_many(source="estimated"), *_many(source="estimated", attribution=mine), _denied()]
    with Ledger(tmp_path / "x.db") as ledger:
        for event in events:
            ledger.record(event)
        facts = Facts.of(ledger, START, None, user="o'hara & co")
        everybody = Facts.of(ledger, START, None)

    (asked,) = {line.command for line in recommendations(facts)}
    words = shlex.split(asked)
    assert ["--user", "o'hara & co"] == words[words.index("--user") :][:2]
    assert "with user &quot;o&#x27;hara &amp; co&quot;" in page_of(facts)
    assert everybody.budgets
    assert not facts.budgets
    assert "with user" not in page_of(everybody)
