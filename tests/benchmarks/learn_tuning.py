"""Tuning on simulated traffic: regret, bounds, thin evidence, and whether quality keeps its target.

A world is a row of settings, the dearest first, each with a mean cost and a mean quality, and one
shift of both in the middle. A call's cost is the mean times noise, its verdict a draw (good or bad,
or graded), and only a share of the calls is judged. The best setting is known: the cheapest whose
mean quality meets the target of 0.9; where none does, the one with the best quality.

Regret of a call is how much more it costs than the best setting, as a share of what the user's own
setting costs, plus twice the quality that the setting used lacks to the target. Rules and constants
of the bandit were chosen on the families of ``CHOSEN_ON``; those of ``JUDGED_ON`` were made after.

Beside it, on the same worlds: every fixed setting, an epsilon-greedy chooser over all settings with
the same fading (cheapest whose faded mean meets the target; 10 % of the calls anywhere), and the
oracle, whose regret is 0. "Below target": the mean quality of what a chooser used, in one half of
the calls, is below the target, or below the user's own setting's where that misses it, too.

Run: ``python -m tests.benchmarks.learn_tuning [--quick]`` (3 minutes of one CPU)
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_tokenopt import AutoTune, WordLimit, optimize
from langchain_tokenopt.learn.setting_bandit import Arm, Bandit
from tests.benchmarks.results import RESULTS, write_result

TARGET = 0.9
LACKING = 2.0
"""What a lack of quality weighs against cost."""
CALLS = 3_000
CHOSEN_ON = ("slope", "cliff", "plateau", "retries", "both ways", "sparse")
JUDGED_ON = ("graded", "rare", "even", "drift", "hump", "hits", "wandering")


@dataclass(frozen=True)
class World:
    """Settings and what they do, before and after the shift."""

    costs: tuple[list[float], list[float]]
    qualities: tuple[list[float], list[float]]
    default: int = 0
    noise: float = 0.5
    """Of costs: the standard deviation of their logarithm."""
    graded: bool = False
    judged: float = 1.0
    hits: float = 0.0
    """Share of the calls that cost nothing, at the cheapest setting; less at dearer ones."""
    wanders: bool = False
    """Whether what all calls cost goes up and down."""
    drifts: bool = False
    """Whether the shift is a slow one, over a third of the calls."""

    def at(self, call: int) -> tuple[list[float], list[float]]:
        """Return costs and qualities at a call."""
        share = (call - CALLS / 2) / (CALLS / 3) + 0.5 if self.drifts else float(call >= CALLS / 2)
        share = min(1.0, max(0.0, share))
        costs, qualities = (
            [(1 - share) * a + share * b for a, b in zip(*pair, strict=True)]
            for pair in (self.costs, self.qualities)
        )
        return costs, qualities

    def best(self, call: int) -> int:
        """Return the cheapest setting that meets the target; the best one where none does."""
        costs, qualities = self.at(call)
        good = [at for at, quality in enumerate(qualities) if quality >= TARGET]
        if not good:
            return max(range(len(qualities)), key=qualities.__getitem__)
        return min(good, key=costs.__getitem__)

    def regret(self, call: int, used: int) -> float:
        """Return how much worse a setting is than the best one."""
        costs, qualities = self.at(call)
        best = self.best(call)
        lacks, least = (max(0.0, TARGET - qualities[at]) for at in (used, best))
        return (costs[used] - costs[best]) / costs[self.default] + LACKING * (lacks - least)


def _row(chance: random.Random, best: int, count: int, slope: float) -> list[float]:
    """Return qualities that fall below the target just after *best*."""
    top = chance.uniform(0.95, 0.99)
    good = chance.uniform(0.935, 0.96)
    row = [top - (top - good) * (at / best if best else 1.0) for at in range(best + 1)]
    while len(row) < count:
        row.append(max(0.05, min(row[-1], 0.86) - slope * chance.uniform(0.5, 1.5)))
    return row


def world(family: str, chance: random.Random) -> World:
    """Draw a world of a family."""
    count = chance.randint(4, 7)
    step = chance.uniform(0.75, 0.9)
    falling = [100 * step**at for at in range(count)]
    scale = chance.choice([0.5, 1.0, 2.0])
    costs = falling, [scale * cost for cost in falling]
    slope = {"slope": 0.05, "cliff": 0.4}.get(family, 0.15)
    rows = [_row(chance, best, count, slope) for best in chance.sample(range(count), 2)]
    if family == "plateau":
        rows = [[chance.uniform(0.94, 0.99)] * count for _ in rows]
    elif family == "retries":
        costs = _with_retries(falling, chance), _with_retries(falling, chance)
        rows = [[chance.uniform(0.95, 0.99)] * count for _ in rows]
    elif family == "even":
        costs = falling, [100.0] * count
    elif family == "hump":  # the dearest is too long to be read
        rows = [[row[0] - 0.025, *row[1:]] for row in rows]
    return World(
        costs,
        (rows[0], rows[1]),
        default=chance.randrange(1, count - 1) if family == "both ways" else 0,
        noise=chance.uniform(0.2, 0.8),
        graded=family in ("graded", "rare"),
        judged={"sparse": 0.2, "rare": 0.1}.get(family, 1.0),
        hits=0.6 if family == "hits" else 0.0,
        wanders=family == "wandering",
        drifts=family == "drift",
    )


def _with_retries(falling: list[float], chance: random.Random) -> list[float]:
    """Return costs that rise again behind a setting: what is too tight is asked again."""
    turn = chance.randrange(1, len(falling))
    return [
        cost if at <= turn else falling[turn] * (1 + 0.15 * (at - turn))
        for at, cost in enumerate(falling)
    ]


# Who chooses


class Tuned:
    """The bandit of ``AutoTune``."""

    def __init__(self, world: World, chance: random.Random) -> None:
        arms = [Arm() for _ in world.costs[0]]
        self._bandit = Bandit(arms, world.default, TARGET)
        self._chance = chance

    def choose(self) -> int:
        """Choose a setting."""
        return self._bandit.choose(self._chance.random())

    def learn(self, used: int, cost: float, quality: float | None) -> None:
        """Learn from a call."""
        self._bandit.bill(used, cost)
        if quality is not None:
            self._bandit.judge(used, quality)


class EpsilonGreedy:
    """Tries anything in 10 % of the calls, else uses the cheapest with a good enough mean."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._default, self._chance = world.default, chance
        self._sums = [[0.0] * 4 for _ in world.costs[0]]

    def choose(self) -> int:
        """Choose a setting."""
        if self._chance.random() < 0.1:
            return self._chance.randrange(len(self._sums))
        good = [
            at
            for at, (judged, quality, _, _) in enumerate(self._sums)
            if judged and quality / judged >= TARGET
        ]
        cost = {at: self._sums[at][3] / self._sums[at][2] for at in good if self._sums[at][2]}
        return min(cost, key=cost.__getitem__) if cost else self._default

    def learn(self, used: int, cost: float, quality: float | None) -> None:
        """Learn from a call."""
        sums = self._sums[used]
        if quality is not None:
            sums[0], sums[1] = 0.99 * sums[0] + 1, 0.99 * sums[1] + quality
        sums[2], sums[3] = 0.99 * sums[2] + 1, 0.99 * sums[3] + cost


