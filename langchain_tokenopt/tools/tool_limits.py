"""What a tool may use in a run, and what it has used: counted before the call where that can be."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, PositiveInt

from langchain_tokenopt.budget.records import NO_TOKEN_LIMIT
from langchain_tokenopt.core.errors import BudgetExceededError
from langchain_tokenopt.core.settings import Settings

__all__ = [
    "Refusal",
    "ToolAccount",
    "ToolLimitExceededError",
    "ToolLimits",
    "ToolReport",
    "checked_limits",
    "told",
]


class ToolLimits(Settings):
    """What one tool may use. Each is for a run, or, where the name says so, for each call.

    A run is that of the plan under which the tool is called; without one, the life of the set that
    the tool belongs to.

    Raises:
        ValueError: A limit is not above 0, or a name is unknown.

    Example:
        >>> ToolLimits(max_calls=3, max_result_tokens_per_call=500).max_calls
        3
    """

    model_config = ConfigDict(strict=True)

    max_calls: PositiveInt | None = None
    """Calls; counted when one begins, so that calls side by side are never too many."""
    max_result_tokens: PositiveInt | None = None
    """Tokens of all its results, as the model sees them."""
    max_result_tokens_per_call: PositiveInt | None = None
    """Tokens of each result; a longer one is shortened, and says so. Pictures stay: texts have what
    these leave, and 64 tokens at least."""
    max_model_tokens: PositiveInt | None = Field(default=None, le=NO_TOKEN_LIMIT)
    """Tokens of models that are called inside, reserved and settled as those of a plan are."""
    max_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds in which it is at work; calls side by side share them."""
    max_seconds_per_call: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds of each call."""
    on_exceed: Literal["message", "raise"] = "message"
    """What a refused call gives: a message that the model can read, or ``ToolLimitExceededError``
    (and ``BudgetExceededError`` where a model inside was refused)."""


def checked_limits(limits: Any, of: str = "limits") -> ToolLimits | None:
    """Return *limits*, if that is what they are.

    Raises:
        TypeError: They are something else, and would limit nothing.
    """
    if limits is None or isinstance(limits, ToolLimits):
        return limits
    raise TypeError(
        f"{of} must be ToolLimits, such as ToolLimits(max_calls=3), and not {limits!r}: "
        f"give ToolLimits(...) for every tool, or {{'name of a tool': ToolLimits(...)}}."
    )


class ToolLimitExceededError(BudgetExceededError):
    """A tool would use more than it may, and ``on_exceed`` is ``"raise"``.

    Args:
        tool: Its name.
        what: What it would exceed, such as ``max_calls``; numbers are of that.
        needed: What the call needs.
        left: What is left.
        limit: What there was.
        because: A sentence with these numbers.
    """

    def __init__(
        self, tool: str, what: str, *, needed: float, left: float, limit: float, because: str
    ) -> None:
        super().__init__(
            account=tool,
            needed_tokens=round(needed),
            left_tokens=round(left),
            limit_tokens=round(limit),
            because=because,
        )
        self.tool, self.what = tool, what


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a tool does not answer, for the model to read."""

    tool: str
    what: str
    """Name of the limit."""
    used: float
    limit: float
    sentence: str
    needed: float = 1

    def __str__(self) -> str:
        return told(self.sentence)

    def error(self) -> ToolLimitExceededError:
        """Return it as an exception."""
        return ToolLimitExceededError(
            self.tool,
            self.what,
            needed=self.needed,
            left=max(self.limit - self.used, 0),
            limit=self.limit,
            because=f"{self.sentence} Raise {self.what}, or ask for less.",
        )


def told(sentence: str) -> str:
    """Return what a model reads of a refusal: why, and what it can do itself."""
    return f"[{sentence} Go on with what you have, or use another tool.]"


