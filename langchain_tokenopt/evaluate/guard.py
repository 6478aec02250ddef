"""A guard around stages: on live traffic it asks some requests both ways, and falls back.

The guard is a group of stages. Outermost stands one that decides for each request at which level it
is answered, and that sees the answer as the caller does. Each guarded stage opens only for requests
of its level. At the last level none does, and the model answers as it would without stages.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import math
import random
import sqlite3
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from langchain_tokenopt.budget.performance import Performance
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.chat_model.stages import as_stages
from langchain_tokenopt.core.argument_checks import check_choice, check_fraction
from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.records import UsageSink, UsageTotals
from langchain_tokenopt.core.sinks import checked_sinks
from langchain_tokenopt.evaluate.background_work import BackgroundWork
from langchain_tokenopt.evaluate.cases import Case
from langchain_tokenopt.evaluate.guard_state import Evidence, GuardState, Key, Standing
from langchain_tokenopt.evaluate.judges import (
    Judge,
    NamesKept,
    NumbersKept,
    Scores,
    ToolCallsEqual,
    Trial,
    judges_of,
    scores_of,
)
from langchain_tokenopt.evaluate.run_answer import RunAnswer, answer_of
from langchain_tokenopt.request.model_request import Answer, ModelRequest
from langchain_tokenopt.stage import Phase, Stage, StageCall, TakesVerdicts
from langchain_tokenopt.tracking.callbacks import track_usage
from langchain_tokenopt.tracking.provider_usage import usage_of

__all__ = ["HALVES", "GuardFileError", "GuardReport", "QualityGuard"]

Mode = Literal["guarded", "observe", "split", "off"]
HALVES = ("plain half", "guarded half")
"""Stand among a call's stages in the mode ``"split"``: which half of the users it belongs to."""


@dataclass(frozen=True, slots=True)
class GuardReport:
    """How the requests of one agent and kind stand."""

    agent: str
    kind: str
    """Of answer: text, tools or structured."""
    level: int
    """0: as asked for; the last level: no guarded stage acts."""
    is_off: bool
    retry_at: float | None
    """When the level before is tried again, in seconds since 1970."""
    judges: dict[str, Evidence]


