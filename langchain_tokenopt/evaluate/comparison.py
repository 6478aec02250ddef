"""What a comparison has found: a verdict per judge, and savings beside it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from langchain_tokenopt.evaluate.comparison_page import page_of
from langchain_tokenopt.evaluate.judges import JudgedTrial, Scores
from langchain_tokenopt.evaluate.mean_bounds import MeanBounds
from langchain_tokenopt.evaluate.run_answer import RunAnswer

__all__ = [
    "Comparison",
    "Interval",
    "JudgeResult",
    "Verdict",
    "cases_needed",
    "saved_share",
    "verdict_of_all",
]

Verdict = Literal["not worse", "worse", "unclear"]
"""What a comparison may find: see :attr:`Comparison.verdict`."""

_EXIT_CODES: Final[dict[Verdict, int]] = {"not worse": 0, "worse": 3, "unclear": 4}
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and where it lies with the confidence that was asked for."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """What one judge says of all cases.

    The interval of the difference holds however often one has looked (``mean_bounds.py``). A case
    about which the judge can say nothing counts against both verdicts.
    """

    name: str
    verdict: Verdict
    difference: Interval
    """The candidate's mean score less the baseline's, from -1 to 1."""
    baseline: float | None
    """The baseline's mean score. Of a judge of agreement: its agreement with itself."""
    candidate: float | None
    judged: int
    saw: int
    """Cases of those in which it could see anything; the others count as no difference."""
    unjudged: dict[str, int]
    """Cases about which nothing can be said, by reason."""
    sees: str
    misses: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether a candidate's answers are as good as the baseline's, and what it saves.

    ``str(comparison)`` is a table.
    """

    verdict: Verdict
    """``"worse"`` if any judge is sure of it, ``"not worse"`` if all are that have seen anything in
    any case, else ``"unclear"``."""
    reason: str
    """Why it ended here, in a sentence."""
    judges: tuple[JudgeResult, ...]
    savings: dict[str, Interval]
    """Shares saved of tokens, input and output tokens, cost, seconds and calls, from 0 to 1 and
    below 0 where the candidate takes more; with bootstrap intervals for the cases asked."""
    cases: int
    """Cases that both sides have answered."""
    cases_given: int
    margin: float
    confidence: float
    spent_nano_usd: int
    """What runs and judges cost now, in billionths of a US dollar; kept answers cost nothing."""
    unpriced_calls: int
    notes: tuple[str, ...]
    """What the figures do not show here."""
    trials: tuple[JudgedTrial, ...]

    @property
    def exit_code(self) -> int:
        """For scripts: 0 for not worse, 3 for worse, 4 for unclear."""
        return _EXIT_CODES[self.verdict]

    @property
    def worst_trials(self) -> list[JudgedTrial]:
        """The cases that some judge finds worse, worst first."""
        worse = [judged for judged in self.trials if judged.worst < 0]
        return sorted(worse, key=lambda judged: judged.worst)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the cases' texts, as JSON types."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "cases": self.cases,
            "cases_given": self.cases_given,
            "margin": self.margin,
            "confidence": self.confidence,
            "judges": [
                {
                    "name": judge.name,
                    "verdict": judge.verdict,
                    "difference": _interval_dict(judge.difference),
                    "baseline": judge.baseline,
                    "candidate": judge.candidate,
                    "judged": judge.judged,
                    "saw": judge.saw,
                    "unjudged": judge.unjudged,
                    "sees": judge.sees,
                    "misses": judge.misses,
                }
                for judge in self.judges
            ],
            "savings": {name: _interval_dict(saved) for name, saved in self.savings.items()},
            "spent_nano_usd": self.spent_nano_usd,
            "unpriced_calls": self.unpriced_calls,
            "notes": list(self.notes),
        }

    def to_html(self, path: str | Path) -> None:
        """Write one HTML file: the verdict, the intervals as a picture, the worst cases.

        The file holds requests and answers as they are.

        Raises:
            OSError: It cannot be written.
        """
        page = page_of(self.to_dict(), self.worst_trials)
        Path(path).write_text(page, encoding="utf-8", errors="replace")

    def __str__(self) -> str:
        percent = f"{self.confidence:.0%}"
        lines = [f"Verdict: {self.verdict}. {self.reason}", ""]
        for judge in self.judges:
            found = judge.difference
            if not judge.saw and not judge.unjudged:
                lines.append(f"  {judge.name}: nothing to see in {judge.judged:,} cases")
                continue
            lines.append(
                f"  {judge.name}: {judge.verdict}; {100 * found.value:+.1f} points "
                f"({100 * found.low:+.1f} to {100 * found.high:+.1f}, {percent}), "
                f"{_points(judge.baseline)} -> {_points(judge.candidate)}, n = {judge.judged:,}"
                + (f", something to see in {judge.saw:,}" if judge.saw < judge.judged else "")
            )
            lines += [f"    {n:,} not judged: {why}" for why, n in judge.unjudged.items()]
        lines.append("")
        for name, saved in self.savings.items():
            lines.append(
                f"  {name} saved: {saved.value:.1%} "
                f"({saved.low:.1%} to {saved.high:.1%}, {percent})"
            )
        lines += [f"  Note: {note}" for note in self.notes]
        return "\n".join(lines)


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _interval_dict(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def verdict_of_all(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of several judges.

    Example:
        >>> verdict_of_all(["not worse", "unclear"])
        'unclear'
        >>> verdict_of_all(["worse", "unclear"])
        'worse'
    """
    said = set(verdicts)
    if "worse" in said:
        return "worse"
    return "not worse" if said == {"not worse"} else "unclear"


