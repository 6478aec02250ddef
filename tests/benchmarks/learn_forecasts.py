"""How right forecasts are: of answer lengths, of days, of months and of runs, beside rivals.

Run:     python -m tests.benchmarks.learn_forecasts [--quick] [--data DIR]
Data:    made-up lengths (here) and spending of fifteen kinds (tests/support/spend_traces.py); with
         DIR also AzureLLMInferenceTrace_conv.csv (Azure/AzurePublicDataset, CC BY 4.0; Patel et
         al., Splitwise, ISCA 2024), whose 58 minutes are replayed as 58 days: 2.5 seconds are an
         hour, a token costs a hundred-thousandth of a dollar.
Rule:    settings were chosen on the first half of the Azure trace and on the kinds of ``FITTED``
         with other seeds. The kinds of ``JUDGED``, and what is replayed, were not looked at before.
         A day is forecast when half of it is over, from 5, 8, 14 or 28 days before it; a month when
         5, 15 or 25 of its days are to come, from 10, 25, 60 or 110 days.
Figures: "missed by" is the mean absolute error of a period's end, as a share of it (MAPE); days on
         which nothing was spent do not count. "held" is the share of ends inside of the interval
         that four of five should keep. The oracle knows the process and its state, and not what
         chance will do: the median of 20 other futures of the same day. What it misses by, nobody
         can do without.
Output:  results/learn_forecasts.json, and results/learn_forecasts.md for BENCHMARKS.md
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from langchain_tokenopt import UsageForecaster, forecast_run, forecast_spend
from tests.benchmarks import bench_forecast
from tests.benchmarks.results import RESULTS, write_result
from tests.support.spend_traces import KINDS, spend_trace

__all__ = ["run"]

FITTED: Final = (
    "plain", "weekly", "ramp", "bursts", "gaps", "wandering", "nightly", "holiday", "office",
)  # fmt: skip
JUDGED: Final = tuple(kind for kind in KINDS if kind not in FITTED)
DAYS_KNOWN: Final = (5, 8, 14, 28)
MONTH_KNOWN: Final = (10, 25, 60, 110)
DAYS_LEFT: Final = (25, 15, 5)
FUTURES: Final = 20
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)

Hours = Sequence[int]


# --- Spending


def costs_until(hours: Hours, end: datetime) -> dict[datetime, float]:
    """Name the hours, the last of which ends at a time."""
    return {end - HOUR * (len(hours) - n): float(cost) for n, cost in enumerate(hours)}


def rivals(known: Hours, done: Hours) -> dict[str, float]:
    """Say what the usual methods make of the rest of a day."""
    days = np.array(known, dtype=float).reshape(-1, 24)
    rests = days[:, len(done) :].sum(1)
    smoothed = rests[0]
    for rest in rests[1:]:
        smoothed += 0.3 * (rest - smoothed)
    slope, base = np.polyfit(np.arange(len(rests)), rests, 1)
    said = {
        "as yesterday (naive)": rests[-1],
        "as a week ago (seasonal naive)": rests[-7] if len(rests) >= 7 else rests[-1],
        "moving average of 7 days": rests[-7:].mean(),
        "exponential smoothing 0.3": smoothed,
        "linear regression": max(0.0, base + slope * len(rests)),
        "median of all days": float(np.median(rests)),
        "today's pace so far": sum(done) * (24 - len(done)) / len(done),
    }
    return {name: sum(done) + float(rest) for name, rest in said.items()}


class Scores:
    """Collects errors and held intervals, by name."""

    def __init__(self) -> None:
        self._missed: dict[str, list[float]] = defaultdict(list)
        self._held: dict[str, list[bool]] = defaultdict(list)

    def add(self, name: str, said: float, came: float, held: bool | None = None) -> None:
        """Note one forecast."""
        self._missed[name].append(abs(said - came) / came)
        if held is not None:
            self._held[name].append(held)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the figures."""
        return {
            name: {
                "n": len(missed),
                "missed_by_percent": _percent(missed),
                "missed_by_median_percent": round(100 * statistics.median(missed), 1),
                **({"held_percent": _percent(self._held[name])} if name in self._held else {}),
            }
            for name, missed in self._missed.items()
        }


def _percent(shares: Sequence[float]) -> float:
    return round(100 * statistics.fmean(shares), 1)


