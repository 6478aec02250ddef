"""Asking the baseline and the candidate the same, until it is clear whether answers got worse."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from langchain_core.messages import BaseMessageChunk
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ContextThreadPoolExecutor, run_in_executor

from langchain_tokenopt.core.argument_checks import check_whole, takes_names
from langchain_tokenopt.evaluate.answer_store import AnswerStore
from langchain_tokenopt.evaluate.cases import Case, cases_of
from langchain_tokenopt.evaluate.comparison import (
    Comparison,
)
from langchain_tokenopt.evaluate.comparison_state import ComparisonState, Progress, Settings
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

__all__ = ["acompare", "compare"]

Target = Runnable[Any, Any] | Callable[[Any], Any]
_BASELINE, _REPEAT, _CANDIDATE = "baseline", "baseline again", "candidate"


@takes_names
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
    settings = Settings(
        margin=margin,
        confidence=confidence,
        max_usd=max_usd,
        repeat_baseline=repeat_baseline,
        max_concurrency=max_concurrency,
        rate_card=rate_card,
        on_progress=on_progress,
    )
    state = _state(cases, judges, settings, max_cases, seed)
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


@takes_names
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
    settings = Settings(
        margin=margin,
        confidence=confidence,
        max_usd=max_usd,
        repeat_baseline=repeat_baseline,
        max_concurrency=max_concurrency,
        rate_card=rate_card,
        on_progress=on_progress,
    )
    state = _state(cases, judges, settings, max_cases, seed)
    asking = _Asking(baseline, candidate, state, AnswerStore(store))
    under_way: deque[asyncio.Task[JudgedTrial]] = deque()
    for case in state.cases_to_start(under_way):
        under_way.append(asyncio.create_task(asking.aask(case)))
        while len(under_way) >= state.at_once:
            state.take(await under_way.popleft())
    while under_way:
        state.take(await under_way.popleft())
    return state.result()


def _state(
    cases: Iterable[Any] | str | Path,
    judges: Judge | Callable[..., Any] | Sequence[Judge | Callable[..., Any]] | None,
    settings: Settings,
    max_cases: int | None,
    seed: int,
) -> ComparisonState:
    """Draw the cases, and say who judges them."""
    if max_cases is not None:
        check_whole("max_cases", max_cases)
    given = cases_of(cases)
    drawn = random.Random(seed).sample(given, len(given))[:max_cases]
    return ComparisonState(drawn, judges_of(judges, drawn), settings)


class _Asking:
    """Has both sides answer a case, and has the answers judged.

    Args:
        baseline: A runnable or a function.
        candidate: The other one.
        state: Whose judges and settings are used.
        kept: Answers of earlier runs.
    """

    def __init__(
        self, baseline: Target, candidate: Target, state: ComparisonState, kept: AnswerStore
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
