"""What runs will have used."""

from __future__ import annotations

import math
import random
from datetime import timedelta

import pytest

from langchain_tokenopt import Ledger, forecast_run
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.core.usage import Usage
from tests.support.ledger_records import START, record


def runs_of(seed: int, count: int) -> list[dict[str, float]]:
    """Runs on small and on large subjects: what the first agent uses shows which."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        size = chance.choice([1_000, 10_000])
        found.append(
            {name: size * chance.lognormvariate(0, 0.2) for name in ("news", "risk", "judge")}
        )
    return found


def test_intervals_hold():
    """Four of five runs end within, before they begin and when the first agent is done."""
    held: dict[bool, list[bool]] = {True: [], False: []}
    missed = []
    for seed in range(60):
        *before, run = runs_of(seed, 31)
        end = sum(run.values())
        for begun in (False, True):
            seen = forecast_run(before, spent={"news": run["news"]} if begun else 0).at_end
            held[begun].append(seen.low <= end <= seen.high)
            if begun:
                missed.append(abs(seen.expected - end) / end)

    assert 0.65 <= sum(held[False]) / 60 <= 1
    assert 0.65 <= sum(held[True]) / 60 <= 0.95
    assert sum(missed) / 60 < 0.2


def test_a_run_that_has_used_more_is_compared_with_longer_ones():
    """Nobody has to name agents."""
    runs = [{"a": size} for size in (100, 110, 90, 1_000, 1_050, 950, 105, 995, 1_010)]

    seen = forecast_run(runs, spent=200)

    assert 200 == seen.spent
    assert seen.at_end.low > 900
    assert forecast_run(runs, spent=5_000).at_end is None
    assert "more than 5,000; there are 0." in forecast_run(runs, spent=5_000).notes[0]


def test_agents_that_have_never_met_are_added_up():
    """A new graph of known agents; one that nobody knows is named."""
    runs = [{"news": 100.0}, {"risk": 300.0}] * 6

    seen = forecast_run(runs, agents=["news", "risk"])

    assert 400 == seen.at_end.expected
    assert "never met" in seen.notes[0]
    assert forecast_run(runs, agents=["news", "new"]).at_end is None
    assert "new" in forecast_run(runs, agents=["news", "new"]).notes[0]


@pytest.mark.parametrize("amount", [math.nan, -1.0, math.inf])
def test_amounts_that_cannot_be_are_left_out(amount):
    """And said aloud; as what this run has spent they are refused, or unknown."""
    seen = forecast_run([{"a": 10.0}] * 8 + [{"a": amount}])

    assert 10 == seen.at_end.expected
    assert 8 == seen.runs
    assert "1 runs were left out" in seen.notes[0]


def test_a_ledger_knows_its_runs(tmp_path):
    """By agent, in order, in tokens and in money; the one that is going on is no past."""
    with Ledger(tmp_path / "runs.db") as ledger:
        for n in range(12):
            for number, agent in enumerate(("news", "risk")[: 1 if n == 11 else 2]):
                ledger.record(
                    record(
                        run=f"run {n}",
                        usage=Usage(90 + 900 * number, 10 + 100 * number),
                        cost_nano_usd=None if n == 3 else 5_000 + 50_000 * number,
                        started_at=START + timedelta(hours=n, minutes=number),
                        attribution=Attribution(agent=agent, user="ada"),
                    )
                )

        parts = ledger.parts_of_runs(limit=3)
        tokens = forecast_run(ledger, running="run 11")
        money = forecast_run(ledger, running="run 11", measure="cost", user="ada")
        nobody = forecast_run(ledger, user="bob")

    assert ["run 9", "run 10", "run 11"] == list(parts)
    assert [2, 2, 1] == list(map(len, parts.values()))
    assert (100, 11) == (tokens.spent, tokens.runs)
    assert 1_200 == pytest.approx(tokens.at_end.expected)
    assert (5_000, 10) == (money.spent, money.runs)
    assert 60_000 == pytest.approx(money.at_end.expected)
    assert "1 runs were left out" in money.notes[0]
    assert nobody.at_end is None
    assert "there are 0" in nobody.notes[0]


def test_intervals_hold_where_sizes_wander():
    """Each run is a little larger or smaller than the one before; four of five end within."""
    held = []
    for seed in range(120):
        chance, size, runs = random.Random(seed), 1_000.0, []
        for _ in range(41):
            size *= chance.lognormvariate(0, 0.2)
            runs.append({"news": size})
        *before, run = runs
        seen = forecast_run(before).at_end
        held.append(seen.low <= run["news"] <= seen.high)

    assert 0.72 <= sum(held) / len(held) <= 0.9


@pytest.mark.parametrize(
    ("error", "begins", "call"),
    [
        (TypeError, "history must be a ledger or a list", lambda: forecast_run(None)),
        (TypeError, "a run is what each agent used", lambda: forecast_run([None] * 5)),
        (ValueError, "what was spent must be", lambda: forecast_run([{"a": 1}] * 5, spent="x")),
        (ValueError, "what was spent must be", lambda: forecast_run([], spent={"a": math.inf})),
        (ValueError, "what was spent must be", lambda: forecast_run([], spent={"a": 9, "b": -3})),
    ],
)
def test_what_is_no_history_is_refused(error, begins, call):
    """In a sentence that says what is needed."""
    with pytest.raises(error, match=begins):
        call()
