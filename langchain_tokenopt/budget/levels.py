"""Who shares a total, and how often it is renewed: the levels that a call is paid from.

A plan's own account divides the tokens of one run among its agents. Around it there may be others:
what a user may spend in a day, an organization in a month. Each is an account like the first one,
under another key; a call is paid from all of them, or it is not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypedDict
from zoneinfo import ZoneInfo

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from langchain_tokenopt.budget.records import (
    LEAST_USD,
    MOST_USD,
    NO_TOKEN_LIMIT,
    AccountKey,
    AccountTotals,
)
from langchain_tokenopt.budget.windows import Span, Window, span_at, zone_of
from langchain_tokenopt.core.dimensions import Per
from langchain_tokenopt.core.errors import UnknownTimeZoneError
from langchain_tokenopt.core.settings import Settings

__all__ = [
    "NOBODY",
    "NOTHING",
    "TOOL_LIMITS",
    "AccountLevel",
    "BudgetLimit",
    "Expects",
    "LimitSettings",
    "LimitValues",
    "Opening",
    "Owners",
    "check_levels",
    "unknown_zone_in",
]


# What a user writes


class LimitSettings(Settings):
    """Who shares a total, and how often it is renewed."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    per: Per = "run"
    """Who shares the total: each ``"run"``, ``"thread"``, ``"user"`` or ``"organization"`` has one
    of its own; ``"plan"``: all have one together."""
    window: Window = "run"
    """How long a total is for: each ``"hour"``, ``"day"``, ``"week"`` (from Monday) or ``"month"``
    brings a new one; ``"run"``: it is never renewed."""
    timezone: str = "UTC"
    """Whose clocks say when a window begins, by its IANA name, such as ``"Europe/Berlin"``."""

    @field_validator("timezone", mode="before")
    @classmethod
    def _timezone_is_known(cls, timezone: Any) -> str:
        return zone_of(timezone.key if isinstance(timezone, ZoneInfo) else timezone).key

    if not TYPE_CHECKING:  # which shall see what the fields take

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                unknown = unknown_zone_in(error)
                if unknown is None:
                    raise
                raise unknown from None


def unknown_zone_in(error: ValidationError) -> UnknownTimeZoneError | None:
    """Return the error about a time zone that pydantic has put among others."""
    causes = (details.get("ctx", {}).get("error") for details in error.errors())
    return next((cause for cause in causes if isinstance(cause, UnknownTimeZoneError)), None)


class BudgetLimit(LimitSettings):
    """A limit around a plan's runs, such as what a user may spend in a day.

    Args:
        total_tokens: Tokens, input and output, that may be spent in each window.
        total_usd: US dollars that may be spent in each window.
        per: Who shares the total; by default all runs of the plan.
        window: How long a total is for; ``"run"``: it is never renewed.
        timezone: Whose clocks say when a window begins.
        name: Under which name it is kept. Plans whose limits have the same name, in the same store
            (or, without one, in the same process), share them; by default it is the plan's own.

    Raises:
        ValueError: It limits nothing, or a value makes no sense.
        UnknownTimeZoneError: There is no such time zone.

    Example:
        >>> BudgetLimit(total_usd=5, per="user", window="day", timezone="Asia/Kolkata").per
        'user'
    """

    total_tokens: int | None = Field(default=None, gt=0, le=NO_TOKEN_LIMIT)
    total_usd: float | None = Field(default=None, ge=LEAST_USD, le=MOST_USD, allow_inf_nan=False)
    per: Per = "plan"
    name: str | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.total_tokens is None and self.total_usd is None:
            raise ValueError("a limit needs total_tokens or total_usd, or both")
        return self


class LimitValues(TypedDict, total=False):
    """A :class:`BudgetLimit` as a dict."""

    total_tokens: int | None
    total_usd: float | None
    per: Per
    window: Window
    timezone: str | ZoneInfo
    name: str | None


# What accounts are made of


class Owners(NamedTuple):
    """On whose account a call goes; ``None``: nobody has said."""

    user: str | None = None
    organization: str | None = None
    thread: str | None = None
    tools: tuple[BudgetLimit, ...] = ()
    """Limits of the tools inside which the call is made, the outermost first; each has a name."""


