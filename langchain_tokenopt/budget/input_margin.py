"""How much more a provider counts than we do: a bound on it, learned from what it reports.

``counting.calibration`` learns the mean, which makes counts right; a reservation needs what a count
will hardly exceed. Providers differ from a count by a rate (another vocabulary), by something
around each message, and by how they write tools; a report does not say which. So two explanations
are kept that both cover everything that was reported, one with as high a rate as can be and one
with as much around messages and tools as can be, and the larger of their predictions counts.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

__all__ = ["InputMargin", "input_margin_of"]

_GUESSED_RATE: Final = 0.1
"""Margin on counts that are estimates, until the provider has reported its own."""
_SILENT_RATE: Final = 0.3
"""What is charged on top of the input of a call whose provider has never said what it counts, as
far as it is held for the call anyway: a guess refuses nobody."""
_REMEMBERED: Final = 64
_MOST_PER_MESSAGE: Final = 8.0
"""Most tokens around a message that are not another vocabulary's."""
_MOST_PER_TOOL_TOKEN: Final = 2.0
_TELLING: Final = 60
"""Tokens of a prompt from which on a difference may be a rate."""
_LONG: Final = 200
"""Tokens from which on it surely is one, where messages and tools do not explain it."""
_NOT_OURS: Final = 2.0
"""A report of more than so many times the count is about input that the provider has added, such as
what its search has found: no count of ours could have known."""
_NOT_OURS_TOKENS: Final = 200


class _Report(NamedTuple):
    counted: int
    excess: int
    messages: int
    tools: int


class _Excess(NamedTuple):
    """One explanation of what a provider counts on top."""

    rate: float = 0.0
    per_message: float = 0.0
    per_tool_token: float = 1.0
    constant: float = 0.0

    def added(self, messages: int, tools: int) -> float:
        return self.constant + self.per_message * messages + self.per_tool_token * tools

    def missing(self, reports: Iterable[_Report]) -> list[float]:
        """Return what it does not explain of each report."""
        rate, per_message, per_tool_token, constant = self
        return [
            excess - rate * counted - constant - per_message * messages - per_tool_token * tools
            for counted, excess, messages, tools in reports
        ]

    def covering(self, reports: Sequence[_Report]) -> _Excess:
        """Return it with a constant that covers every report."""
        return self._replace(constant=max(0.0, *self.missing(reports)))