class QualityGuard:
    """Ask a share of live requests both ways, and fall back when answers get worse.

    Pass it to ``optimize`` in the place of the stages that it guards. Evidence is kept by agent and
    kind of answer. Its bound holds however often it is looked at: the chance that a level falls
    although answers are not worse by *margin* is at most ``1 - confidence`` each time that it is
    tried. Trials run in the background and never touch the caller's answer; their tokens are at
    most *max_extra* of those of the guarded requests.

    Args:
        stages: What is guarded: a stage, or several.
        share: Share of the requests that are asked both ways.
        judges: As for :func:`compare`; by default numbers, names and tool calls that are kept.
        margin: How much lower the mean score may be and still count as not worse.
        confidence: See above.
        gentler: Stages to fall back to, one list a level, before nothing is left.
        mode: ``"guarded"``; ``"observe"``: the caller gets plain answers, and the stages are only
            tried; ``"split"``: half of the users (or threads) get plain answers, always the same
            half; ``"off"``: plain answers, no trials.
        on_worse: ``"fall_back"``, or ``"warn"`` and change nothing.
        retry_seconds: After which time the level before is tried again.
        max_extra: Tokens that trials may take, as a share of the tokens of guarded requests.
        repeat_baseline: Ask the plain model twice, so that its own variation is not held against
            the stages.
        path: A file that several processes share; by default evidence is kept in memory.
        sinks: Told about the calls that trials make.
        on_change: Called with a report when a level falls, besides the warning.
        performance: Learns from each trial how much of an agent's quality was left with the tokens
            that it used, for plans with the strategy ``"performance"``.
        seed: Of the draws.

    Raises:
        ValueError: An argument cannot be used.
        TypeError: What is guarded is no stage.
        GuardFileError: The file cannot be used.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from langchain_tokenopt import WordLimit
        >>> guard = QualityGuard(WordLimit(2), share=1.0, max_extra=9.0)
        >>> model = optimize(FakeListChatModel(responses=["Ada won in 1952."]), guard)
        >>> model.invoke("Who won?").content
        'Ada won…'
        >>> guard.wait(10)
        >>> guard.report()[0].judges["numbers kept"].difference
        -1.0
        >>> guard.close()
    """

    def __init__(
        self,
        stages: Any,
        *,
        share: float = 0.05,
        judges: Judge | Callable[..., Any] | Sequence[Judge | Callable[..., Any]] | None = None,
        margin: float = 0.02,
        confidence: float = 0.95,
        gentler: Sequence[Any] = (),
        mode: Mode = "guarded",
        on_worse: Literal["fall_back", "warn"] = "fall_back",
        retry_seconds: float = 86_400.0,
        max_extra: float = 0.1,
        repeat_baseline: bool = True,
        path: str | Path | None = None,
        sinks: Sequence[UsageSink] = (),
        on_change: Callable[[GuardReport], None] | None = None,
        performance: Performance | None = None,
        seed: int | None = None,
    ) -> None:
        check_fraction("share", share)
        check_choice("mode", mode, "guarded", "observe", "split", "off")
        check_choice("on_worse", on_worse, "fall_back", "warn")
        if not 0 < margin < 1:
            raise ValueError(f"margin must be a share between 0 and 1; got {margin!r}.")
        if not 0.5 <= confidence < 1:
            raise ValueError(f"confidence must be from 0.5 to 1; got {confidence!r}.")
        for name, value in (("max_extra", max_extra), ("retry_seconds", retry_seconds)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0; got {value!r}.")
        self.mode, self._share, self._max_extra = mode, share, max_extra
        self._on_worse, self._on_change = on_worse, on_change
        self._performance = performance
        self._repeat, self._sinks = repeat_baseline, checked_sinks(sinks)
        default = [NumbersKept(), NamesKept(), ToolCallsEqual()]
        self._judges = judges_of(default if judges is None else judges, [])
        self._levels = [_level(given) for given in (stages, *gentler)]
        self._state = GuardState(
            path,
            [judge.name for judge in self._judges],
            margin=margin,
            confidence=confidence,
            levels=len(self._levels) + 1,
            retry_seconds=retry_seconds,
            guarded=self._name_of_guarded(margin, confidence),
        )
        self._check_file()
        self._guarded = tuple(
            _guarded(stage, level, self) for level, own in enumerate(self._levels) for stage in own
        )
        self._running: dict[int, int] = {}
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._trials = BackgroundWork()
        self._tokens = 0
        self._trial_tokens = 0
        self.left_out = 0
        """Trials that were due and not made: too many waited, or *max_extra* was reached."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What ``optimize`` puts around the model."""
        return (_Entry(self), *self._guarded)

    def report(self) -> list[GuardReport]:
        """Return how all agents' requests stand, by agent and kind."""
        return [
            self._report(key, standing, judges)
            for key, (standing, judges) in sorted(self._state.evidence().items())
        ]

    def reset(self, agent: str, kind: str = "text") -> None:
        """Go back to what was asked for, with fresh evidence."""
        self._state.reset(Key(agent, kind))

    def wait(self, timeout_seconds: float | None = None) -> None:
        """Wait for the trials under way."""
        self._trials.wait(timeout_seconds)

    def close(self) -> None:
        """Give up the trials that wait, and close the file."""
        self._trials.close()
        self._state.close()

    def _name_of_guarded(self, *settings: float) -> str:
        stages = [[stage.fingerprint for stage in level] for level in self._levels]
        said = repr((stages, [judge.name for judge in self._judges], settings))
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    def _check_file(self) -> None:
        try:
            self._state.standing(Key("", ""))
        except (sqlite3.Error, OSError) as error:
            raise GuardFileError(
                f"The file of the quality guard cannot be used: {error}."
            ) from error

    # One request

    def begin(self, request: ModelRequest) -> StageCall | None:
        """Decide at which level a request is answered, and whether it is tried both ways."""
        if self.mode == "off" or request.observe:
            return None
        key = Key(request.facts.attribution.agent, request.facts.answer_form.kind)
        standing = self._standing(key)
        level = len(self._levels) if self._is_plain(request) else standing.level
        if self.mode == "split":
            request.run.stages.append(HALVES[level < len(self._levels)])
        with self._lock:
            self._running[request.run.run_id.int] = level
        return _GuardedCall(self, request, key, standing, self._is_drawn(standing))

    def _standing(self, key: Key) -> Standing:
        """Ask the file; where it cannot be read, the call goes on with what was known last."""
        try:
            return self._state.standing(key)
        except (sqlite3.Error, OSError) as error:
            self._warn(f"The file of the quality guard cannot be read: {error}.")
            return self._state.last_known(key)

    def _is_plain(self, request: ModelRequest) -> bool:
        if self.mode == "observe":
            return True
        if self.mode != "split":
            return False
        made_by = request.facts.attribution
        owner = made_by.user or made_by.thread_id or str(request.run.run_id)
        return random.Random(f"split {owner}").random() < 0.5

    def _is_drawn(self, standing: Standing) -> bool:
        has_stages = standing.level < len(self._levels)
        with self._lock:
            return has_stages and self.mode != "split" and self._draw.random() < self._share

    def level_of(self, request: ModelRequest) -> int | None:
        """Return the level of a request under way; ``None`` for one that is not the guard's."""
        return self._running.get(request.run.run_id.int)

    def end(self, request: ModelRequest) -> None:
        """Forget a request."""
        with self._lock:
            self._running.pop(request.run.run_id.int, None)

    def count(self, tokens: int) -> None:
        """Count what a request took."""
        with self._lock:
            self._tokens += tokens

    # Trials

    def start_trial(
        self,
        request: ModelRequest,
        key: Key,
        standing: Standing,
        shown: RunAnswer,
        tokens: int,
        used: int,
    ) -> None:
        """Ask the other way in the background, where there is room and money for it.

        Args:
            request: As the caller made it.
            key: Whose it is.
            standing: At which level it was answered.
            shown: The answer that the caller was given.
            tokens: What it is expected to take once without the stages.
            used: What it took.
        """
        expected = (1 + self._repeat) * tokens
        with self._lock:
            has_room = self._trial_tokens + expected <= self._max_extra * self._tokens
            if has_room:
                self._trial_tokens += expected
        # Trials are no part of the caller's run: neither his trackers nor his accounts pay.
        try_it = functools.partial(self._try, request, key, standing, shown)
        run = functools.partial(contextvars.Context().run, try_it, (used, max(used, tokens)))
        if not has_room or not self._trials.start(functools.partial(self._settle, run, expected)):
            with self._lock:
                self.left_out += 1
                self._trial_tokens -= expected * has_room

    def _settle(self, run: Callable[[], int], expected: int) -> None:
        """Count what a trial has taken in the place of what it was expected to take."""
        took = run()
        with self._lock:
            self._trial_tokens += took - expected

    def _try(
        self,
        request: ModelRequest,
        key: Key,
        standing: Standing,
        shown: RunAnswer,
        tokens: tuple[int, int],
    ) -> int:
        """Ask, judge and take in; return the tokens that it took.

        *tokens* are those that the caller's answer took, and would have taken without the stages.
        """
        fallen = None
        with track_usage(self._sinks) as usage:
            try:
                trial = self._answers(request, key, standing, shown)
                scores, _ = scores_of(self._judges, trial)
                differences = {name: (s.difference, s.difference) for name, s in scores.items()}
                self._tell_stages(request, key, standing, scores, tokens)
                falls = self._on_worse == "fall_back"
                fallen = self._state.add(key, standing.epoch, differences, falls=falls)
            except Exception as error:  # noqa: BLE001  nobody waits for a trial: say it
                self._warn(f"A trial of the quality guard failed: {type(error).__name__}: {error}")
        if fallen is not None:
            self._tell(key, fallen)
        return usage.totals().total_tokens

    def _tell_stages(
        self,
        request: ModelRequest,
        key: Key,
        standing: Standing,
        scores: Mapping[str, Scores],
        tokens: tuple[int, int],
    ) -> None:
        """Tell whoever learns from it how much of the plain answer's quality was left."""
        if self.mode == "observe" or not scores or standing.level >= len(self._levels):
            return
        worst = min(score.difference for score in scores.values())
        for stage in self._levels[standing.level]:
            if isinstance(stage, TakesVerdicts):
                stage.take_verdict(request.run.run_id, min(1.0, 1.0 + worst))
        used, wanted = tokens
        if self._performance is not None and used:
            quality, user = min(max(1.0 + worst, 0.0), 1.0), request.facts.attribution.user
            self._performance.record(key.agent, quality, used, wanted=wanted, user=user)

    def _answers(
        self, request: ModelRequest, key: Key, standing: Standing, shown: RunAnswer
    ) -> Trial:
        plain, case = request.model, Case(request.messages, id=str(request.run.run_id))
        if self.mode == "observe":
            staged = optimize(request.model, *self._levels[standing.level])
            return Trial(case, shown, self._ask(staged, request, key))
        baseline = self._ask(plain, request, key)
        repeat = self._ask(plain, request, key) if self._repeat else None
        return Trial(case, baseline, shown, repeat)

    def _ask(self, model: Any, request: ModelRequest, key: Key) -> RunAnswer:
        config = RunnableConfig(
            run_name="quality guard",
            metadata={**request.run.metadata, "tokenopt_agent": key.agent},
        )
        try:
            said = _invoked(model, request, config)
        except Exception as error:  # noqa: BLE001  whatever a model raises is no answer
            return RunAnswer(error=f"{type(error).__name__}: {error}")
        return answer_of(said, UsageTotals(), 0.0)

    def _tell(self, key: Key, fallen: Standing) -> None:
        found = self._report(key, fallen, {})
        where = "is off" if found.is_off else f"is at level {found.level}"
        self._warn(
            f"Answers of {key.agent!r} ({key.kind}) got worse: what the quality guard guards "
            f"{where} for them now."
        )
        if self._on_change is None:
            return
        try:
            self._on_change(found)
        except Exception as error:  # noqa: BLE001  of the user's: it must not stop the guard
            self._warn(f"on_change of the quality guard failed: {type(error).__name__}: {error}")

    def _warn(self, said: str) -> None:
        warnings.warn(said, TokenOptWarning, stacklevel=3)

    def _report(self, key: Key, standing: Standing, judges: dict[str, Evidence]) -> GuardReport:
        is_off = standing.level >= len(self._levels)
        return GuardReport(key.agent, key.kind, standing.level, is_off, standing.until, judges)

    @property
    def version(self) -> str:
        """Name the state that answers depend on; caches further out ask for it."""
        guarded = "+".join(stage.fingerprint for own in self._levels for stage in own)
        return f"guard:{self.mode}:{self._state.changes}:{guarded}"


def _level(given: Any) -> tuple[Stage, ...]:
    several = list(given) if isinstance(given, list | tuple) else [given]
    found = as_stages(several)
    if not found:
        raise ValueError("QualityGuard() needs a stage to guard.")
    for stage in found:
        if stage.phase == Phase.BUDGET:
            raise ValueError("A budget cannot be guarded: put the plan beside the guard.")
    return found


def _invoked(model: Any, request: ModelRequest, config: RunnableConfig) -> AIMessage:
    try:
        said: AIMessage = model.invoke(
            request.messages, config, stop=request.stop, **request.kwargs
        )
    except NotImplementedError:  # the model can only be awaited
        said = asyncio.run(
            model.ainvoke(request.messages, config, stop=request.stop, **request.kwargs)
        )
    return said


class GuardFileError(TokenOptError, ValueError):
    """The file of a guard cannot be opened, or is no such file."""


class _Entry:
    """The outermost stage of a guard."""

    phase = Phase.PROOF
    blocking = True

    def __init__(self, guard: QualityGuard) -> None:
        self._guard = guard

    @property
    def fingerprint(self) -> str:
        return self._guard.version

    def open(self, request: ModelRequest) -> StageCall | None:
        return self._guard.begin(request)


class _GuardedCall(StageCall):
    """One request: sees the answer as the caller does."""

    def __init__(
        self,
        guard: QualityGuard,
        request: ModelRequest,
        key: Key,
        standing: Standing,
        is_drawn: bool,
    ) -> None:
        super().__init__(request)
        self._guard, self._key, self._standing, self._is_drawn = guard, key, standing, is_drawn

    def close(self, answer: Answer) -> Answer:
        self._guard.end(self.request)
        usage = usage_of(answer, self.request)
        self._guard.count(usage.total_tokens)
        if self._is_drawn:
            shown = answer_of(answer.message, UsageTotals(), 0.0)
            plain = self.request.facts.input_tokens.tokens + usage.output_tokens
            self._guard.start_trial(
                self.request, self._key, self._standing, shown, plain, usage.total_tokens
            )
        return answer

    def failed(self, error: BaseException) -> None:
        self._guard.end(self.request)


class _GuardedStage:
    """A guarded stage: it opens for requests of its level."""

    def __init__(self, inner: Stage, level: int, guard: QualityGuard) -> None:
        self._inner, self._level, self._guard = inner, level, guard
        if hasattr(inner, "aopen"):
            self.aopen = self._aopen

    @property
    def phase(self) -> Phase:
        return self._inner.phase

    @property
    def blocking(self) -> bool:
        return self._inner.blocking

    @property
    def fingerprint(self) -> str:
        return self._inner.fingerprint

    def open(self, request: ModelRequest) -> StageCall | None:
        return self._inner.open(request) if self._acts(request) else None

    async def _aopen(self, request: ModelRequest) -> StageCall | None:
        inner: Any = self._inner
        return await inner.aopen(request) if self._acts(request) else None

    def _acts(self, request: ModelRequest) -> bool:
        return self._guard.level_of(request) == self._level


_Entry.__name__ = "QualityGuard"  # what messages and records call it


def _guarded(stage: Stage, level: int, guard: QualityGuard) -> Stage:
    """Wrap a stage in a class of the same name: records and messages call it what it is."""
    cls = type(type(stage).__name__, (_GuardedStage,), {})
    made: Stage = cls(stage, level, guard)
    return made
