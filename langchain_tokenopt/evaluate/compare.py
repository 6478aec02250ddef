"""Asking the baseline and the candidate the same, until it is clear whether answers got worse."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from langchain_core.messages import BaseMessageChunk
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ContextThreadPoolExecutor, run_in_executor

from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.evaluate.answer_store import AnswerStore
from langchain_tokenopt.evaluate.cases import Case, cases_of, input_text
from langchain_tokenopt.evaluate.comparison import (
    Comparison,
    JudgeTally,
    Verdict,
    cases_needed,
    saved_share,
    verdict_of_all,
)
from langchain_tokenopt.evaluate.judges import (
    Judge,
    JudgedTrial,
    Trial,
    judges_of,
    scores_of,
)
from langchain_tokenopt.evaluate.run_answer import NoAnswerError, RunAnswer, answer_of
from langchain_tokenopt.pricing.rate_card import RateCard
from langchain_tokenopt.tracking.callbacks import track_usage

__all__ = ["Progress", "UnpricedModelError", "acompare", "compare"]

Target = Runnable[Any, Any] | Callable[[Any], Any]
_BASELINE, _REPEAT, _CANDIDATE = "baseline", "baseline again", "candidate"
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
class _Settings:
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


def compare(
    cases: Iterable[Any] | str | Path,
    baseline: Target,
    candidate: Target,
    *,
    judges: Judge | Callable[..., Any] | Sequence[Judge | Callable[..., Any]] | None = None,
    margin: float = 0.02,
    confidence: float = 0.95,
    max_cases: int | None = None,
    max_usd: float | None = None,
    repeat_baseline: bool = True,
    store: str | Path | None = None,
    max_concurrency: int = 4,
    rate_card: RateCard | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
) -> Comparison:
    """Find out whether a candidate's answers are worse than the baseline's, and what it saves.

    Every case is answered by both sides. It stops as soon as the verdict is clear: the bounds hold
    however often they are looked at. The baseline answers twice, so that a difference between two
    plain answers is not held against the candidate. Cases are taken in random order.

    Args:
        cases: Inputs; :class:`Case` with right answers; examples of LangSmith; or a file with one
            JSON object a line.
        baseline: A model, chain, agent or graph, or a function of the input.
        candidate: The same with what is to be proved, for example ``optimize(model, ...)``.
        judges: See :func:`judges_of`; by default those that the cases allow.
        margin: How much lower the mean score may be and still count as not worse, as a share.
        confidence: Chance that no verdict is wrong.
        max_cases: Ask no more than this.
        max_usd: Start no case when less is left of it than the dearest case before has cost, judges
            included. The first case is asked alone. Every model must have a known price then.
        repeat_baseline: Let the baseline answer twice. Without it any difference counts.
        store: A file in which answers are kept, as they are: a later run with the same file asks
            and pays only what is missing. Another baseline or candidate, or a changed one, needs
            another file.
        max_concurrency: Cases under way at once.
        rate_card: Prices; by default the known ones.
        on_progress: Called after every case.
        seed: Of the order of the cases.

    Returns:
        The verdict, intervals and savings. Where it cannot be sure it says ``"unclear"``.

    Raises:
        ValueError: An argument cannot be used.
        CaseFileError: The file of cases cannot be read.

    Example:
        >>> long = lambda question: f"{question} The answer is 4, and that is all I know."
        >>> short = lambda question: "It is 4."
        >>> found = compare([f"{n} + {4 - n}?" for n in range(300)], long, short,
        ...                 judges=lambda case, answer: "4" in answer.text, margin=0.05)
        >>> found.verdict, found.cases < 150
        ('not worse', True)
    """
    settings = _Settings(
        margin=margin,
        confidence=confidence,
        max_usd=max_usd,
        repeat_baseline=repeat_baseline,
        max_concurrency=max_concurrency,
        rate_card=rate_card,
        on_progress=on_progress,
    )
    drawn = _drawn(cases_of(cases), max_cases, seed)
    state = _ComparisonState(drawn, judges_of(judges, drawn), settings)
    asking = _Asking(baseline, candidate, state, AnswerStore(store))
    with ContextThreadPoolExecutor(max_concurrency) as pool:
        under_way: deque[Future[JudgedTrial]] = deque()
        for case in state.cases_to_start(under_way):
            under_way.append(pool.submit(asking.ask, case))
            while len(under_way) >= state.at_once:
                state.take(under_way.popleft().result())
        while under_way:
            state.take(under_way.popleft().result())
    return state.result()


async def acompare(
    cases: Iterable[Any] | str | Path,
    baseline: Target,
    candidate: Target,
    *,
    judges: Judge | Callable[..., Any] | Sequence[Judge | Callable[..., Any]] | None = None,
    margin: float = 0.02,
    confidence: float = 0.95,
    max_cases: int | None = None,
    max_usd: float | None = None,
    repeat_baseline: bool = True,
    store: str | Path | None = None,
    max_concurrency: int = 4,
    rate_card: RateCard | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
) -> Comparison:
    """Like :func:`compare`, with ``ainvoke``; judges run in threads."""
    settings = _Settings(
        margin=margin,
        confidence=confidence,
        max_usd=max_usd,
        repeat_baseline=repeat_baseline,
        max_concurrency=max_concurrency,
        rate_card=rate_card,
        on_progress=on_progress,
    )
    drawn = _drawn(cases_of(cases), max_cases, seed)
    state = _ComparisonState(drawn, judges_of(judges, drawn), settings)
    asking = _Asking(baseline, candidate, state, AnswerStore(store))
    under_way: deque[asyncio.Task[JudgedTrial]] = deque()
    for case in state.cases_to_start(under_way):
        under_way.append(asyncio.create_task(asking.aask(case)))
        while len(under_way) >= state.at_once:
            state.take(await under_way.popleft())
    while under_way:
        state.take(await under_way.popleft())
    return state.result()


def _drawn(cases: Sequence[Case], max_cases: int | None, seed: int) -> list[Case]:
    if max_cases is not None:
        check_whole("max_cases", max_cases)
    return random.Random(seed).sample(cases, len(cases))[:max_cases]


class _ComparisonState:
    """Where a comparison stands: which cases come next, what is sure, when it ends.

    Args:
        cases: In the order in which they are asked.
        judges: Who judges.
        settings: Of the comparison.
    """

    def __init__(self, cases: Sequence[Case], judges: Sequence[Judge], settings: _Settings) -> None:
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


class UnpricedModelError(TokenOptError, ValueError):
    """A limit of money was given, and a model's price is not known."""


