"""The command that says what the day, the month and the next run will cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from langchain_tokenopt.cli import app
from langchain_tokenopt.core.attribution import Attribution
from langchain_tokenopt.ledger import Ledger
from tests.support.ledger_records import record

WHAT = ["today", "this month", "next run", "its tokens"]


def write(path, days: float, *users: str):
    """Record a call an hour of each user, up to now; the second user's cost a hundredfold."""
    now = datetime.now(UTC)
    with Ledger(path) as ledger:
        for n in range(round(24 * days)):
            for number, user in enumerate(users):
                ledger.record(
                    record(
                        started_at=now - timedelta(hours=n),
                        cost_nano_usd=10**9 * 100**number,
                        run=f"{user} {n // 4}",
                        attribution=Attribution(agent=f"agent of {user}", user=user),
                    )
                )
    return path


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return write(tmp_path_factory.mktemp("forecast") / "made.db", 12, "ada", "eve")


def asked(*arguments):
    return CliRunner().invoke(app, ["forecast", *map(str, arguments)])


def test_it_says_what_is_to_come(ledger):
    """Today, this month, the next run: expected, and between what."""
    found = json.loads(asked("--ledger", ledger, "--json").stdout)
    named = {row["what"]: row for row in found}

    assert WHAT == list(named)
    day, month, run, tokens = named.values()
    assert 23 <= float(day["expected_usd"]) / 101 <= 25.1
    assert float(month["spent_usd"]) <= float(month["expected_usd"])
    assert 4 <= float(run["expected_usd"]) <= 400
    assert 4 * 1_200 == tokens["expected_tokens"]
    for row in found:
        unit = "tokens" if row["what"] == "its tokens" else "usd"
        low, expected, high, p95 = (
            float(row[f"{name}_{unit}"]) for name in ("low", "expected", "high", "p95")
        )
        assert low <= expected <= high <= p95
        assert sum(method["weight"] for method in row["methods"]) == pytest.approx(1)


def test_a_row_each(ledger):
    """The costliest first, and each as if it were alone."""
    found = json.loads(asked(ledger, "--by", "user", "--json").stdout)
    alone = json.loads(asked(ledger, "--user", "ada", "--json").stdout)

    assert ["eve"] * 4 + ["ada"] * 4 == [row["user"] for row in found]
    of_ada = [row for row in found if row["user"] == "ada"]
    figures = ("what", "expected_usd", "expected_tokens")
    assert [[row.get(name) for name in figures] for row in alone] == [
        [row.get(name) for name in figures] for row in of_ada
    ]
    assert ["eve"] * 4 == [
        row["user"] for row in json.loads(asked(ledger, "--by", "user", "-n", 1, "--json").stdout)
    ]


def test_why_shows_what_was_tried(ledger):
    """Methods with their errors, those that are believed first."""
    plain, why = asked(ledger).stdout, asked(ledger, "--why").stdout

    assert why.startswith(plain)
    assert "exponential smoothing" in why.removeprefix(plain)
    assert "missed by" in why.removeprefix(plain)


def test_too_little_is_said_aloud(tmp_path):
    """With what is missing; it is no failure."""
    seen = asked(write(tmp_path / "little.db", 0.5, "ada"))

    assert 0 == seen.exit_code
    assert "today: A forecast takes 4 whole days with priced calls before; there are 0." in (
        " ".join(seen.stderr.split())
    )
    assert "next run: A forecast takes 4 runs before; there are 3." in seen.stderr


def test_what_is_not_there_is_said(tmp_path, ledger):
    """An empty ledger, an unknown dimension, nobody of that name."""
    Ledger(tmp_path / "empty.db").close()

    assert "is empty" in asked(tmp_path / "empty.db").stderr
    assert "'colour' is none of" in " ".join(asked(ledger, "--by", "colour").stderr.split())
    assert 1 == asked(ledger, "--by", "agent", "--user", "bob").exit_code