@dataclass(slots=True)
class ToolReport:
    """What a tool has used so far, in all runs. Tokens, unless the name says otherwise."""

    tool: str
    calls: int = 0
    """Calls that began."""
    refused_calls: int = 0
    """Calls that a limit has refused, or stopped."""
    failed_calls: int = 0
    """Calls that have raised an error."""
    result_tokens_before: int = 0
    """Of results as the tool has returned them."""
    result_tokens_after: int = 0
    """Of results as the model sees them."""
    model_tokens: int = 0
    """Of models that were called inside."""
    seconds: float = 0.0
    """Of all calls together."""


@dataclass(slots=True, eq=False)
class _RunUse:
    """What one run has used of a tool."""

    calls: int = 0
    result_tokens: int = 0
    worked_seconds: float = 0.0
    at_work: int = 0
    """Calls that are under way."""
    since: float = 0.0
    """Since when there are any."""

    def busy_seconds(self, now: float) -> float:
        return self.worked_seconds + (now - self.since if self.at_work else 0.0)


class ToolAccount:
    """What a tool may use and has used; safe for threads and tasks.

    Args:
        tool: Its name.
        limits: What it may use.
        clock: Seconds, for tests.
    """

    def __init__(
        self, tool: str, limits: ToolLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._tool = tool
        self._clock = clock
        self._lock = threading.Lock()
        self._counts = ToolReport(tool)
        self._own = _RunUse()
        self._runs: weakref.WeakKeyDictionary[object, _RunUse] = weakref.WeakKeyDictionary()

    def report(self) -> ToolReport:
        """Return what it has used so far."""
        with self._lock:
            counts = {f.name: getattr(self._counts, f.name) for f in fields(ToolReport)}
        return ToolReport(**counts)

    def begin(self, run: object | None) -> ToolCallUse | Refusal:
        """Begin a call, if its limits allow it.

        Args:
            run: Whose limits count: an account that lives as long as the run; ``None``: the tool's
                own.
        """
        limits = self.limits
        with self._lock:
            now = self._clock()
            use = self._own if run is None else self._runs.setdefault(run, _RunUse())
            refusal = None
            if limits.max_calls is not None and use.calls >= limits.max_calls:
                refusal = self.refusal("max_calls", use.calls, limits.max_calls)
            elif (
                limits.max_result_tokens is not None
                and use.result_tokens >= limits.max_result_tokens
            ):
                refusal = self.refusal(
                    "max_result_tokens", use.result_tokens, limits.max_result_tokens
                )
            elif limits.max_seconds is not None and use.busy_seconds(now) >= limits.max_seconds:
                refusal = self.refusal("max_seconds", use.busy_seconds(now), limits.max_seconds)
            if refusal is not None:
                self._counts.refused_calls += 1
                return refusal
            self._counts.calls += 1
            use.calls += 1
            if not use.at_work:
                use.since = now
            use.at_work += 1
            left = [limits.max_seconds_per_call]
            if limits.max_seconds is not None:
                left.append(limits.max_seconds - use.busy_seconds(now))
        known = [seconds for seconds in left if seconds is not None]
        return ToolCallUse(self, use, now, min(known, default=None))

    def refusal(self, what: str, used: float, limit: float, needed: int | None = None) -> Refusal:
        """Say that a limit is reached; of a result also how many tokens it has."""
        sentence = _SENTENCES[what].format(tool=self._tool, used=used, limit=limit)
        if needed is not None:
            sentence += f" This one has {needed:,}, of which nothing could be read in so few."
        return Refusal(self._tool, what, used, limit, sentence, needed or 1)

    def refuse(self) -> None:
        """Count a call that was stopped after it had begun."""
        with self._lock:
            self._counts.refused_calls += 1


_SENTENCES: Final = {
    "max_calls": "{tool} was not called: it may be called {limit:,} times in this run, and was "
    "called {used:,} times.",
    "max_result_tokens": "{tool} has no room for a result: its results may have {limit:,} tokens "
    "in this run, and have {used:,}.",
    "max_result_tokens_per_call": "{tool} has no room for a result: each may have {limit:,} "
    "tokens.",
    "max_seconds": "{tool} has no time left: it may work {limit:,.3g} s in this run, and has "
    "worked {used:,.3g} s.",
    "max_seconds_per_call": "{tool} was given up: a call may take {limit:,.3g} s, and this one had "
    "no result after {used:,.3g} s.",
}


class ToolCallUse:
    """One call that has begun. End it once."""

    def __init__(
        self, account: ToolAccount, use: _RunUse, began: float, seconds: float | None
    ) -> None:
        self._account = account
        self._use = use
        self._began = began
        self.seconds = seconds
        """How long it may take; ``None``: as long as it likes."""

    def end(self, *, failed: bool = False, uncounted: bool = False) -> None:
        """End the call.

        Args:
            failed: Whether it has raised an error.
            uncounted: Whether it will be called again to go on, as after an interrupt.
        """
        account, use = self._account, self._use
        with account._lock:
            now = account._clock()
            use.at_work -= 1
            if not use.at_work:
                use.worked_seconds += now - use.since
            account._counts.seconds += now - self._began
            account._counts.failed_calls += failed
            if uncounted:
                use.calls -= 1
                account._counts.calls -= 1

    def given_up(self) -> Refusal:
        """Say that its time is over."""
        account, limits = self._account, self._account.limits
        with account._lock:
            now = account._clock()
            busy = self._use.busy_seconds(now)
        account.refuse()
        if self.seconds == limits.max_seconds_per_call or limits.max_seconds is None:
            return account.refusal("max_seconds_per_call", now - self._began, self.seconds or 0)
        return account.refusal("max_seconds", busy, limits.max_seconds)

    @property
    def raises(self) -> bool:
        """Whether what is refused is an error."""
        return self._account.limits.on_exceed == "raise"

    def most(self, tokens: int, media: int, least: int) -> int:
        """Return how many of so many tokens the result of one call may have.

        Args:
            tokens: Of the result.
            media: Those of its pictures and the like, which stay.
            least: What its texts have beside these at least, if each call may have as many.
        """
        limit = self._account.limits.max_result_tokens_per_call
        if limit is None:
            return tokens
        return min(tokens, max(limit, media + min(limit, least)) if media else limit)

    def grant(self, tokens: int) -> int:
        """Take up to so many tokens of the run's results; return how many there are."""
        account, limits, use = self._account, self._account.limits, self._use
        allowed = tokens
        with account._lock:
            if limits.max_result_tokens is not None:
                allowed = max(0, min(allowed, limits.max_result_tokens - use.result_tokens))
            use.result_tokens += allowed
        return allowed

    def longest_error(self, least: int) -> int:
        """Return how many tokens an error may have: what a result may, but *least* at least."""
        return max(self._account.limits.max_result_tokens_per_call or NO_TOKEN_LIMIT, least)

    def settle(self, before: int, after: int, unused: int = 0) -> None:
        """Note how long a result was and is, and give back what it did not need."""
        with self._account._lock:
            self._use.result_tokens -= unused
            self._account._counts.result_tokens_before += before
            self._account._counts.result_tokens_after += after

    def without_result(self, granted: int, wanted: int, needed: int) -> Refusal:
        """Give back what was granted: there is no room for a result.

        Args:
            granted: By the run.
            wanted: What the call may have had.
            needed: What the result has.
        """
        account, limits = self._account, self._account.limits
        with account._lock:
            self._use.result_tokens -= granted
            used = self._use.result_tokens
            account._counts.refused_calls += 1
            account._counts.result_tokens_before += needed
        if granted < wanted or limits.max_result_tokens_per_call is None:
            limit = limits.max_result_tokens or 0
            return account.refusal("max_result_tokens", used, limit, needed)
        limit = limits.max_result_tokens_per_call
        return account.refusal("max_result_tokens_per_call", 0, limit, needed)
