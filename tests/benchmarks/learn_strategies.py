"""Strategies of division on simulated desks: quality for equal tokens, tokens for equal quality.

A desk is a team of three to six agents that work one after the other on one budget. Each run every
agent needs another number of tokens; in the middle of the time half of the agents' needs shift.
What an agent's answer is worth depends on the part of its need that it is given, in a way that
belongs to the desk's family and that no strategy is told. Agents are of unequal worth, and their
user's priorities say so exactly, roughly, or not at all. Before the budget there are some runs
without one, as in a ledger; most answers are judged, with noise.

All strategies play the same runs through the package's own allocator, in two ways. ``in a run``:
when an agent's turn comes, what is left is divided among those who have not ended, and the others
are taken to want no more than their forecast, so that each end moves the shares of those to come.
``fixed shares``: the total is divided once, and what an agent does not need is lost.

``quality per token`` is what the words say: the mean quality beside the mean tokens, shrunk and
bounded as ``performance`` is, which goes by what more tokens would add. ``performance, wants
unknown`` is told what answers took, as by users' verdicts, and not what they would have taken.

Constants of the strategies were chosen on the families of ``FITTED``. The result file is about
those of ``JUDGED``, which were written afterwards; no constant was changed since.

Run:     python -m tests.benchmarks.learn_strategies [--quick] [--desks 2000] [--fitted]
Output:  results/learn_strategies.json
Quality: of a run, what its answers are worth beside what they would be with all that they need.
"""

from __future__ import annotations

import argparse
import math
import random
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any, Final

from langchain_tokenopt.budget import (
    AllocationStrategy,
    Auto,
    Claim,
    Equal,
    ForecastNeed,
    Performance,
    Priority,
    Proportional,
    allocate,
)
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage.learned_store import LearnedKey, LearnedValue
from tests.benchmarks.results import write_result

__all__ = ["run"]

EARLIER: Final = 10
"""Runs before there is a budget."""
RUNS: Final = 10
JUDGED_SHARE: Final = 0.7
"""Of answers."""
TOTALS: Final = (0.6, 0.8, 1.0, 1.2, 1.5)
"""Of the desk's, at which equal division is played besides: what more tokens would have brought."""

Shape = Callable[[float], float]
"""The part of an answer's worth, by the part of its need that it is given."""


def _saturating(part: float) -> float:
    return (1 - math.exp(-2.3 * part)) / (1 - math.exp(-2.3))


def _threshold(part: float) -> float:
    return (1 / (1 + math.exp(-8 * (part - 0.7))) - 0.0037) / 0.9131


def _log(part: float) -> float:
    return math.log1p(9 * part) / math.log(10)


FITTED: Final[Mapping[str, Sequence[Shape]]] = {
    "saturating": [_saturating],
    "linear": [lambda part: part],
    "threshold": [_threshold],
    "log": [_log],
    "flat": [lambda part: min(1.0, 10 * part)],
    "power": [math.sqrt],
    "mixed": [_saturating, lambda part: part, _threshold, _log, lambda part: min(1.0, 10 * part)],
}
JUDGED: Final[Mapping[str, Sequence[Shape]]] = {
    "hyperbola": [lambda part: 1.3 * part / (part + 0.3)],
    "staircase": [lambda part: math.floor(4 * part + 1e-9) / 4],
    "overhead": [lambda part: max(0.0, (part - 0.3) / 0.7) ** 0.7],
    "weakest link": [lambda part: part**0.6],
    "strangers": [
        lambda part: 1.3 * part / (part + 0.3),
        lambda part: math.floor(4 * part + 1e-9) / 4,
        lambda part: max(0.0, (part - 0.3) / 0.7) ** 0.7,
        lambda part: part**2,
        lambda part: 0.8 + 0.2 * part,
    ],
}
"""``weakest link``: the result is half as good as the worst part, half as good as the mean."""


