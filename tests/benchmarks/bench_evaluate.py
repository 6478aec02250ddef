"""Are the verdicts of comparisons and of the quality guard right as often as they promise?

Run:     make bench-evaluate  (python -m tests.benchmarks.bench_evaluate [--runs 1000])
Compare: simulated comparisons whose true difference is 0, the margin, and beyond it, looked at
         after every case. Beside it, on the same draws: a paired t-test at the end (fixed number of
         cases), and the same test looked at after every case, which is what people do.
Guard:   20,000 requests of which a share is tried both ways; the candidate turns bad half-way.
Judges:  200 pairs of answers with the truth beside them (tests/judge/answers.jsonl), written by
         somebody who had not read the judges.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from langchain_tokenopt.evaluate import (
    Case,
    ExactMatch,
    JsonEqual,
    Judge,
    NamesKept,
    NormalizedMatch,
    NumbersKept,
    RunAnswer,
    Similarity,
    Trial,
    UnjudgedError,
)
from langchain_tokenopt.evaluate.guard_state import GuardState, Key
from langchain_tokenopt.evaluate.judges import score
from langchain_tokenopt.evaluate.mean_bounds import MeanBounds
from tests.benchmarks.results import RESULTS, write_result

MARGIN, CONFIDENCE, MOST_CASES = 0.05, 0.95, 1_500
REQUESTS = 20_000
DISAGREE = 0.10
"""Share of cases in which both sides differ, one way or the other."""
TRUTHS = {"no difference": 0.0, "worse by the margin": -MARGIN, "worse by twice that": -2 * MARGIN}
PAIRS = Path(__file__).parents[1] / "judge" / "answers.jsonl"


def draw(rng: random.Random, difference: float) -> float:
    """Draw whether the candidate wins (1), loses (-1) or neither (0)."""
    lose = max(DISAGREE, -difference) / 2 - difference / 2
    win = lose + difference
    at = rng.random()
    return -1.0 if at < lose else 1.0 if at < lose + win else 0.0


def by_bounds(values: list[float]) -> tuple[str, int]:
    """Stop as soon as the bounds are clear of the margin."""
    error = (1 - CONFIDENCE) / 2
    bounds = MeanBounds(-1, 1, error_below=error, error_above=error)
    for number, value in enumerate(values, 1):
        bounds.add(value)
        if bounds.is_above(-MARGIN):
            return "not worse", number
        if bounds.is_below(-MARGIN):
            return "worse", number
    return "unclear", len(values)


def by_test(values: list[float], looks: bool) -> tuple[str, int]:
    """A paired test with a normal bound, at the end or at every case from the 30th on."""
    quantile = statistics.NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2)
    total = squares = 0.0
    for number, value in enumerate(values, 1):
        total += value
        squares += value * value
        if number < 30 or not (looks or number == len(values)):
            continue
        mean = total / number
        half = quantile * math.sqrt(max(squares / number - mean * mean, 1e-9) / number)
        if mean - half > -MARGIN:
            return "not worse", number
        if mean + half < -MARGIN:
            return "worse", number
    return "unclear", len(values)


METHODS: dict[str, Callable[[list[float]], tuple[str, int]]] = {
    "compare": by_bounds,
    "paired test at the end": lambda values: by_test(values, looks=False),
    "paired test at every case": lambda values: by_test(values, looks=True),
}
WRONG = {
    "no difference": {"worse"},
    "worse by the margin": {"not worse", "worse"},
    "worse by twice that": {"not worse"},
}


def comparisons(runs: int) -> dict[str, Any]:
    """Count wrong verdicts, and cases until the verdict."""
    found: dict[str, Any] = {}
    for truth, difference in TRUTHS.items():
        verdicts: dict[str, Counter[str]] = defaultdict(Counter)
        cases: dict[str, list[int]] = defaultdict(list)
        for run in range(runs):
            rng = random.Random(f"{truth} {run}")
            values = [draw(rng, difference) for _ in range(MOST_CASES)]
            for name, method in METHODS.items():
                verdict, number = method(values)
                verdicts[name][verdict] += 1
                cases[name].append(number)
        found[truth] = {
            name: {
                "wrong %": round(100 * sum(verdicts[name][v] for v in WRONG[truth]) / runs, 1),
                "unclear %": round(100 * verdicts[name]["unclear"] / runs, 1),
                "cases, median": statistics.median(cases[name]),
            }
            for name in METHODS
        }
    return found


def guard(runs: int, requests: int = REQUESTS, share: float = 0.05) -> dict[str, Any]:
    """Let answers turn bad half-way, or never; count requests until the fall back."""
    found: dict[str, Any] = {}
    for name, bad in (("never turns bad", 0.0), ("30 % bad", 0.3), ("all bad", 1.0)):
        falls: list[int] = []
        early = 0
        for run in range(runs):
            rng = random.Random(f"{name} {run}")
            state = _state(None)
            key = Key("news", "text")
            for request in range(requests):
                if rng.random() >= share:
                    continue
                # Two plain answers differ in 10 % of the cases, as the candidate's do.
                is_bad = request >= requests // 2 and rng.random() < bad
                difference = -1.0 if is_bad else draw(rng, 0.0)
                if state.add(key, 0, {"judge": (difference, difference)}) is not None:
                    falls.append(request)
                    early += request < requests // 2
                    break
            state.close()
        right = [at - requests // 2 for at in falls if at >= requests // 2]
        found[name] = {
            "fell back wrongly %": round(100 * (early if bad else len(falls)) / runs, 1),
            "fell back after it turned bad %": round(100 * len(right) / runs, 1) if bad else None,
            "requests until then, median": statistics.median(right) if bad and right else None,
        }
    return found


def _state(path: Path | None) -> GuardState:
    return GuardState(
        path, ["judge"], margin=MARGIN, confidence=CONFIDENCE, levels=2, retry_seconds=1e9
    )


def _work(path: Path, trials: int) -> None:
    state = _state(path)
    for _ in range(trials):
        state.add(Key("news", "text"), 0, {"judge": (0.0, 0.0)})
    state.close()


def processes(count: int = 8, trials: int = 250) -> dict[str, Any]:
    """Let processes write into one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guard.db"
        workers = [
            get_context("spawn").Process(target=_work, args=(path, trials)) for _ in range(count)
        ]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - began
        state = _state(path)
        ((_, judges),) = state.evidence().values()
        state.close()
    return {"processes": count, "trials": judges["judge"].trials, "seconds": round(seconds, 1)}


