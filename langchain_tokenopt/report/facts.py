"""What a ledger says about a period: asked once, for figures, recommendations and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, Unpack

from langchain_tokenopt.core.dimensions import Filters
from langchain_tokenopt.core.records import COUNTS, BudgetEvent, UsageTotals
from langchain_tokenopt.ledger import Effect, Ledger, PeriodFigures
from langchain_tokenopt.limits.compliance import STAGE, Compliance, compliance_of
from langchain_tokenopt.pricing.money import UNITS_PER_NANO_USD
from langchain_tokenopt.pricing.rate_card import RateCard, default_rate_card
from langchain_tokenopt.report.spend_forecast import SpendForecast, forecast_spend

__all__ = ["BudgetState", "Facts", "PromptCacheMoney"]

_PERIODS_BEFORE = 8
"""As many periods before are looked at for a forecast."""


@dataclass(frozen=True, slots=True)
class PromptCacheMoney:
    """What the providers' prompt caches saved, at the rates of the day."""

    saved_nano_usd: int = 0
    """By reading, less the surcharge for writing; may be negative."""
    calls: int = 0
    unpriced_calls: int = 0
    """Of models, or on days, without a known rate."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget, as its last event of the period has seen it."""

    budget: str
    owner: str
    spent_tokens: int
    held_tokens: int
    limit_tokens: int
    alerts: int = 0
    denied: int = 0

    @property
    def used_tokens(self) -> int:
        """Spent and held."""
        return self.spent_tokens + self.held_tokens

    @property
    def used_ratio(self) -> float:
        """Spent and held, of the limit."""
        return self.used_tokens / self.limit_tokens if self.limit_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a ledger says about a period."""

    since: datetime | None
    until: datetime | None
    totals: UsageTotals
    """With percentiles."""
    unfinished: UsageTotals
    by_agent: Mapping[str, UsageTotals]
    by_model: Mapping[str, UsageTotals]
    by_tool: Mapping[str, UsageTotals]
    effects: Sequence[Effect]
    figures: PeriodFigures
    prompt_cache: PromptCacheMoney
    compliance: Compliance
    budgets: Sequence[BudgetState]
    forecast: SpendForecast | None
    """Of the period's spend at its end, where it has one that is still to come; else of the day."""
    forecast_ends: datetime | None

    @property
    def whole_answers(self) -> UsageTotals:
        """Sums over billed calls that were answered."""
        left = {n: getattr(self.totals, n) - getattr(self.unfinished, n) for n in COUNTS}
        return UsageTotals(**left)

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        rate_card: RateCard | None = None,
        now: datetime | None = None,
        **filters: Unpack[Filters],
    ) -> Self:
        """Ask *ledger* about a period.

        Args:
            ledger: Which.
            since: Begin of the period; ``None``: that of the ledger.
            until: Its end; ``None``: now.
            rate_card: Prices, for what prompt caches saved. By default those of genai-prices.
            now: Until when there is anything to know.
            **filters: Which calls.
        """
        now = now or datetime.now(UTC)
        asked: dict[str, Any] = {"since": since, "until": until, **filters}
        forecast, ends = _forecast(ledger, since, until, now, filters)
        return cls(
            since=since,
            until=until,
            totals=ledger.totals(**asked, percentiles=True),
            unfinished=ledger.unfinished(**asked),
            by_agent=ledger.by("agent", **asked),
            by_model=ledger.by("model", **asked),
            by_tool=ledger.by("tool", **asked),
            effects=ledger.effects(**asked),
            figures=ledger.figures(**asked),
            prompt_cache=_prompt_cache_money(ledger, rate_card or default_rate_card(), **asked),
            compliance=_compliance(ledger, **asked),
            budgets=_budgets(ledger.budget_events(since=since, until=until), filters),
            forecast=forecast,
            forecast_ends=ends,
        )


def _prompt_cache_money(ledger: Ledger, card: RateCard, **asked: Any) -> PromptCacheMoney:
    """Price what was read from and written to prompt caches, day by day and model by model."""
    units = calls = unpriced = 0
    groups = ledger.by("day", "model", "provider", "service_tier", **asked)
    for (day, *names), totals in groups.items():
        read, written = totals.cache_read_tokens, totals.cache_write_tokens
        if not (read or written):
            continue
        model, provider, tier = (None if name == "(none)" else name for name in names)
        noon = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
        rates = card.rates(model, provider, noon, tier)
        calls += totals.billed_calls
        if rates is None:
            unpriced += totals.billed_calls
            continue
        if rates.cache_read is not None:
            units += read * (rates.input - rates.cache_read)
        if rates.cache_write is not None:
            units -= written * (rates.cache_write - rates.input)
    return PromptCacheMoney(round(units / UNITS_PER_NANO_USD), calls - unpriced, unpriced)


def _compliance(ledger: Ledger, **asked: Any) -> Compliance:
    """Read the answers under a word limit, if there were any."""
    whole = Compliance()
    for stages in ledger.by("stages", **asked):
        if STAGE in stages:
            limited = compliance_of(ledger.calls(**{**asked, "stages": stages}))
            whole = sum(limited.values(), whole)
    return whole


def _budgets(events: Sequence[BudgetEvent], filters: Filters) -> list[BudgetState]:
    """Return the latest state of every budget that did something, the fullest first."""
    found: dict[tuple[str, str], BudgetState] = {}
    for event in events:
        if filters.get("agent") not in (None, event.agent):
            continue
        key = event.budget, event.run or event.thread_id or ""
        before = found.get(key)
        state = BudgetState(
            *key,
            spent_tokens=event.spent_tokens,
            held_tokens=event.held_tokens,
            limit_tokens=event.limit_tokens,
            alerts=(before.alerts if before else 0) + (event.kind == "alert"),
            denied=(before.denied if before else 0) + (event.kind == "denied"),
        )
        found[key] = state
    return sorted(found.values(), key=lambda state: (-state.used_ratio, state.budget, state.owner))


def _forecast(
    ledger: Ledger,
    since: datetime | None,
    until: datetime | None,
    now: datetime,
    filters: Filters,
) -> tuple[SpendForecast | None, datetime | None]:
    """Forecast the spend at the end of a period that is not over; else at that of the day."""
    hour = timedelta(hours=1)
    current = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if since is not None and until is not None and since <= now < until:
        begin = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = max(1, -(-(until - begin) // hour))
    else:
        begin, hours = current.replace(hour=0), 24
    first = begin - hours * hour * _PERIODS_BEFORE
    spent = ledger.by("hour", since=first, until=current, tz=UTC, **filters)
    if not spent:
        return None, None
    known = {datetime.fromisoformat(at): totals.cost_nano_usd for at, totals in spent.items()}
    history = [known.get(first + n * hour, 0) for n in range(hours * _PERIODS_BEFORE)]
    over = [known.get(begin + n * hour, 0) for n in range((current - begin) // hour)]
    running = ledger.totals(since=current, until=now, **filters).cost_nano_usd
    found = forecast_spend(history, over, hours)
    # What the hour that is running has cost already is spent, whatever was foretold.
    least = found.spent + running
    return replace(
        found,
        spent=least,
        **{name: max(getattr(found, name), least) for name in ("expected", "low", "high")},
    ), begin + hours * hour
