"""How well the length of an answer can be foretold, beside the usual methods.

Run:     python -m tests.benchmarks.bench_forecast --data DIR
Data:    DIR/AzureLLMInferenceTrace_conv.csv, the conversation trace of Azure's LLM inference
         service (Azure/AzurePublicDataset, CC BY 4.0; Patel et al., Splitwise, ISCA 2024): 19,366
         requests with the length of prompt and answer, in time order.
Rule:    the first half is for fitting, the second is judged once. "online" methods see each judged
         answer after they have foretold it, as in use; "frozen" ones do not. The forecaster's
         settings were chosen within the first half.
         The gradient boosting is scikit-learn's, where it is installed (it comes with the extra
         "semantic"); it sees the prompt's length alone, as all others here.
Figures: WAPE of the expectation = sum of absolute errors / sum of lengths; coverage = share of
         answers not longer than the bound; reserve = sum of bounds / sum of lengths. "Hindsight" is
         fitted on the judged half itself: what prompt length alone could reach at best.
Output:  results/forecast.json and results/forecast.md for BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from langchain_tokenopt.forecast import UsageForecaster
from tests.benchmarks.results import RESULTS, write_result

TRACE = "AzureLLMInferenceTrace_conv.csv"
AGENT = "conversation"
WINDOW = 1_000
"""Answers per window in which coverage is looked at."""

Bound = Sequence[float] | np.ndarray | None


def judged(
    method: str, actual: np.ndarray, expected: Bound, p95: Bound = None, p99: Bound = None
) -> dict[str, Any]:
    """Make a row of the table."""
    row: dict[str, Any] = {"method": method, "judged": len(actual)}
    total = actual.sum()
    if expected is not None:
        row["wape_percent"] = round(
            100 * float(np.abs(np.asarray(expected) - actual).sum() / total), 1
        )
    for name, bound in (("p95", p95), ("p99", p99)):
        if bound is None:
            continue
        covered = actual <= np.asarray(bound)
        windows = [
            covered[i : i + WINDOW].mean() for i in range(0, len(covered) - WINDOW + 1, WINDOW)
        ]
        row[f"{name}_coverage_percent"] = round(100 * float(covered.mean()), 2)
        row[f"{name}_worst_window_percent"] = round(
            100 * float(min(windows, default=covered.mean())), 1
        )
        row[f"{name}_reserve"] = round(float(np.sum(bound) / total), 2)
    return row


def forecaster_row(
    prompts: np.ndarray, answers: np.ndarray, half: int, *, online: bool
) -> tuple[dict[str, Any], float]:
    """Judge our forecaster; also return the seconds per answer of foretelling and learning."""
    forecaster = UsageForecaster()
    for prompt, tokens in zip(prompts[:half], answers[:half], strict=True):
        forecaster.observe(AGENT, int(tokens), input_tokens=int(prompt))
    expected, p95, p99 = [], [], []
    start = time.process_time()
    for prompt, tokens in zip(prompts[half:], answers[half:], strict=True):
        foretold = forecaster.forecast(AGENT, input_tokens=int(prompt))
        assert foretold is not None
        expected.append(foretold.expected_tokens)
        p95.append(foretold.p95_tokens)
        p99.append(foretold.p99_tokens)
        if online:
            forecaster.observe(AGENT, int(tokens), input_tokens=int(prompt))
    seconds = (time.process_time() - start) / (len(prompts) - half)
    name = f"UsageForecaster, {'online' if online else 'frozen'}"
    return judged(name, answers[half:], expected, p95, p99), seconds


def rival_rows(prompts: np.ndarray, answers: np.ndarray, half: int) -> list[dict[str, Any]]:
    """Judge the usual methods."""
    fit, actual = answers[:half], answers[half:]
    ones = np.ones(len(actual))
    slope, base = np.polyfit(prompts[:half], fit, 1)
    residual = np.quantile(fit - (base + slope * prompts[:half]), [0.95, 0.99])
    line = base + slope * prompts[half:]
    return [
        judged("mean of all", actual, ones * fit.mean()),
        judged(
            "median and quantiles of all",
            actual,
            ones * np.median(fit),
            ones * np.quantile(fit, 0.95),
            ones * np.quantile(fit, 0.99),
        ),
        judged(
            "linear regression on prompt length",
            actual,
            line,
            line + residual[0],
            line + residual[1],
        ),
        judged("moving average of 50, online", actual, _moving_average(answers, half, 50)),
        judged("exponential smoothing 0.05, online", actual, _smoothed(answers, half, 0.05)),
        _binned(prompts, answers, half),
        *_boosted(prompts, answers, half),
    ]


def _moving_average(answers: np.ndarray, half: int, width: int) -> np.ndarray:
    return np.array([answers[i - width : i].mean() for i in range(half, len(answers))])


def _smoothed(answers: np.ndarray, half: int, alpha: float) -> list[float]:
    level, foretold = float(answers[0]), []
    for at, tokens in enumerate(answers):
        if at >= half:
            foretold.append(level)
        level += alpha * (float(tokens) - level)
    return foretold


def _binned(prompts: np.ndarray, answers: np.ndarray, half: int) -> dict[str, Any]:
    """Quantiles in bins of the prompt length's logarithm, frozen."""
    bins = np.floor(np.log2(np.maximum(prompts, 1)) * 2).astype(int)
    quantiles = {
        b: np.quantile(answers[:half][bins[:half] == b], [0.5, 0.95, 0.99])
        for b in set(bins[:half])
    }
    every = np.quantile(answers[:half], [0.5, 0.95, 0.99])
    foretold = np.array([quantiles.get(b, every) for b in bins[half:]])
    return judged("quantiles in half-octave bins", answers[half:], *foretold.T)