@dataclass
class Desk:
    """One team, and what happens to it."""

    family: str
    shapes: dict[str, Shape]
    worth: dict[str, float]
    best: dict[str, float]
    """Quality of an answer with all that it needs."""
    claims: list[Claim]
    total: int
    needs: list[dict[str, int]]
    verdicts: list[dict[str, float | None]]
    """Noise of each verdict; ``None`` where nobody judges."""

    @classmethod
    def drawn(cls, family: str, seed: int, shapes: Sequence[Shape]) -> Desk:
        """Draw one; the same for the same seed."""
        draw = random.Random(f"{family} {seed}")
        names = [f"agent {number}" for number in range(draw.randint(3, 6))]
        usual = {name: 2_000 * math.exp(draw.gauss(0, 0.8)) for name in names}
        shift = {n: math.exp(draw.gauss(0, 0.7)) if draw.random() < 0.5 else 1.0 for n in names}
        worth = {name: math.exp(draw.gauss(0, 0.6)) for name in names}
        told = draw.choice(("exactly", "roughly", "not at all"))
        noise = {"exactly": 0.0, "roughly": 0.5, "not at all": 0.0}[told]
        claims = [
            Claim(
                name,
                priority=1.0
                if told == "not at all"
                else worth[name] * math.exp(draw.gauss(0, noise)),
            )
            for name in names
        ]
        needs = []
        for number in range(EARLIER + RUNS):
            is_late = number >= EARLIER + RUNS // 2
            length = math.exp(draw.gauss(0, 0.25))  # of the task, for all agents
            needs.append(
                {
                    name: round(
                        usual[name]
                        * (shift[name] if is_late else 1)
                        * length
                        * math.exp(draw.gauss(0, 0.3))
                    )
                    + 1
                    for name in names
                }
            )
        return cls(
            family,
            {name: draw.choice(shapes) for name in names},
            worth,
            {name: draw.uniform(0.5, 1.0) for name in names},
            claims,
            round(draw.uniform(0.4, 1.1) * sum(usual.values())),
            needs,
            [
                {n: draw.gauss(0, 0.08) if draw.random() < JUDGED_SHARE else None for n in names}
                for _ in range(EARLIER + RUNS)
            ],
        )

    def quality_of(self, name: str, tokens: int, number: int) -> float:
        """Return the quality of an answer, from 0 to 1."""
        part = min(tokens / self.needs[number][name], 1.0)
        return self.best[name] * self.shapes[name](part)

    def quality(self, given: Mapping[str, int], number: int) -> float:
        """Return the quality of a run beside one with all that it needs."""
        parts = {
            n: self.quality_of(n, tokens, number) / self.best[n] for n, tokens in given.items()
        }
        worth = {name: self.worth[name] * self.best[name] for name in given}
        mean = sum(worth[n] * part for n, part in parts.items()) / sum(worth.values())
        return (mean + min(parts.values())) / 2 if self.family == "weakest link" else mean


class _Rows:
    """What ``Performance`` asks of a store, without SQL: half of the time would be the file's."""

    def __init__(self) -> None:
        self._rows: dict[LearnedKey, Any] = {}

    def update(self, key: LearnedKey, change: Callable[[Any], Any]) -> Any:
        self._rows[key] = change(self._rows.get(key))
        return self._rows[key]

    def values(self, *among: str) -> list[LearnedValue]:
        return [LearnedValue(*key, value) for key, value in self._rows.items()]


def _performance() -> Performance:
    return Performance(_Rows())  # type: ignore[arg-type]


