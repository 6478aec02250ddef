"""A month of a million calls: how long it takes to say how it went.

Run:     make bench-face       (python -m tests.benchmarks.bench_face [--calls N] [--ledger FILE])
Data:    a made-up month of a trading desk (tests/benchmarks/month_ledger.py).
Rule:    what a dashboard asks of a period: facts of it, key figures of it and of the period before,
         who spent most (agents, models, users), cost over time by agent and by model, advice. The
         ledger has been read once. Milliseconds are of CPU and of the clock, medians of rounds.
Output:  tests/benchmarks/results/face.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from langchain_tokenopt.core.dimensions import Period
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.report import Facts, kpis, recommendations
from tests.benchmarks.month_ledger import write_month
from tests.benchmarks.results import write_result

COMMAND = "python -m tests.benchmarks.bench_face"
ROUNDS = 7
ASKED: Mapping[str, tuple[int, dict[str, Any]]] = {
    "a day": (1, {}),
    "a week": (7, {}),
    "a month": (30, {}),
    "a month of one agent": (30, {"agent": "news"}),
    "a month of one user": (30, {"user": "user-40"}),
}


def face(ledger: Ledger, days: int, now: datetime, filters: dict[str, Any]) -> None:
    """Ask what a dashboard shows."""
    since = now - timedelta(days=days)
    asked: dict[str, Any] = {"since": since, "until": now, **filters}
    facts = Facts.of(ledger, since, now, now=now, **filters)
    before = Facts.of(
        ledger, since - timedelta(days=days), since, now=since, beside=False, **filters
    )
    period: Period = "hour" if days == 1 else "day"
    with ledger.period(**asked) as shown:
        shown.by(period, "agent")
        shown.by(period, "model")
    ledger.by("user", **asked)
    kpis(facts), kpis(before), recommendations(facts)


def timed(ask: Callable[[], None]) -> dict[str, Any]:
    """Return milliseconds, after one round that does not count."""
    ask()
    cpu, clock = [], []
    for _ in range(ROUNDS):
        begin, began = time.process_time(), time.perf_counter()
        ask()
        cpu.append(1e3 * (time.process_time() - begin))
        clock.append(1e3 * (time.perf_counter() - began))
    return {
        "cpu_ms": round(statistics.median(cpu), 1),
        "clock_ms": round(statistics.median(clock), 1),
        "clock_ms_min": round(min(clock), 1),
    }


def figures_of_a_month(path: Path, calls: int) -> dict[str, Any]:
    """Measure the answers."""
    if not path.exists():
        write_month(path, calls, datetime.now(UTC))
    with Ledger(path, read_only=True) as ledger:
        span = ledger.span()
        assert span is not None
        now = span[1] + timedelta(seconds=1)
        found = {
            name: timed(lambda days=days, filters=filters: face(ledger, days, now, filters))  # type: ignore[misc]
            for name, (days, filters) in ASKED.items()
        }
        return {"calls": ledger.totals().calls, "bytes": path.stat().st_size, "answers": found}


def main() -> None:
    """Measure, write and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--ledger", type=Path, help="kept there, and taken from there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = given.ledger or Path(folder) / "month.db"
        figures = {"figures_of_a_month": figures_of_a_month(ledger, given.calls)}
    print(json.dumps(figures, indent=1))
    print(write_result("face", COMMAND, figures))


if __name__ == "__main__":
    main()