class Fixed:
    """Always the same setting, by its share of the way from the dearest to the cheapest.

    ``None``: whichever has least regret in hindsight.
    """

    def __init__(self, world: World, share: float | None) -> None:
        count = len(world.costs[0])
        self._at = (
            min(range(count), key=lambda at: sum(world.regret(c, at) for c in range(0, CALLS, 10)))
            if share is None
            else round(share * (count - 1))
        )

    def choose(self) -> int:
        """Return it."""
        return self._at

    def learn(self, used: int, cost: float, quality: float | None) -> None:
        """Learn nothing."""


class Course(NamedTuple):
    """What became of one world's calls."""

    regret: float
    qualities: list[float]
    """Mean of what the used settings' qualities are, in each half."""
    outside: int
    """Calls with a setting that is none of the row."""
    moved: int
    """Calls with another setting than the user's own."""


def play(world: World, chooser: Any, chance: random.Random, verdicts: int = CALLS) -> Course:
    """Make the calls of a world, of which only so many are judged."""
    regret, outside, moved = 0.0, 0, 0
    halves: tuple[list[float], list[float]] = ([], [])
    for call in range(CALLS):
        used = chooser.choose()
        outside += not 0 <= used < len(world.costs[0])
        moved += used != world.default
        costs, qualities = world.at(call)
        regret += world.regret(call, used)
        halves[call >= CALLS / 2].append(qualities[used])
        quality = _verdict(world, qualities[used], chance) if verdicts else None
        verdicts -= quality is not None
        chooser.learn(used, _cost(world, call, costs, used, chance), quality)
    return Course(regret / CALLS, [statistics.fmean(half) for half in halves], outside, moved)


def _cost(world: World, call: int, costs: list[float], used: int, chance: random.Random) -> float:
    cost = costs[used] * chance.lognormvariate(-(world.noise**2) / 2, world.noise)
    if world.wanders:
        cost *= 2 ** math.sin(call / 150)
    if world.hits:  # what is not answered from a cache pays for all
        pays = 1 - world.hits * used / (len(costs) - 1)
        cost *= (chance.random() < pays) / pays
    return cost


def _verdict(world: World, quality: float, chance: random.Random) -> float | None:
    if chance.random() >= world.judged:
        return None
    if world.graded:
        return chance.betavariate(12 * quality, 12 * (1 - quality))
    return float(chance.random() < quality)