class Player:
    """A strategy, and what it learns from."""

    def __init__(self, name: str, desk: Desk, *, flows_on: bool = True) -> None:
        self.flows_on = flows_on
        self.knows_wants = name != "performance, wants unknown"
        self.needs = ForecastNeed()
        """What the run itself goes by, whatever the strategy."""
        self.performance: Performance | None = None
        self.auto: Auto | None = None
        self.ratio: _QualityPerToken | None = None
        self.strategy: AllocationStrategy
        match name:
            case "equal":
                self.strategy = Equal()
            case "priority":
                self.strategy = Priority()
            case "proportional":
                self.strategy = Proportional(_Expected(self.needs))
            case "forecast":
                self.strategy = self.needs
            case "performance" | "performance, wants unknown":
                self.strategy = self.performance = _performance()
            case "quality per token":
                self.strategy = self.ratio = _QualityPerToken()
            case _:
                known = _performance()
                self.performance = None if name == "auto, no verdicts" else known
                self.strategy = self.auto = Auto(
                    performance=known, total_tokens=desk.total, flows_on=flows_on
                )

    def learn(self, desk: Desk, number: int, used: Mapping[str, int]) -> None:
        """Take in a run that has ended.

        What was asked for is known, as in a run: requests are counted before they are shortened.
        """
        wanted = desk.needs[number]
        self.needs.observe(wanted)
        if self.auto is not None:
            self.auto.observe(wanted)
        for name, noise in desk.verdicts[number].items():
            if noise is None:
                continue
            seen = min(max(desk.quality_of(name, used[name], number) + noise, 0.0), 1.0)
            if self.performance is not None:
                told = wanted[name] if self.knows_wants else None
                self.performance.record(name, seen, used[name], wanted=told)
            if self.ratio is not None:
                self.ratio.record(name, seen, used[name])