def days(kind: str, hours: Callable[[int, int], Hours], seeds: int, scores: Scores) -> None:
    """Forecast days of a kind at noon, and at the other quarters for the intervals."""
    for seed in range(seeds):
        for known in DAYS_KNOWN:
            every = hours(1_000_000 + 100 * seed + known, known + 1)
            day = every[24 * known :]
            came = sum(day)
            if not came:
                continue
            costs = costs_until(every, NOW + 24 * HOUR)
            for done in (0, 6, 12, 18):
                seen = forecast_spend(costs, now=NOW + done * HOUR)
                if seen.expected is None:
                    continue
                held = (seen.low or 0) <= came <= (seen.high or 0)
                scores.add(f"{kind}, at any quarter", seen.expected, came, held)
                if done == 12:
                    scores.add(kind, seen.expected, came, held)
                    for name, said in rivals(every[: 24 * known], day[:done]).items():
                        scores.add(f"{kind}: {name}", said, came)


def oracle(kind: str, seeds: int, scores: Scores) -> None:
    """Say what somebody who knows the process would."""
    for seed in range(seeds):
        for known in DAYS_KNOWN:
            number = 1_000_000 + 100 * seed + known
            noon = 24 * known + 12
            every = spend_trace(kind, number, known + 1)
            came = sum(every[24 * known :])
            if came:
                rests = [
                    sum(spend_trace(kind, number, known + 1, again=n, since=noon)[noon:])
                    for n in range(1, FUTURES + 1)
                ]
                said = sum(every[24 * known : noon]) + statistics.median(rests)
                scores.add(f"{kind}: oracle", said, came)


def months(kind: str, hours: Callable[[int, int], Hours], seeds: int, scores: Scores) -> None:
    """Forecast months of thirty days."""
    for seed in range(seeds):
        for known in MONTH_KNOWN:
            for left in DAYS_LEFT:
                every = hours(2_000_000 + 100 * seed + known, known + left)
                end = NOW + left * 24 * HOUR
                begin = max(end - 30 * 24 * HOUR, NOW - known * 24 * HOUR)
                seen = forecast_spend(costs_until(every, end), (begin, end), now=NOW)
                came = seen.spent + sum(every[24 * known :])
                if came and seen.expected is not None:
                    held = (seen.low or 0) <= came <= (seen.high or 0)
                    for name in (kind, f"{left} days to come", f"{known} days known"):
                        scores.add(name, seen.expected, came, held)


def replayed(folder: Path) -> list[int]:
    """Return the Azure trace as hours of spending."""
    tokens: dict[int, int] = defaultdict(int)
    for seconds, prompt, answer in bench_forecast.moments(folder):
        tokens[int(seconds / 2.5)] += prompt + 4 * answer
    return [10_000 * tokens[hour] for hour in range(max(tokens))]


