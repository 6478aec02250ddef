"""How long an agent's answer will be, learned from the answers it gave.

Lengths are heavy-tailed: one number says little. So what is kept is a sample of recent answers,
and what is predicted is a quantile of those that were asked for under similar conditions: under a
similar word limit where there is one (the strongest predictor there is), for a prompt of similar
length otherwise, and of all where such conditions say nothing (:mod:`.length_sample`).

The forecaster is a :class:`~langchain_tokenopt.core.records.UsageSink`: attach it to a
``TokenUsageCallbackHandler`` or replay a ledger into it.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from langchain_tokenopt.core.argument_checks import check_amount, is_amount, shown
from langchain_tokenopt.core.records import CallRecord, UsageEvent
from langchain_tokenopt.forecast.length_sample import FEWEST, LengthSample

__all__ = ["CUT_FACTOR", "Forecast", "UsageForecaster"]

_ENOUGH: Final = 30
"""Answers from which on a narrower history (agent and model) is preferred to a wider one."""
CUT_FACTOR: Final = 1.5
"""An answer that was cut is taken to have been this much longer. In the first half of the same
trace, half of the answers that reach 100, 200, 270 and 300 tokens go on to 3.9, 2.0, 1.5 and 1.4
times that: a cautious choice."""
_KNOWN_RUNS: Final = 4096
_WORD_TOKENS: Final = {0.5: 1.35, 1.0: 8.0}


@dataclass(frozen=True, slots=True)
class Forecast:
    """How many output tokens to expect from one call."""

    expected_tokens: int
    """As many answers are shorter as are longer."""
    p95_tokens: int
    """One answer in twenty is longer."""
    p99_tokens: int
    """One answer in a hundred is longer: what a reservation should hold."""
    observations: int
    """Answers that it was learned from; 0 when only the word limit is known."""


_ENOUGH_RUNS: Final = 3
"""Runs from which on the calls of an agent are known; until then the next may have any number."""
_KEPT_RUNS: Final = 20
_ENOUGH_OBJECTS: Final = 3
"""Objects of one schema from which on their length is known: they differ less than texts."""
_KEPT_OBJECTS: Final = 64
_KEPT_SCHEMAS: Final = 256


class UsageForecaster:
    """Learns how long answers are and says how long the next one will be.

    Learned per agent and model; until an agent has given :data:`_ENOUGH` answers with a model, its
    answers with any model count, then those of all agents. Answers under a word limit are learned
    apart, as tokens per allowed word, so that a new limit is known from the others.

    Args:
        window: Answers kept per history; older ones are forgotten.

    Example:
        >>> forecaster = UsageForecaster()
        >>> for tokens in range(100, 200):
        ...     forecaster.observe("writer", tokens)
        >>> forecaster.quantile(0.5, "writer"), forecaster.forecast("writer").expected_tokens
        (150, 150)
        >>> UsageForecaster().forecast("nobody") is None
        True
    """

    def __init__(self, *, window: int = 8192) -> None:
        if not (is_amount(window) and window >= _ENOUGH):
            raise ValueError(
                f"window must be at least {_ENOUGH} answers, got {shown(window)}: fewer cannot "
                f"show a 95 % quantile."
            )
        self._window = int(window)
        self._histories: dict[_Key, LengthSample] = {}
        self._runs: OrderedDict[int, None] = OrderedDict()
        """By the integer of the run id, whose hash costs a tenth of the id's own."""
        self._new: deque[_Observation] = deque()
        """Answers to learn from. The garbage collector may end a call on a thread that is reading
        here: it then only adds one, which takes no lock."""
        self._calls: dict[str, deque[int]] = {}
        self._objects: OrderedDict[tuple[str, str | None], deque[int]] = OrderedDict()
        """Lengths of structured answers, by the name of their schema and the model."""
        self._lock = threading.Lock()

    # Learning

    def observe_calls(self, calls: Mapping[str, int]) -> None:
        """Learn from one run how often each agent has called.

        Example:
            >>> forecaster = UsageForecaster()
            >>> for rounds in (2, 3, 2):
            ...     forecaster.observe_calls({"debater": rounds})
            >>> forecaster.most_calls("debater"), forecaster.most_calls("nobody")
            (3, None)
        """
        for agent, times in calls.items():
            check_amount(f"the number of calls of {shown(agent)}", times)
        with self._lock:
            for agent, times in calls.items():
                self._calls.setdefault(agent, deque(maxlen=_KEPT_RUNS)).append(times)

    def most_calls(self, agent: str) -> int | None:
        """Return how often an agent has called in a run at most; ``None``: too few are known."""
        with self._lock:
            known = self._calls.get(agent, ())
            return max(known) if len(known) >= _ENOUGH_RUNS else None

    def observe_object(self, schema: str, output_tokens: int, *, model: str | None = None) -> None:
        """Learn how long a structured answer was that came whole.

        Example:
            >>> forecaster = UsageForecaster()
            >>> for tokens in (60, 80, 70):
            ...     forecaster.observe_object("Verdict", tokens, model="gpt-4o")
            >>> forecaster.longest_object("Verdict", model="gpt-4o")
            80
            >>> forecaster.longest_object("Verdict", model="another") is None
            True
        """
        check_amount("output_tokens", output_tokens)
        key = schema, model
        with self._lock:
            self._objects.setdefault(key, deque(maxlen=_KEPT_OBJECTS)).append(output_tokens)
            self._objects.move_to_end(key)
            while len(self._objects) > _KEPT_SCHEMAS:
                self._objects.popitem(last=False)

    def longest_object(self, schema: str, *, model: str | None = None) -> int | None:
        """Return the length of a schema's longest object so far; ``None``: too few are known."""
        with self._lock:
            known = self._objects.get((schema, model), ())
            return max(known) if len(known) >= _ENOUGH_OBJECTS else None

    def record(self, event: UsageEvent) -> None:
        """Learn from a finished call (``UsageSink``). Cached and failed ones teach nothing."""
        if isinstance(event, CallRecord) and event.status == "ok" and not event.cached:
            self.observe(
                event.agent,
                event.usage.output_tokens,
                model=event.model,
                input_tokens=event.usage.input_tokens,
                run_id=event.run_id,
            )

    def observe(
        self,
        agent: str,
        output_tokens: int,
        *,
        model: str | None = None,
        input_tokens: int | None = None,
        max_words: int | None = None,
        cut: bool = False,
        run_id: UUID | None = None,
    ) -> None:
        """Learn from one answer.

        Args:
            agent: Who gave it.
            output_tokens: What was billed. Answers without any are ignored.
            model: Name of the model.
            input_tokens: Length of the prompt.
            max_words: The word limit that was asked for.
            cut: True when ``max_tokens`` ended it: it would have been longer.
            run_id: The same run is learned from once, from whoever reports it first.

        Raises:
            ValueError: A number is not finite, or below 0.
        """
        check_amount("output_tokens", output_tokens)
        _check_condition(input_tokens, max_words)
        if not output_tokens:
            return
        if cut:
            output_tokens = math.ceil(output_tokens * CUT_FACTOR)
        condition = float(max_words or input_tokens or 0)
        keys = _levels(agent, model, max_words is not None)
        self._new.append(_Observation(run_id, keys, condition, output_tokens / (max_words or 1)))
        if self._lock.acquire(blocking=False):  # else whoever reads next learns from it
            try:
                self._learn()
            finally:
                self._lock.release()

    def _learn(self) -> None:
        while self._new:
            run_id, keys, condition, length = self._new.popleft()
            if run_id is not None and not self._is_first(run_id):
                continue
            for level, key in enumerate(keys):
                history = self._histories.get(key)
                if history is None:
                    history = self._histories[key] = LengthSample(
                        self._window, corrected=level == 0
                    )
                history.add(condition, length)

    def _is_first(self, run_id: UUID) -> bool:
        if run_id.int in self._runs:
            return False
        self._runs[run_id.int] = None
        if len(self._runs) > _KNOWN_RUNS:
            self._runs.popitem(last=False)
        return True

    # Predicting

    def quantile(
        self,
        share: float,
        agent: str,
        *,
        model: str | None = None,
        input_tokens: int | None = None,
        max_words: int | None = None,
    ) -> int | None:
        """Return the output tokens that *share* of such answers do not exceed.

        Args:
            share: Above 0 and below 1: 0.99 for a reservation, 0.5 for an expectation.
            agent: Who will answer.
            model: Name of the model.
            input_tokens: Length of the prompt, when known.
            max_words: The word limit, when there is one.

        Returns:
            ``None`` when too little is known. With a word limit something always is: before any
            answer, 1.35 tokens a word up to the middle and 8 for the longest.

        Raises:
            ValueError: If *share* is not between 0 and 1, or a number not finite or below 0.
        """
        if not (is_amount(share) and 0 < share < 1):
            raise ValueError(
                f"share must be above 0 and below 1, got {shown(share)}. 0.99 means 99 %."
            )
        found, _ = self._quantiles((share,), agent, model, input_tokens, max_words)
        return found[0] if found else None

    def forecast(
        self,
        agent: str,
        *,
        model: str | None = None,
        input_tokens: int | None = None,
        max_words: int | None = None,
    ) -> Forecast | None:
        """Return what to expect of the next answer; ``None`` when too little is known."""
        found, known = self._quantiles((0.5, 0.95, 0.99), agent, model, input_tokens, max_words)
        if not found:
            return None
        expected, p95, p99 = found
        p95 = max(expected, p95)  # each is of the answers that have told it best
        return Forecast(expected, p95, max(p95, p99), known)

    def _quantiles(
        self,
        shares: tuple[float, ...],
        agent: str,
        model: str | None,
        input_tokens: int | None,
        max_words: int | None,
    ) -> tuple[list[int], int]:
        """Return quantiles, none when too little is known, and of how many answers they are."""
        _check_condition(input_tokens, max_words)
        words = max_words or 1
        with self._lock:
            self._learn()
            history = self._history(agent, model, max_words is not None)
            if history is not None:
                condition = max_words or input_tokens
                found = history.quantiles(shares, condition)
                return [math.ceil(value * words) for value in found], len(history)
        if max_words is None:
            return [], 0
        return [math.ceil(words * _WORD_TOKENS[0.5 if s <= 0.5 else 1.0]) for s in shares], 0

    def observations(
        self, agent: str, *, model: str | None = None, limited: bool | None = None
    ) -> int:
        """Return how many answers of *agent* are remembered.

        Args:
            agent: Who gave them.
            model: Only those of this model.
            limited: Only those with (or without) a word limit.
        """
        with self._lock:
            self._learn()
            found = (
                self._histories.get((agent, model, kind))
                for kind in (True, False)
                if limited in (None, kind)
            )
            return sum(len(history) for history in found if history is not None)

    def _history(self, agent: str, model: str | None, limited: bool) -> LengthSample | None:
        """Return the narrowest history that knows enough."""
        keys = _levels(agent, model, limited)
        for least in (_ENOUGH, FEWEST):
            for key in keys:
                history = self._histories.get(key)
                if history is not None and len(history) >= least:
                    return history
        return None


_Key = tuple[str | None, str | None, bool]
"""Agent, model, and whether there is a word limit."""


class _Observation(NamedTuple):
    """One answer, as it is learned from."""

    run_id: UUID | None
    keys: list[_Key]
    condition: float
    """The word limit, or the length of the prompt."""
    length: float
    """In tokens, or in tokens per allowed word."""


def _check_condition(input_tokens: int | None, max_words: int | None) -> None:
    if input_tokens is not None:
        check_amount("input_tokens", input_tokens)
    if max_words is not None:
        check_amount("max_words", max_words)


def _levels(agent: str, model: str | None, limited: bool) -> list[_Key]:
    """Return the keys of the histories that an answer belongs to, the narrowest first."""
    wider: list[_Key] = [(agent, None, limited), (None, None, limited)]
    return wider if model is None else [(agent, model, limited), *wider]