CHOOSERS: dict[str, Callable[[World, random.Random], Any]] = {
    "AutoTune": Tuned,
    "epsilon-greedy": EpsilonGreedy,
    "fixed: dearest": lambda world, _: Fixed(world, 0.0),
    "fixed: a third": lambda world, _: Fixed(world, 1 / 3),
    "fixed: middle": lambda world, _: Fixed(world, 0.5),
    "fixed: two thirds": lambda world, _: Fixed(world, 2 / 3),
    "fixed: cheapest": lambda world, _: Fixed(world, 1.0),
    "fixed: best in hindsight": lambda world, _: Fixed(world, None),
}


def measure(family: str, worlds: int, chooser: str) -> dict[str, float]:
    """Return what a chooser does in worlds of a family."""
    courses, below = [], 0
    for number in range(worlds):
        made = world(family, random.Random(f"{family} {number}"))
        chance = random.Random(f"{family} {number} calls")
        course = play(made, CHOOSERS[chooser](made, chance), chance)
        courses.append(course)
        own = [play(made, Fixed(made, 0.0), chance).qualities] if made.drifts else None
        asked = own[0] if own else [row[made.default] for row in made.qualities]
        below += any(q < min(TARGET, a) for q, a in zip(course.qualities, asked, strict=True))
    return {
        "regret": round(statistics.fmean(course.regret for course in courses), 4),
        "worlds_below_target": round(below / worlds, 3),
        "quality_in_worse_half": round(statistics.fmean(min(c.qualities) for c in courses), 4),
        "calls_outside_of_bounds": sum(course.outside for course in courses),
    }


def thin(worlds: int) -> dict[str, Any]:
    """Return in how many worlds with fewer than 30 verdicts anything moved."""
    moved = 0
    for number in range(worlds):
        chance = random.Random(f"thin {number}")
        made = world(chance.choice([*CHOSEN_ON, *JUDGED_ON]), chance)
        moved += play(made, Tuned(made, chance), chance, verdicts=number % 30).moved > 0
    return {"worlds": worlds, "calls": worlds * CALLS, "worlds_in_which_it_moved": moved}


def hosted(calls: int) -> dict[str, Any]:
    """Return how many calls of a staged model went out with a limit outside of the bounds."""
    asked: list[int] = []

    def answer(messages: Any) -> AIMessage:
        asked.append(int(re.findall(r"\d+", messages[-1].text)[-1]))
        return AIMessage("word " * asked[-1])

    tuner = AutoTune(WordLimit(120), bounds={"max_words": (50, 200)}, seed=1)
    model = optimize(_Answering(answer=answer), tuner)
    for call in range(calls):
        least = 100 if call < calls / 2 else 60
        tuner.record(float(asked[-1] >= least) if asked else 1.0, model.invoke("Why?"))
    return {
        "calls": calls,
        "outside_of_bounds": sum(not 50 <= words <= 200 for words in asked),
        "settings_used": sorted(set(asked)),
    }


class _Answering(BaseChatModel):
    answer: Callable[[Any], AIMessage]

    @property
    def _llm_type(self) -> str:
        return "answering"

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.answer(messages))])


def run(quick: bool = False) -> dict[str, Any]:
    """Measure everything."""
    worlds = 8 if quick else 20
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for family in (*CHOSEN_ON, *JUDGED_ON):
        rows[family] = {chooser: measure(family, worlds, chooser) for chooser in CHOOSERS}
        print(
            family,
            *(f"{name} {row['regret']}" for name, row in rows[family].items()),
            sep="; ",
            flush=True,
        )
    return {
        "worlds_of_each_family": worlds,
        "calls_of_each_world": CALLS,
        "mean": {
            part: {
                chooser: _mean([rows[family][chooser] for family in families])
                for chooser in CHOOSERS
            }
            for part, families in (("chosen_on", CHOSEN_ON), ("judged_on", JUDGED_ON))
        },
        "families": rows,
        "thin": thin(30 if quick else 60),
        "hosted": hosted(200 if quick else 600),
    }


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(row[name] for row in rows), 4) for name in rows[0]}


def _table(figures: dict[str, Any]) -> str:
    """Return the means as Markdown."""
    lines = [
        "| chooser | regret a call, families it was built on | regret, other families | "
        "worlds below the target, other families | calls outside of the bounds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    mean = figures["mean"]
    for chooser in CHOOSERS:
        built, others = mean["chosen_on"][chooser], mean["judged_on"][chooser]
        lines.append(
            f"| {chooser} | {built['regret']:.1%} | {others['regret']:.1%} | "
            f"{others['worlds_below_target']:.1%} | {others['calls_outside_of_bounds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and, unless it is quick, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer worlds; nothing is kept")
    quick = parser.parse_args().quick
    figures = run(quick)
    print(json.dumps({key: figures[key] for key in ("mean", "thin", "hosted")}, indent=1))
    if not quick:
        write_result("learn_tuning", "python -m tests.benchmarks.learn_tuning", figures)
        (RESULTS / "learn_tuning.md").write_text(_table(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
