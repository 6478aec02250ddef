"""Where a comparison stands: which cases come next, what is sure, when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Final

from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.evaluate.cases import Case, input_text
from langchain_tokenopt.evaluate.comparison import (
    Comparison,
    JudgeTally,
    Verdict,
    cases_needed,
    saved_share,
    verdict_of_all,
)
from langchain_tokenopt.evaluate.judges import Judge, JudgedTrial, Trial
from langchain_tokenopt.evaluate.run_answer import RunAnswer
from langchain_tokenopt.pricing.rate_card import RateCard

__all__ = ["ComparisonState", "Progress", "Settings", "UnpricedModelError"]

_AMOUNTS: Final[dict[str, Callable[[RunAnswer], float]]] = {
    "tokens": lambda answer: answer.total_tokens,
    "input tokens": lambda answer: answer.input_tokens,
    "output tokens": lambda answer: answer.output_tokens,
    "cost": lambda answer: answer.cost_nano_usd,
    "seconds": lambda answer: answer.seconds,
    "calls": lambda answer: answer.calls,
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a comparison is."""

    cases: int
    cases_given: int
    verdict: Verdict
    """What is sure by now."""
    spent_nano_usd: int
    expected_nano_usd: int
    """What all cases will have cost, if the others are like those before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a comparison is made; see :func:`langchain_tokenopt.compare`.

    Raises:
        ValueError: One of them cannot be.
    """

    margin: float
    confidence: float
    max_usd: float | None
    repeat_baseline: bool
    max_concurrency: int
    rate_card: RateCard | None
    on_progress: Callable[[Progress], None] | None

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ValueError(f"margin must be a share between 0 and 1; got {self.margin!r}.")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must be from 0.5 to 1; got {self.confidence!r}.")
        if self.max_usd is not None and not self.max_usd > 0:
            raise ValueError(f"max_usd must be above 0; got {self.max_usd!r}.")
        check_whole("max_concurrency", self.max_concurrency)


class UnpricedModelError(TokenOptError, ValueError):
    """A limit of money was given, and a model's price is not known."""