class _QualityPerToken:
    """The other reading of performance, to compare with."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}

    def record(self, agent: str, quality: float, tokens: int) -> None:
        known = self._seen.setdefault(agent, [0.0, 0.0, 0.0])
        known[:] = [0.95 * each for each in known]
        for place, each in enumerate((1.0, quality, tokens)):
            known[place] += each

    def weights(self, claims: Sequence[Claim]) -> Mapping[str, float]:
        if not self._seen:
            return Priority().weights(claims)
        ratios = {
            claim.agent: (quality + 3 * 0.6) / (n + 3) / max(tokens / n, 1) if n else None
            for claim in claims
            for n, quality, tokens in [self._seen.get(claim.agent, [0.0, 0.0, 0.0])]
        }
        known = [ratio for ratio in ratios.values() if ratio is not None]
        mean = fmean(known)
        return {
            claim.agent: claim.priority * min(max((ratios[claim.agent] or mean) / mean, 1 / 3), 3.0)
            for claim in claims
        }


class _Expected:
    def __init__(self, needs: ForecastNeed) -> None:
        self._needs = needs

    def forecast(self, agent: str) -> Any:
        return self._needs.need(agent)


def played(desk: Desk, player: Player, total: int) -> tuple[float, float]:
    """Return the mean quality of the runs under the budget, and the tokens that they used."""
    qualities, tokens = [], []
    for number in range(EARLIER + RUNS):
        needs = desk.needs[number]
        if number < EARLIER:
            player.learn(desk, number, needs)
            continue
        used = divided(desk, player, total, needs)
        player.learn(desk, number, used)
        qualities.append(desk.quality(used, number))
        tokens.append(sum(used.values()))
    return fmean(qualities), fmean(tokens)


def divided(desk: Desk, player: Player, total: int, needs: Mapping[str, int]) -> dict[str, int]:
    """Let agents come one by one, and return what each has used."""
    weights = dict(player.strategy.weights(desk.claims))
    if not player.flows_on:
        return {n: min(tokens, needs[n]) for n, tokens in allocate(total, weights).items()}
    likely = {name: need.upper_tokens for name in needs if (need := player.needs.need(name))}
    left, used = total, {}
    for name in needs:
        caps = {other: tokens for other, tokens in likely.items() if other != name}
        share = allocate(left, weights, caps=caps)[name]
        used[name] = max(min(share, needs[name]), 1)
        left -= used[name]
        del weights[name]
        likely.pop(name, None)
        left = max(left, 0)
    return used


WAYS: Final = ("in a run", "fixed shares")
FIXED: Final = ("equal", "priority", "proportional", "performance", "forecast")
AUTOS: Final = ("auto", "auto, no verdicts")
NAMES: Final = (*FIXED, "performance, wants unknown", "quality per token", *AUTOS)


def run(desks: int = 2_000, families: Mapping[str, Sequence[Shape]] = JUDGED) -> dict[str, Any]:
    """Play *desks* desks, the same number of each family, and return the figures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)
        rows = [
            _row(Desk.drawn(family, seed, shapes))
            for family, shapes in families.items()
            for seed in range(desks // len(families))
        ]
    return {
        "desks": len(rows),
        **{
            way: {
                family: _figures([r for r in rows if family in ("all", r["family"])], way)
                for family in ("all", *families)
            }
            for way in WAYS
        },
    }


def _row(desk: Desk) -> dict[str, Any]:
    """Play one desk with each strategy in each way."""
    row: dict[str, Any] = {"family": desk.family}
    for way in WAYS:
        for name in NAMES:
            player = Player(name, desk, flows_on=way == "in a run")
            row[way, name] = played(desk, player, desk.total)
            if player.auto is not None:
                row[way, name, "choice"] = player.auto.choice
    row["curve"] = sorted(
        row["in a run", "equal"]
        if part == 1
        else played(desk, Player("equal", desk), round(part * desk.total))
        for part in TOTALS
    )
    return row


def _figures(rows: Sequence[Mapping[Any, Any]], way: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in NAMES:
        quality = [row[way, name][0] / row[way, "equal"][0] - 1 for row in rows]
        found[name] = {
            "quality": round(fmean(row[way, name][0] for row in rows), 4),
            "against_equal": _interval(quality),
        }
        if way == "in a run":
            ratios = [_tokens_ratio(row, *row[way, name]) for row in rows]
            known = [ratio for ratio in ratios if ratio is not None]
            found[name]["tokens_for_equal_quality"] = _interval(known)
            found[name]["of_desks"] = len(known)
    for name in AUTOS:
        best = [max(row[way, other][0] for other in FIXED) for row in rows]
        behind = [1 - row[way, name][0] / top for row, top in zip(rows, best, strict=True)]
        overall = max(fmean(row[way, other][0] for row in rows) for other in FIXED)
        found[name] |= {
            "behind_the_best_of_each_desk": _interval(behind),
            "desks_within_3_percent": round(fmean(each <= 0.03 for each in behind), 3),
            "behind_the_best_for_all_desks": round(1 - found[name]["quality"] / overall, 4),
            "choices": dict(Counter(row[way, name, "choice"] for row in rows).most_common()),
        }
    return found


def _tokens_ratio(row: Mapping[Any, Any], quality: float, used: float) -> float | None:
    """Return what a strategy used, beside what equal division needs for the same quality.

    ``None`` where no total was played at which that has so much quality, or so little.
    """
    for (low, fewer), (high, more) in pairwise(row["curve"]):
        if low <= quality <= high and low < high:
            return used / (fewer + (quality - low) / (high - low) * (more - fewer))
    return None


def _interval(values: Sequence[float]) -> list[float]:
    """Return the mean, and where it lies with 95 % confidence."""
    if len(values) < 2:
        return [round(each, 4) for each in values]
    mean, half = fmean(values), 1.96 * stdev(values) / math.sqrt(len(values))
    return [round(mean, 4), round(mean - half, 4), round(mean + half, 4)]


def main() -> None:
    """Play, print, and leave the figures."""
    parser = argparse.ArgumentParser(description="Strategies on simulated desks.")
    parser.add_argument("--desks", type=int, default=2_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the desks, no result file")
    parser.add_argument("--fitted", action="store_true", help="on the families of the constants")
    args = parser.parse_args()
    desks = args.desks // 10 if args.quick else args.desks
    figures = run(desks, FITTED if args.fitted else JUDGED)
    for way in WAYS:
        for family, row in figures[way].items():
            print(f"{way}, {family}")
            for name, each in row.items():
                print(f"  {name:<18}", *(f"{key} {value}" for key, value in each.items()))
    if not (args.quick or args.fitted):
        write_result("learn_strategies", "python -m tests.benchmarks.learn_strategies", figures)


if __name__ == "__main__":
    main()
