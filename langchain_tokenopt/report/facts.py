"""What a ledger says about a period: asked once, for figures, recommendations and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Self, Unpack

from langchain_tokenopt.core.dimensions import STAGE_SEPARATOR, Dimension, Filters
from langchain_tokenopt.core.records import COUNTS, UsageTotals
from langchain_tokenopt.forecast.spend import SpendForecast, SpendPeriod, forecast_spend
from langchain_tokenopt.ledger import (
    BudgetState,
    Effect,
    KpiSnapshot,
    Ledger,
    Period,
    PeriodFigures,
)
from langchain_tokenopt.limits.compliance import STAGE, STOPPED, TRIMMED, Compliance
from langchain_tokenopt.pricing.money import UNITS_PER_NANO_USD
from langchain_tokenopt.pricing.rate_card import RateCard, default_rate_card

__all__ = ["BudgetState", "Facts", "PromptCacheMoney"]


@dataclass(frozen=True, slots=True)
class PromptCacheMoney:
    """What the providers' prompt caches saved, at the rates of the day."""

    saved_nano_usd: int = 0
    """By reading, less the surcharge for writing; may be negative."""
    calls: int = 0
    unpriced_calls: int = 0
    """Of models, or on days, without a known rate."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a ledger says about a period."""

    location: str
    """Of the ledger."""
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
    compliance_by_agent: Mapping[str, Compliance]
    """How answers under a word limit kept to it; whether they were asked to is not told apart."""
    budgets: Sequence[BudgetState]
    """None where the calls are filtered by more than an agent: a budget is not one user's part."""
    forecast: SpendForecast | None
    """Of the period's spend at its end, where it has one that is still to come; else of the day.
    ``None``: it was not wanted."""
    filters: Filters = field(default_factory=Filters)
    """Which calls it is about; empty: all."""
    snapshots: Sequence[KpiSnapshot] = ()
    """Key figures of the period as they were kept, where the ledger has no records of its begin."""

    @property
    def whole_answers(self) -> UsageTotals:
        """Sums over billed calls that were answered."""
        left = {n: getattr(self.totals, n) - getattr(self.unfinished, n) for n in COUNTS}
        return UsageTotals(**left)

    @property
    def compliance(self) -> Compliance:
        """Over all agents."""
        return sum(self.compliance_by_agent.values(), Compliance())

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        rate_card: RateCard | None = None,
        now: datetime | None = None,
        beside: bool = True,
        period: Period | None = None,
        **filters: Unpack[Filters],
    ) -> Self:
        """Ask *ledger* about a period.

        Args:
            ledger: Which.
            since: Begin of the period; ``None``: that of the ledger.
            until: Its end; ``None``: now.
            rate_card: Prices, for what prompt caches saved. By default those of genai-prices.
            now: Until when there is anything to know.
            beside: Also what is to come: not wanted of a period before.
            period: The ledger's, from *since* to *until* with these filters, if it is open already.
            **filters: Which calls.
        """
        now = now or datetime.now(UTC)
        card = rate_card or default_rate_card()
        with (
            nullcontext(period) if period else ledger.period(since=since, until=until, **filters)
        ) as period:
            prompt_cache = _prompt_cache_money(period, card)  # by the day: others are sums of these
            return cls(
                location=ledger.location,
                since=since,
                until=until,
                totals=period.totals(percentiles=True),
                unfinished=period.unfinished(),
                by_agent=_by(period, "agent"),
                by_model=_by(period, "model"),
                by_tool=_by(period, "tool"),
                effects=period.effects(),
                figures=period.figures(),
                prompt_cache=prompt_cache,
                compliance_by_agent=_compliance(period),
                budgets=period.budgets(filters.get("agent")) if filters.keys() <= {"agent"} else (),
                forecast=None,
                filters=filters,
            )._with_what_is_kept(ledger, now, filters, beside)

    def _with_what_is_kept(
        self, ledger: Ledger, now: datetime, filters: Filters, beside: bool
    ) -> Self:
        """Add what other periods say: a forecast, and figures that were kept."""
        since, until = self.since, self.until
        kept = () if filters else _snapshots(ledger, since, until)
        forecast = None
        if beside:
            running = since is not None and until is not None and since <= now < until
            period: SpendPeriod = (since, until) if running else "day"  # type: ignore[assignment]
            forecast = forecast_spend(ledger, period, now=now, **filters)
        return replace(self, forecast=forecast, snapshots=kept)


def _by(period: Period, dimension: Dimension) -> dict[str, UsageTotals]:
    return {name: totals for (name,), totals in period.by(dimension).items()}


def _prompt_cache_money(period: Period, card: RateCard) -> PromptCacheMoney:
    """Price what was read from and written to prompt caches, day by day and model by model."""
    units = calls = unpriced = 0
    groups = period.by("day", "model", "provider", "service_tier")
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


def _compliance(period: Period) -> dict[str, Compliance]:
    """Count the answers under a word limit, by what is said of it among their stages."""
    found: dict[str, Compliance] = {}
    for (agent, stages), totals in period.by("agent", "stages", whole_answers=True).items():
        acted = stages.split(STAGE_SEPARATOR)
        if STAGE in acted:
            trimmed, stopped = TRIMMED in acted, STOPPED in acted
            answers = Compliance(
                answers=totals.calls,
                obeyed_unasked=0 if trimmed or stopped else totals.calls,
                trimmed=totals.calls if trimmed else 0,
                stopped=totals.calls if stopped else 0,
            )
            found[agent] = found.get(agent, Compliance()) + answers
    return found


def _snapshots(
    ledger: Ledger, since: datetime | None, until: datetime | None
) -> Sequence[KpiSnapshot]:
    """Return the latest figures that were kept of a period of which records are gone."""
    span = ledger.span()
    if since is None or until is None or (span is not None and span[0] <= since):
        return ()
    hour, length = timedelta(hours=1), until - since
    kept = [
        each
        for each in ledger.snapshots(since=until - length / 24 - hour, until=until)
        if each.span_hours == max(1, round(length / hour))
    ]
    return [each for each in kept if each.at == kept[-1].at]