class _Asking:
    """Has both sides answer a case, and has the answers judged.

    Args:
        baseline: A runnable or a function.
        candidate: The other one.
        state: Whose judges and settings are used.
        kept: Answers of earlier runs.
    """

    def __init__(
        self, baseline: Target, candidate: Target, state: _ComparisonState, kept: AnswerStore
    ) -> None:
        for name, side in (("baseline", baseline), ("candidate", candidate)):
            if not isinstance(side, Runnable) and not callable(side):
                raise ValueError(f"{name} must be a runnable or a function; got {side!r}.")
        self._sides: list[tuple[str, Target]] = [(_BASELINE, baseline)]
        if state.settings.repeat_baseline:
            self._sides.append((_REPEAT, baseline))
        self._sides.append((_CANDIDATE, candidate))
        self._judges, self._rates = state.judges, state.settings.rate_card
        self._kept = kept

    def ask(self, case: Case) -> JudgedTrial:
        """Ask and judge one case."""
        return self._judge(
            case, {name: self._answer(name, side, case) for name, side in self._sides}
        )

    async def aask(self, case: Case) -> JudgedTrial:
        """Ask and judge one case."""
        answers = {name: await self._aanswer(name, side, case) for name, side in self._sides}
        return await run_in_executor(None, self._judge, case, answers)

    def _answer(self, name: str, side: Target, case: Case) -> _Given:
        if (kept := self._kept.get(name, case)) is not None:
            return _Given(kept, is_kept=True)
        with _Timed(self._rates) as timed:
            timed.output = _whole(
                side.invoke(case.input) if isinstance(side, Runnable) else side(case.input)
            )
        self._kept.keep(name, case, timed.answer)
        return _Given(timed.answer)

    async def _aanswer(self, name: str, side: Target, case: Case) -> _Given:
        if (kept := self._kept.get(name, case)) is not None:
            return _Given(kept, is_kept=True)
        with _Timed(self._rates) as timed:
            timed.output = await _awhole(await _ainvoke(side, case.input))
        self._kept.keep(name, case, timed.answer)
        return _Given(timed.answer)

    def _judge(self, case: Case, given: dict[str, _Given]) -> JudgedTrial:
        answers = {name: one.answer for name, one in given.items()}
        trial = Trial(case, answers[_BASELINE], answers[_CANDIDATE], answers.get(_REPEAT))
        with track_usage(rate_card=self._rates) as judging:
            scores, unjudged = scores_of(self._judges, trial)
        paid = [one.answer for one in given.values() if not one.is_kept]
        spent = judging.totals()
        return JudgedTrial(
            trial,
            scores,
            unjudged,
            spent.cost_nano_usd + sum(answer.cost_nano_usd for answer in paid),
            spent.unpriced_calls + sum(answer.unpriced_calls for answer in paid),
            len(given) - len(paid),
        )


@dataclass(frozen=True, slots=True)
class _Given:
    """An answer, and whether it was there before."""

    answer: RunAnswer
    is_kept: bool = False


async def _ainvoke(side: Target, input_: Any) -> Any:
    if isinstance(side, Runnable):
        return await side.ainvoke(input_)
    if inspect.iscoroutinefunction(side):
        return await side(input_)
    return await run_in_executor(None, side, input_)


def _whole(output: Any) -> Any:
    """Return what a run has returned: awaited, or put together of its pieces."""
    if inspect.isawaitable(output) or inspect.isasyncgen(output):
        return asyncio.run(_awhole(output))
    return _joined(list(output)) if inspect.isgenerator(output) else output


async def _awhole(output: Any) -> Any:
    if inspect.isawaitable(output):
        return await output
    if inspect.isasyncgen(output):
        return _joined([piece async for piece in output])
    return _joined(list(output)) if inspect.isgenerator(output) else output


def _joined(pieces: list[Any]) -> Any:
    if pieces and all(isinstance(piece, str | BaseMessageChunk) for piece in pieces):
        return functools.reduce(operator.add, pieces)
    return pieces


class _Timed:
    """One run: what it returned, used and took. An exception of the run is its answer."""

    def __init__(self, rates: RateCard | None) -> None:
        self._tracking = track_usage(rate_card=rates)
        self.output: Any = None
        self.answer = RunAnswer()

    def __enter__(self) -> Self:
        self._usage = self._tracking.__enter__()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: Any
    ) -> bool:
        seconds = time.perf_counter() - self._began
        self._tracking.__exit__(None, None, None)
        if error is not None and not isinstance(error, Exception):
            return False  # an interrupt ends the comparison
        totals = self._usage.totals()
        if error is None:
            try:
                self.answer = answer_of(self.output, totals, seconds)
            except (NoAnswerError, RecursionError) as unread:
                error = unread
        if error is not None:
            self.answer = answer_of("", totals, seconds)
            self.answer = replace(self.answer, error=f"{type(error).__name__}: {error}")
        return True