def _boosted(prompts: np.ndarray, answers: np.ndarray, half: int) -> list[dict[str, Any]]:
    """Gradient boosted trees, one for each quantile, frozen; nothing where they are missing."""
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
    except ImportError:
        return []
    known, asked = prompts[:half, None], prompts[half:, None]
    foretold = [
        HistGradientBoostingRegressor(loss="quantile", quantile=share, random_state=0)
        .fit(known, answers[:half])
        .predict(asked)
        for share in (0.5, 0.95, 0.99)
    ]
    return [judged("gradient boosting (scikit-learn)", answers[half:], *foretold)]


def hindsight_row(prompts: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """Fit and judge on the same answers: the nearest in prompt length, each one included."""
    order = np.argsort(prompts, kind="stable")
    sorted_answers = answers[order]
    count = 45
    foretold = np.empty((len(prompts), 3))
    for place, index in enumerate(order):
        start = min(max(place - count // 2, 0), len(order) - count)
        sample = sorted_answers[start : start + count]
        foretold[index] = np.quantile(sample, [0.5, 0.95, 0.99])
    return judged("hindsight: same answers, same prompt length", answers, *foretold.T)


def as_markdown(figures: dict[str, Any]) -> str:
    """Return the table of the README."""
    lines = [
        "| method | error (WAPE) | 95 % bound holds | reserves | 99 % bound holds | reserves |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in figures["table"]:
        cells = [row["method"], f"{row['wape_percent']} %"]
        for name in ("p95", "p99"):
            held, reserve = row.get(f"{name}_coverage_percent"), row.get(f"{name}_reserve")
            cells += ["", ""] if held is None else [f"{held:.2f} %", f"{reserve:.2f}x"]
        lines.append(f"| {' | '.join(cells)} |")
    return f"""{chr(10).join(lines)}

Azure LLM conversation trace of 2023 (CC BY 4.0): fitted on {figures["fitted"]:,} answers, judged on
the {figures["judged"]:,} after them. "Hindsight" was fitted on the judged answers themselves.
"""


def trace(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the lengths of prompts and of answers, in order of time."""
    _, prompts, answers = np.array(list(moments(folder)), dtype=int).T
    return prompts, answers


def moments(folder: Path) -> Iterator[tuple[float, int, int]]:
    """Yield the second of each request since the first, and the lengths of prompt and answer."""
    first = None
    with (folder / TRACE).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
            first = at if first is None else first
            yield at - first, int(row["ContextTokens"]), int(row["GeneratedTokens"])


def figures_of(prompts: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """Judge the forecaster and the usual methods on the second half."""
    half = len(prompts) // 2
    online, seconds = forecaster_row(prompts, answers, half, online=True)
    frozen, _ = forecaster_row(prompts, answers, half, online=False)
    return {
        "fitted": half,
        "judged": len(prompts) - half,
        "median_answer_tokens": statistics.median(answers.tolist()),
        "microseconds_per_answer": round(1e6 * seconds, 1),
        "table": [
            online,
            frozen,
            *rival_rows(prompts, answers, half),
            hindsight_row(prompts[half:], answers[half:]),
        ],
    }


def main() -> None:
    """Judge, write and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True, help=f"folder with {TRACE}")
    figures = figures_of(*trace(options.parse_args().data))
    command = "python -m tests.benchmarks.bench_forecast --data DIR"
    path = write_result("forecast", command, figures, "scikit-learn")
    (RESULTS / "forecast.md").write_text(as_markdown(figures), encoding="utf-8")
    print(as_markdown(figures))
    print(f"\n{figures['microseconds_per_answer']} microseconds per answer\n{path}")


if __name__ == "__main__":
    main()