def judges() -> dict[str, Any]:
    """Ask every judge about pairs with the truth beside them."""
    if not PAIRS.is_file():
        return {}
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    asked: list[Judge] = [
        ExactMatch(),
        NormalizedMatch(),
        NumbersKept(),
        NamesKept(),
        JsonEqual(),
        Similarity(),
    ]
    found: dict[str, Any] = {"pairs": len(rows)}
    for judge in asked:
        counts: Counter[tuple[str, bool | None]] = Counter()
        for row in rows:
            case = Case(row["question"], row["reference"])
            trial = Trial(case, RunAnswer(row["baseline"]), RunAnswer(row["candidate"]))
            try:
                is_accepted: bool | None = score(judge, trial).candidate >= 0.9
            except UnjudgedError:
                is_accepted = None
            counts[row["kind"], is_accepted] += 1
        found[judge.name] = {
            f"{kind}: accepted": f"{counts[kind, True]} of "
            f"{counts[kind, True] + counts[kind, False]}"
            for kind in ("same", "subtle", "contradicting")
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--guard-runs", type=int, default=200)
    given = parser.parse_args()
    found = {
        "margin": MARGIN,
        "comparisons": comparisons(given.runs),
        "guard": guard(given.guard_runs),
        "guard, one file": processes(),
        "judges": judges(),
    }
    print(json.dumps(found, indent=1))
    write_result("evaluate", f"make bench-evaluate RUNS={given.runs}", found, "numpy")
    (RESULTS / "evaluate.md").write_text(table(found), encoding="utf-8")


def table(found: dict[str, Any]) -> str:
    """Return the tables of the README."""
    lines = [
        f"| {MOST_CASES:,} cases at most, margin {100 * MARGIN:g} points | wrong verdicts | "
        "unclear | cases, median |",
        "| --- | --- | --- | --- |",
    ]
    for truth, methods in found["comparisons"].items():
        lines += [
            f"| {truth}: {name} | {row['wrong %']} % | {row['unclear %']} % | "
            f"{row['cases, median']:g} |"
            for name, row in methods.items()
        ]
    lines += [
        "",
        "A guard over 20,000 requests, 5 % of them tried, whose stages turn bad half-way:",
        "",
        "| | fell back wrongly | fell back after it | requests until then, median "
        "| of the bad answers, served |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {row['fell back wrongly %']} % | {_percent(row, 'fell back after')} | "
        f"{row['requests until then, median'] or ''} | {_served(row)} |"
        for name, row in found["guard"].items()
    ]
    if found["judges"]:
        lines += [
            "",
            f"What judges accept of {found['judges']['pairs']} pairs of answers in 11 languages, "
            "written by somebody who had not read them: what cannot be seen without reading is "
            "not seen. Take references, a model as judge, or a function of your own.",
            "",
            "| judge | same in other words | something lost or changed | contradicting |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {name} | " + " | ".join(row.values()) + " |"
            for name, row in found["judges"].items()
            if name != "pairs"
        ]
    return "\n".join(lines) + "\n"


def _served(row: dict[str, Any]) -> str:
    """Return the share of the bad answers that were given before the guard fell back."""
    until = row["requests until then, median"]
    return "" if until is None else f"{100 * until / (REQUESTS / 2):.1f} %"


def _percent(row: dict[str, Any], name: str) -> str:
    (value,) = (value for key, value in row.items() if key.startswith(name))
    return "" if value is None else f"{value} %"


if __name__ == "__main__":
    main()