class JudgeTally:
    """What one judge has said so far.

    Args:
        name: The judge's.
        sees: What it notices.
        misses: What it does not.
        margin: How much worse is not worse yet, as a share.
        error: Chance that the interval is ever wrong.
        judges: How many there are: each may say "worse", so each does with a part of the error.
    """

    def __init__(
        self, name: str, sees: str, misses: str, *, margin: float, error: float, judges: int
    ) -> None:
        self.name, self._sees, self._misses, self._margin = name, sees, misses, margin
        self._bounds = MeanBounds(-1, 1, error_below=error / 2, error_above=error / (2 * judges))
        self._scores: list[Scores] = []
        self._unjudged: Counter[str] = Counter()
        self._saw_something = False
        self._could_fall = False
        """Whether the baseline has ever scored: below nothing nobody can fall."""

    def add(self, judged: JudgedTrial) -> None:
        """Take in a case."""
        scores = judged.scores.get(self.name)
        if scores is None:
            self._unjudged[judged.unjudged[self.name]] += 1
            self._saw_something = True
            self._bounds.add(-1.0, 1.0)
        else:
            self._saw_something |= not scores.is_blank
            self._could_fall |= scores.baseline > 0
            self._scores.append(scores)
            self._bounds.add(scores.difference)

    @property
    def saw_something(self) -> bool:
        """Whether the judge has seen anything in any case, or has failed in one."""
        return self._saw_something

    @property
    def could_fall(self) -> bool:
        """Whether the baseline has scored in any case."""
        return self._could_fall

    @property
    def verdict(self) -> Verdict:
        """What is sure by now."""
        if self._could_fall and self._bounds.is_above(-self._margin):
            return "not worse"
        return "worse" if self._bounds.is_below(-self._margin) else "unclear"

    def result(self, verdict: Verdict) -> JudgeResult:
        """Return what is known, with the verdict at which the comparison has stopped."""
        difference = _mean([scores.difference for scores in self._scores]) or 0.0
        return JudgeResult(
            self.name,
            verdict,
            Interval(difference, self._bounds.lower, self._bounds.upper),
            _mean([scores.baseline for scores in self._scores]),
            _mean([scores.candidate for scores in self._scores]),
            judged=len(self._scores),
            saw=sum(not scores.is_blank for scores in self._scores),
            unjudged=dict(self._unjudged.most_common()),
            sees=self._sees,
            misses=self._misses,
        )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def cases_needed(margin: float, error: float) -> int:
    """Return how many cases without any difference show that a candidate is not worse.

    Example:
        >>> cases_needed(0.05, 0.05)
        98
    """

    def suffice(cases: int) -> bool:
        bounds = MeanBounds(-1, 1, error_below=error / 2, error_above=error / 2)
        bounds.add(0.0, times=cases)
        return bounds.is_above(-margin)

    most = 1
    while not suffice(most):
        most *= 2
    return bisect_left(range(most), True, key=suffice) if most > 1 else 1


def saved_share(
    trials: Sequence[JudgedTrial], amount: Callable[[RunAnswer], float], confidence: float
) -> Interval | None:
    """Return which share of the baseline's sum the candidate saves, over all cases.

    The interval is that of 2,000 bootstrap samples of the cases (Efron 1979), with a fixed seed.

    Returns:
        ``None`` where the baseline's sum is 0.
    """
    import numpy as np

    both = [t.trial for t in trials if not t.trial.baseline.error and not t.trial.candidate.error]
    plain = np.array([amount(trial.baseline) for trial in both], dtype=float)
    other = np.array([amount(trial.candidate) for trial in both], dtype=float)
    if not plain.sum():
        return None
    drawn = np.random.default_rng(0).integers(len(both), size=(_RESAMPLES, len(both)))
    sums = plain[drawn].sum(axis=1)
    shares = 1 - other[drawn].sum(axis=1)[sums > 0] / sums[sums > 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return Interval(1 - float(other.sum() / plain.sum()), float(low), float(high))