def spending(seeds: int, data: Path | None) -> dict[str, Any]:
    """Judge days and months of all kinds."""
    by_day, by_month, of_oracle = Scores(), Scores(), Scores()
    for kind in KINDS:

        def hours(seed: int, count: int, kind: str = kind) -> Hours:
            return spend_trace(kind, seed, count)

        days(kind, hours, seeds, by_day)
        months(kind, hours, max(1, seeds // 4), by_month)
        oracle(kind, seeds, of_oracle)
    if data is not None:
        every = replayed(data)

        def part(seed: int, count: int) -> Hours:
            begin = 24 * (seed % (len(every) // 24 - count + 1))
            return every[begin : begin + 24 * count]

        days("replayed", part, seeds, by_day)
    found = by_day.rows() | of_oracle.rows()
    judged = [*JUDGED, *(["replayed"] if data else [])]
    can_be = [
        kind
        for kind in judged
        if found.get(f"{kind}: oracle", {"missed_by_percent": 0})["missed_by_percent"] <= 15
    ]
    return {
        "day, at noon": {
            "kinds that nothing was chosen by": judged,
            "of these nobody could within 15 %": [k for k in judged if k not in can_be],
            "mean over the others, ours": _mean(found, can_be, "missed_by_percent"),
            "mean over the others, rivals": {
                name: _mean(found, [f"{kind}: {name}" for kind in can_be], "missed_by_percent")
                for name in rivals([1] * 48, [1] * 12)
            },
            "held, judged kinds": _mean(
                found, [f"{kind}, at any quarter" for kind in judged], "held_percent"
            ),
            "held, all kinds": _mean(
                found, [name for name in found if name.endswith("quarter")], "held_percent"
            ),
            "by kind": found,
        },
        "month": by_month.rows(),
    }


def _mean(found: Mapping[str, Mapping[str, float]], names: Sequence[str], figure: str) -> float:
    return round(statistics.fmean(found[name][figure] for name in names), 1)


# --- Runs


def runs(seeds: int) -> dict[str, Any]:
    """Judge forecasts of runs, before they begin and after each agent; median and total beside."""
    scores = Scores()
    for seed in range(10 * seeds):
        some = random.Random(seed)
        sizes, spread = [some.uniform(200, 5_000) for _ in range(4)], some.uniform(0.1, 0.8)
        own, loops = some.uniform(0.05, 0.5), some.random()
        every = []
        for _ in range(some.choice([12, 30, 100]) + 1):
            subject = some.lognormvariate(0, spread)
            every.append(
                {
                    f"agent {n}": size
                    * subject
                    * some.lognormvariate(0, own)
                    * (some.choice([1, 2, 3]) if n == 2 and loops < 0.5 else 1)
                    for n, size in enumerate(sizes)
                }
            )
        *before, now = every
        came = sum(now.values())
        usual = statistics.median(sum(parts.values()) for parts in before)
        for done in range(4):
            spent = dict(list(now.items())[:done])
            seen = forecast_run(before, spent=spent).at_end
            if seen is not None:
                name = f"after {done} of 4 agents"
                scores.add(name, seen.expected, came, seen.low <= came <= seen.high)
                rest = statistics.median(
                    sum(used for agent, used in parts.items() if agent not in spent)
                    for parts in before
                )
                scores.add(f"{name}: the median of the rest", sum(spent.values()) + rest, came)
                scores.add(f"{name}: the median of runs", usual, came)
    return scores.rows()


# --- Lengths


def lengths_of(kind: str, count: int, seed: int) -> Iterator[tuple[str, int, int, int | None]]:
    """Yield agents, prompt lengths, answer lengths and word limits of a made-up kind."""
    some = random.Random(f"{kind}{seed}")
    for n in range(count):
        agent, prompt, limit = "a", round(some.lognormvariate(6.5, 1)), None
        if kind == "by agent":
            agent = some.choice("abc")
            size = {"a": 40, "b": 300, "c": 1_500}[agent] * some.lognormvariate(0, 0.6)
        elif kind == "heavy tail, prompts say nothing":
            size = 50 * some.paretovariate(1.6)
        elif kind == "lognormal, prompts say nothing":
            size = 150 * some.lognormvariate(0, 1.1)
        elif kind == "two kinds of tasks":
            size = some.choice([20, 800]) * some.lognormvariate(0, 0.3)
        elif kind == "as long as the prompt":
            size = 0.4 * prompt * some.lognormvariate(0, 0.4)
        elif kind == "drift":
            size = 100 * (1 + 4 * n / count) * some.lognormvariate(0, 0.5)
        elif kind == "another model from the middle on":
            size = (100 if n < count / 2 else 350) * some.lognormvariate(0, 0.4)
        else:  # word limits
            limit = some.choice([50, 100, 200, 400])
            size = 1.3 * limit * some.betavariate(6, 2)
        yield agent, prompt, max(1, round(size)), limit


LENGTHS: Final = (
    "by agent", "heavy tail, prompts say nothing", "lognormal, prompts say nothing",
    "two kinds of tasks", "as long as the prompt", "drift", "another model from the middle on",
    "word limits",
)  # fmt: skip


def lengths(count: int) -> dict[str, Any]:
    """Judge lengths of made-up kinds, beside the quantiles of all answers so far."""
    found = {}
    for kind in LENGTHS:
        forecaster, known = UsageForecaster(), np.empty(0)
        rows, early, answers = [], [], []
        for n, (agent, prompt, answer, limit) in enumerate(lengths_of(kind, count, 1)):
            if n >= count // 2 or n in range(30, 130):
                seen = forecaster.forecast(agent, input_tokens=prompt, max_words=limit)
                assert seen is not None
                if n >= count // 2:
                    plain = np.quantile(known, [0.5, 0.95])
                    rows.append((answer, seen.expected_tokens, seen.p95_tokens, *plain))
                else:
                    early.append((answer, seen.p95_tokens))
            forecaster.observe(agent, answer, input_tokens=prompt, max_words=limit)
            answers.append(answer)
            if n % 20 == 0:
                known = np.array(answers)
        came, expected, p95, all_middle, all_p95 = np.array(rows, dtype=float).T
        first, first_p95 = np.array(early, dtype=float).T
        found[kind] = {
            **bench_forecast.judged("ours", came, expected, p95),
            "after 30 answers, p95_coverage_percent": _percent((first <= first_p95).tolist()),
            "all": bench_forecast.judged("quantiles of all", came, all_middle, all_p95),
        }
    return found


def speed() -> dict[str, float]:
    """Measure microseconds per update and per forecast of three quantiles, with a full window."""
    forecaster, asked = UsageForecaster(), list(lengths_of("as long as the prompt", 12_000, 3))
    updates, forecasts = [], []
    for begin in range(0, len(asked), 500):
        part = asked[begin : begin + 500]
        start = time.process_time()
        for _, prompt, answer, _ in part:
            forecaster.observe("a", answer, model="m", input_tokens=prompt)
        middle = time.process_time()
        for _, prompt, _, _ in part:
            forecaster.forecast("a", model="m", input_tokens=prompt)
        updates.append(1e6 * (middle - start) / 500)
        forecasts.append(1e6 * (time.process_time() - middle) / 500)
    full = slice(9_000 // 500, None)
    return {
        "update_microseconds_least": round(min(updates[full]), 1),
        "update_microseconds_median": round(statistics.median(updates[full]), 1),
        "forecast_microseconds_least": round(min(forecasts[full]), 1),
        "forecast_microseconds_median": round(statistics.median(forecasts[full]), 1),
    }


def run(*, quick: bool = False, data: Path | None = None) -> dict[str, Any]:
    """Measure all of it."""
    seeds = 2 if quick else 12
    found: dict[str, Any] = {
        "lengths, made-up": lengths(1_500 if quick else 8_000),
        "lengths, speed": speed(),
        "runs": runs(seeds),
        **spending(seeds, data),
    }
    if data is not None:
        found["lengths, trace"] = bench_forecast.figures_of(*bench_forecast.trace(data))
    return found


def as_markdown(found: Mapping[str, Any]) -> str:
    """Return the table of BENCHMARKS.md."""
    day, lines = found["day, at noon"], []
    by_kind, usual = day["by kind"], list(rivals([1] * 48, [1] * 12))
    judged = day["kinds that nothing was chosen by"]
    for kind in [*(each for each in KINDS if each not in judged), *judged]:
        best = min(usual, key=lambda name: by_kind[f"{kind}: {name}"]["missed_by_percent"])
        oracle_row = by_kind.get(f"{kind}: oracle")
        cells = [
            f"{kind}{' (judged)' if kind in judged else ''}",
            f"{by_kind[kind]['missed_by_percent']} %",
            f"{by_kind[f'{kind}, at any quarter']['held_percent']} %",
            f"{by_kind[f'{kind}: {best}']['missed_by_percent']} % ({best})",
            "" if oracle_row is None else f"{oracle_row['missed_by_percent']} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    ours = day["mean over the others, ours"]
    rival = min(day["mean over the others, rivals"].values())
    nobody = ", ".join(day["of these nobody could within 15 %"])
    return f"""| spending | missed by, at noon | 4 of 5 held | best rival of this kind | oracle |
|---|--:|--:|--:|--:|
{chr(10).join(lines)}

Nothing was chosen by the kinds that are marked. Over those of them that the oracle, who knows the
process, forecasts within 15 %, ours misses by {ours} % and the best single rival by {rival} %.
Of {nobody} nobody could. Intervals held in {day["held, judged kinds"]} % of judged days.
"""


def main() -> None:
    """Measure, write and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="few seeds; nothing is written")
    options.add_argument("--data", type=Path, help=f"folder with {bench_forecast.TRACE}")
    given = options.parse_args()
    found = run(quick=given.quick, data=given.data)
    for name, figures in found.items():
        print(f"\n{name}")
        for key, value in figures.items():
            print(f"  {key}: {value}")
    if not given.quick:
        command = "python -m tests.benchmarks.learn_forecasts --data DIR"
        print(write_result("learn_forecasts", command, found, "scikit-learn"))
        if given.data is not None:
            (RESULTS / "learn_forecasts.md").write_text(as_markdown(found), encoding="utf-8")


if __name__ == "__main__":
    main()