class ComparisonState:
    """Where a comparison stands: which cases come next, what is sure, when it ends.

    Args:
        cases: In the order in which they are asked.
        judges: Who judges.
        settings: Of the comparison.
    """

    def __init__(self, cases: Sequence[Case], judges: Sequence[Judge], settings: Settings) -> None:
        self.cases, self.judges, self.settings = cases, judges, settings
        self._error = 1 - settings.confidence
        self._tallies = [
            JudgeTally(
                judge.name,
                judge.sees,
                judge.misses,
                margin=settings.margin,
                error=self._error,
                judges=len(judges),
            )
            for judge in judges
        ]
        self._verdicts: dict[str, Verdict] = {tally.name: "unclear" for tally in self._tallies}
        self._inputs: Counter[str] = Counter()
        self._trials: list[JudgedTrial] = []
        self._dearest = 0
        self.spent_nano_usd = 0
        self._unpriced_calls = 0
        self._stopped = ""

    @property
    def verdict(self) -> Verdict:
        """What is sure by now, of the judges that have seen anything."""
        return verdict_of_all(
            self._verdicts[tally.name] for tally in self._tallies if tally.saw_something
        )

    @property
    def at_once(self) -> int:
        """How many cases may be under way; the first is asked alone where money is limited."""
        is_first = self.settings.max_usd is not None and not self._trials
        return 1 if is_first else self.settings.max_concurrency

    def cases_to_start(self, under_way: Sized) -> Iterator[Case]:
        """Yield the next case as long as one may be started.

        Args:
            under_way: The cases that were started and have not been taken.
        """
        for case in self.cases:
            if self.verdict != "unclear":
                self._stopped = "It was clear then."
            elif self._may_cost_too_much(len(under_way)):
                self._stopped = (
                    f"max_usd={self.settings.max_usd:g} leaves nothing for another case."
                )
            if self._stopped:
                return
            yield case

    def _may_cost_too_much(self, under_way: int) -> bool:
        limit = self.settings.max_usd
        if limit is None:
            return False
        if self._unpriced_calls:
            raise UnpricedModelError(
                f"{self._unpriced_calls:,} calls have no known price, so max_usd={limit:g} cannot "
                f"be kept. Give their prices (rate_card=, or TOKENOPT_PRICES), or max_cases."
            )
        return self.spent_nano_usd + (under_way + 1) * self._dearest > limit * 1e9

    def take(self, judged: JudgedTrial) -> None:
        """Take in a case; cases come in the order in which they were started."""
        self._trials.append(judged)
        self._inputs[input_text(judged.trial.case.input)] += 1
        self.spent_nano_usd += judged.spent_nano_usd
        self._dearest = max(self._dearest, judged.spent_nano_usd)
        self._unpriced_calls += judged.unpriced_calls
        for tally in self._tallies:
            tally.add(judged)
            if self._verdicts[tally.name] == "unclear":
                self._verdicts[tally.name] = tally.verdict
        if (hear := self.settings.on_progress) is not None:
            hear(self._progress())

    def _progress(self) -> Progress:
        done = len(self._trials)
        expected = self.spent_nano_usd * len(self.cases) // done
        return Progress(done, len(self.cases), self.verdict, self.spent_nano_usd, expected)

    def result(self) -> Comparison:
        """Return what was found."""
        done, confidence = len(self._trials), self.settings.confidence
        saved = {
            name: saved_share(self._trials, amount, confidence) for name, amount in _AMOUNTS.items()
        }
        return Comparison(
            self.verdict,
            f"{self._stopped or 'All cases were asked.'} {self._why()}".strip(),
            tuple(tally.result(self._verdicts[tally.name]) for tally in self._tallies),
            {name: interval for name, interval in saved.items() if interval is not None},
            cases=done,
            cases_given=len(self.cases),
            margin=self.settings.margin,
            confidence=confidence,
            spent_nano_usd=self.spent_nano_usd,
            unpriced_calls=self._unpriced_calls,
            notes=tuple(self._notes()),
            trials=tuple(self._trials),
        )

    def _why(self) -> str:
        """Say what is missing, where the verdict is unclear."""
        if self.verdict != "unclear":
            return ""
        done = len(self._trials)
        needed = cases_needed(self.settings.margin, self._error)
        unjudged = sum(bool(judged.unjudged) for judged in self._trials)
        never = [
            tally.name for tally in self._tallies if tally.saw_something and not tally.could_fall
        ]
        if done and never and not unjudged:
            return (
                f"By {never[0]!r} the baseline is never right, so nothing could get worse: look at "
                f"the references, or take another judge."
            )
        if unjudged:
            return (
                f"About {unjudged:,} of {done:,} cases some judge can say nothing, which counts "
                f"against both verdicts."
            )
        if done < needed:
            return (
                f"{done:,} cases cannot show it: even without any difference {needed:,} are needed "
                f"for margin={self.settings.margin:g}. Give more cases, or a wider margin."
            )
        return "The differences are too near to the margin for so few cases: give more."

    def _notes(self) -> Iterator[str]:
        trials = [judged.trial for judged in self._trials]
        answers = [answer for trial in trials for answer in _answers_of(trial)]
        failed = [trial for trial in trials if trial.candidate.error]
        if failed:
            yield (
                f"{len(failed):,} runs of the candidate failed, and count as wrong answers; "
                f"the first: {failed[0].candidate.error}"
            )
        if repeated := sum(self._inputs.values()) - len(self._inputs):
            yield f"{repeated:,} cases repeat another one's input, and count as if they did not."
        if kept := sum(judged.kept_answers for judged in self._trials):
            yield (
                f"{kept:,} answers came from the store. If either side has changed since, give "
                f"store= another file."
            )
        repeats = [trial.repeat for trial in trials]
        if not self.settings.repeat_baseline or any(r is not None and r.error for r in repeats):
            yield "The baseline did not answer twice everywhere; there, every difference counts."
        if any(repeat is not None and repeat.cached_calls for repeat in repeats):
            yield (
                "Some of the baseline's second answers came from a response cache: how far two "
                "plain answers differ cannot be seen. Compare without set_llm_cache(...)."
            )
        if self._unpriced_calls:
            yield f"{self._unpriced_calls:,} calls have no known price: costs are too low."
        if not any(answer.calls for answer in answers):
            yield "No model call was seen, so nothing can be said about tokens."


def _answers_of(trial: Trial) -> list[RunAnswer]:
    return [a for a in (trial.baseline, trial.repeat, trial.candidate) if a is not None]