TOOL_LIMITS: ContextVar[tuple[BudgetLimit, ...]] = ContextVar(
    "langchain_tokenopt_tool_limits", default=()
)
"""Limits of the tools inside which models are called here."""

NOBODY: Final = Owners()
_NEVER: Final = Span(0, 0)


@dataclass(slots=True)
class AccountLevel:
    """One total that calls are paid from."""

    name: str
    per: Per
    totals: AccountTotals
    """What each of its accounts begins with."""
    window: Window = "run"
    timezone: str = "UTC"
    run: str = ""
    """Which run it belongs to, where it is that of a run."""
    scope: str = ""
    part: Per | None = None
    """Who has the total for itself, where several are paid from one run."""
    is_adjusted: bool = False
    """Whether a run that goes on has the total that is asked for now: as of a tool's limit."""
    _span: Span = field(default=_NEVER, init=False)
    """The window that was asked for last."""
    _latest: Opening | None = field(default=None, init=False)
    """What was opened last."""

    @classmethod
    def of(cls, limit: BudgetLimit, *, name: str, run: str = "", scope: str = "") -> Self:
        """Return the level that a limit describes.

        Args:
            limit: What the user wrote.
            name: Of the plan, for limits without a name of their own.
            run: Which run pays.
            scope: Which plan it is, for limits without a name of their own.
        """
        totals = AccountTotals.of(limit.total_tokens, limit.total_usd)
        own = (name, scope) if limit.name is None else (limit.name, "")
        return cls(own[0], limit.per, totals, limit.window, limit.timezone, run, own[1])

    def opening(self, owners: Owners, now: float) -> Opening:
        """Return which account is to be opened.

        Args:
            owners: On whose account the call goes.
            now: Seconds since 1970; only a level with windows looks at it.
        """
        owner = ""
        if self.per == "run":
            owner = self.run
        elif self.per != "plan":
            owner = getattr(owners, self.per) or ""
        part = "" if self.part is None else getattr(owners, self.part) or ""
        span = self._span
        if self.window != "run" and not span.starts <= now < span.ends:
            span = self._span = span_at(self.window, zone_of(self.timezone), now)
        latest = self._latest
        if latest is not None:
            key = latest.key
            if key.owner == owner and key.part == part and key.starts == span.starts:
                return latest
        ends = None if self.window == "run" else span.ends
        window, zone = self.window, self.timezone
        key = AccountKey(
            self.name, self.per, owner, part, window, span.starts, ends, zone, self.scope
        )
        latest = self._latest = Opening(key, self)
        return latest

    def renew(self, totals: AccountTotals) -> None:
        """Let an account that is renewed, or shared, have the totals that are asked for now."""
        if self.is_adjusted or self.per != "run" or self.window != "run":
            totals.total_tokens = self.totals.total_tokens
            totals.total_nano_usd = self.totals.total_nano_usd


class Expects(NamedTuple):
    """What a change will look for: a store that is far away brings it along."""

    agent: str | None = None
    lease: str | None = None
    run_id: str | None = None
    """Whose lease, if it holds one."""


NOTHING: Final = Expects()


class Opening(NamedTuple):
    """An account to be opened."""

    key: AccountKey
    level: AccountLevel | None = None
    """What to make a new one of; ``None``: none is made."""
    expects: Expects = NOTHING

    def at(self, moment: float) -> Opening:
        """Return the same account in the window at *moment*."""
        assert self.level is not None
        span = span_at(self.key.window, zone_of(self.key.timezone), moment)
        return self._replace(key=self.key._replace(starts=span.starts, ends=span.ends))


def check_levels(levels: Sequence[AccountLevel]) -> None:
    """Check that no two levels are one account.

    Raises:
        ValueError: Two are; the message says which.
    """
    seen = set()
    for level in levels:
        place = level.name, level.per, level.window
        if place in seen:
            raise ValueError(
                f"two limits are per={level.per!r} and window={level.window!r}: they would be one "
                f"account. Leave one out, or give it a name of its own."
            )
        seen.add(place)
