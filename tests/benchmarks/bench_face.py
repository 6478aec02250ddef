"""A month of a million calls: how long it takes to say how it went, and how right forecasts are.

Run:     make bench-face       (python -m tests.benchmarks.bench_face [--calls N] [--ledger FILE])
Data:    a made-up month of a trading desk (tests/benchmarks/month_ledger.py); spending of ten kinds
         (tests/support/spend_traces.py), with seeds that nothing was chosen by.
Rule:    what a dashboard asks of a period: facts of it, key figures of it and of the period before,
         who spent most (agents, models, users), cost over time by agent and by model, advice. The
         ledger has been read once. Milliseconds are of CPU and of the clock, medians of rounds. A
         forecast is made at a point of a day from the days before it; an interval holds when the
         day ends inside, and should in four of five.
Output:  tests/benchmarks/results/face.json, the parts "figures_of_a_month" and "forecasts".
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from langchain_tokenopt.core.dimensions import Period
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.report import Facts, forecast_spend, kpis, recommendations
from tests.benchmarks.month_ledger import write_month
from tests.benchmarks.results import RESULTS, write_result
from tests.support.spend_traces import KINDS, spend_trace

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


def forecasts() -> dict[str, Any]:
    """Judge forecasts of days on traces that they were not made with."""
    rows: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    silent = 0
    for kind in KINDS:
        for seed in range(40):
            for known in (3, 5, 8, 14, 28):
                hours = spend_trace(kind, 1_000_000 + 100 * seed + known, known + 1)
                day = hours[24 * known :]
                for done in (0, 6, 12, 18):
                    seen = forecast_spend(hours[: 24 * known], day[:done], 24)
                    if seen is None:
                        silent += 1
                    elif sum(day):
                        row = (
                            seen.low <= sum(day) <= seen.high,
                            abs(seen.expected - sum(day)) / sum(day),
                        )
                        for name in ("all", kind, f"{known} days known", f"after {done} hours"):
                            rows[name].append(row)
                        if done == 12:
                            rows[f"{kind}, half the day"].append(row)
    return {
        "not enough data": silent,
        **{
            name: {
                "n": len(row),
                "within_percent": round(100 * statistics.mean(held for held, _ in row), 1),
                "mean_error_percent": round(100 * statistics.mean(miss for _, miss in row), 1),
                "median_error_percent": round(100 * statistics.median(miss for _, miss in row), 1),
            }
            for name, row in rows.items()
        },
    }


def main() -> None:
    """Measure, write and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--ledger", type=Path, help="kept there, and taken from there")
    options.add_argument("--only", choices=["figures_of_a_month", "forecasts"])
    given = options.parse_args()
    path = RESULTS / "face.json"
    known = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else {}
    if given.only != "forecasts":
        with tempfile.TemporaryDirectory() as folder:
            ledger = given.ledger or Path(folder) / "month.db"
            known["figures_of_a_month"] = figures_of_a_month(ledger, given.calls)
    if given.only != "figures_of_a_month":
        known["forecasts"] = forecasts()
    print(json.dumps(known, indent=1))
    print(write_result("face", COMMAND, known))


if __name__ == "__main__":
    main()