class InputMargin:
    """How much more one model's provider counts than we do.

    What was seen once is covered the next time. Until anything was seen, tools count as the JSON
    that they are.

    Example:
        >>> margin = InputMargin()
        >>> margin.applied(1_000)
        1000
        >>> margin.learn(counted=1_000, reported=1_080)
        >>> margin.applied(1_000), margin.applied(2_000)
        (1080, 2160)
        >>> margin.within(1_080)
        1000
    """

    def __init__(self) -> None:
        self._reports: deque[_Report] = deque(maxlen=_REMEMBERED)
        self._explanations: tuple[_Excess, ...] = ()
        self._is_silent = False
        """Whether its provider has answered and not said what it counts, nor ever has."""
        self._lock = threading.RLock()

    def learn(self, *, counted: int, reported: int, messages: int = 1, tools: int = 0) -> None:
        """Take note of one call's input, as we and as the provider counted it.

        Args:
            counted: Tokens as we count them.
            reported: Tokens as the provider does.
            messages: How many messages these are.
            tools: Tokens that its tools have as JSON beyond our count of them.
        """
        if counted <= 0 or not 0 < reported <= _NOT_OURS * counted + tools + _NOT_OURS_TOKENS:
            return
        with self._lock:
            excess = max(0, reported - counted)
            self._reports.append(_Report(counted, excess, max(1, messages), tools))
            self._explanations = _steepest(self._reports), _flattest(self._reports)

    def applied(
        self, counted: int, *, messages: int = 1, tools: int = 0, exact: bool = True
    ) -> int:
        """Return a count that the provider's will hardly exceed."""
        return max(
            math.ceil(counted * (1 + excess.rate) + excess.added(messages, tools) - 1e-6)
            for excess in self._excesses(exact)
        )

    def charged(self, counted: int, held: int, *, messages: int = 1, tools: int = 0) -> int:
        """Return what to charge for input that was counted, and is not reported.

        Args:
            counted: Tokens as we count them.
            held: What is held for the input and was not used for the answer.
            messages: How many messages these are.
            tools: Tokens that its tools have as JSON beyond our count of them.

        Example:
            >>> InputMargin().charged(1_000, held=5_000), InputMargin().charged(1_000, held=1_100)
            (1300, 1100)
        """
        known = self.applied(counted, messages=messages, tools=tools)
        if self._explanations:
            return known
        self._is_silent = True
        return max(known, min(math.ceil(counted * (1 + _SILENT_RATE)) + tools, held))

    def unsaid(self, counted: int) -> int:
        """Return what a provider that never says what it counts may count on top of *counted*.

        A guess: a call is made to fit with it, and is not refused for it.

        Example:
            >>> margin = InputMargin()
            >>> margin.unsaid(1_000), margin.charged(1_000, held=5_000), margin.unsaid(1_000)
            (0, 1300, 300)
        """
        if self._explanations or not self._is_silent:
            return 0
        return math.ceil(counted * _SILENT_RATE)

    def within(self, tokens: int, *, messages: int = 1, tools: int = 0, exact: bool = True) -> int:
        """Return the largest count with which the provider's will hardly exceed *tokens*."""
        return min(
            math.floor((tokens - excess.added(messages, tools)) / (1 + excess.rate) + 1e-6)
            for excess in self._excesses(exact)
        )

    def _excesses(self, exact: bool) -> tuple[_Excess, ...]:
        if self._explanations:
            return self._explanations
        return (_Excess(0.0 if exact else _GUESSED_RATE),)


def _steepest(reports: Sequence[_Report]) -> _Excess:
    """Explain as much as can be by a rate that no report contradicts, the rest as it may be."""
    rates = [r.excess / r.counted for r in reports if r.counted >= _TELLING]
    excess = _Excess(min(rates, default=0.0), 0.0, 0.0)
    plain = [r for r in reports if not r.tools]
    around = [m / r.messages for m, r in zip(excess.missing(plain), plain, strict=True)]
    excess = excess._replace(per_message=min(max(*around, 0.0, 0.0), _MOST_PER_MESSAGE))
    others = [r for r in reports if r.tools]
    tools = [m / r.tools for m, r in zip(excess.missing(others), others, strict=True)]
    most = max(0.0, *tools) if tools else 1.0
    return excess._replace(per_tool_token=min(most, _MOST_PER_TOOL_TOKEN)).covering(reports)


def _flattest(reports: Sequence[_Report]) -> _Excess:
    """Explain as much as can be by what stands around messages, then by tools, then by a rate.

    The rate is the mean of what they leave of longer prompts plus three standard deviations, and no
    less than the largest of it.
    """
    around = min(_MOST_PER_MESSAGE, *(r.excess / r.messages for r in reports))
    excess = _Excess(0.0, around, 0.0)
    others = [r for r in reports if r.tools]
    shares = (m / r.tools for m, r in zip(excess.missing(others), others, strict=True))
    tools = min(shares, default=1.0)
    excess = excess._replace(per_tool_token=min(tools, _MOST_PER_TOOL_TOKEN))
    long = [r for r in reports if r.counted >= _LONG]
    rates = [max(0.0, m) / r.counted for m, r in zip(excess.missing(long), long, strict=True)]
    if rates:
        mean = sum(rates) / len(rates)
        spread = math.dist(rates, [mean] * len(rates)) / math.sqrt(len(rates))
        excess = excess._replace(rate=max(mean + 3 * spread, *rates))
    return excess.covering(reports)


_margins: dict[str, InputMargin] = {}


def input_margin_of(model_name: str) -> InputMargin:
    """Return what is known of a model in this process."""
    margin = _margins.get(model_name)
    return _margins.setdefault(model_name, InputMargin()) if margin is None else margin
