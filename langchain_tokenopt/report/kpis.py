"""Sixteen key figures of a period: one pure function each, from what a ledger says.

Every figure comes with its numerator and denominator, with how many calls (runs, prompts, budgets)
it rests on, and how many had to be left out because something about them is not known. Ratios are
of sums; none is a mean of ratios. Sums of money and tokens are over billed calls; ratios of tokens
are over those that were answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from langchain_tokenopt.ledger import KpiSnapshot
from langchain_tokenopt.report.facts import Facts

__all__ = ["KPIS", "TARGETS", "Kpi", "Target", "kpis", "snapshots_of", "state_of"]

Unit = Literal["usd", "ratio", "times", "seconds"]
State = Literal["good", "watch", "bad", "none"]


@dataclass(frozen=True, slots=True)
class Kpi:
    """One key figure."""

    name: str
    title: str
    unit: Unit
    value: float | None
    """In dollars, a fraction, so many times, or seconds; ``None``: nothing to divide by."""
    numerator: float
    """Money in billionths of a dollar."""
    denominator: float
    n: int
    """What it rests on: calls, runs, prompts or budgets."""
    n_excluded: int = 0
    """What is not in it, because a price or a measurement is missing."""
    parts: Mapping[str, float | None] = field(default_factory=dict)
    """Figures that belong beside it."""


def _ratio(
    name: str,
    title: str,
    unit: Unit,
    numerator: float,
    denominator: float,
    n: int,
    n_excluded: int = 0,
    *,
    scale: float = 1.0,
    **parts: float | None,
) -> Kpi:
    # Of less than nothing there is no share: savings may be negative, and larger than the rest.
    value = scale * numerator / denominator if denominator > 0 else None
    return Kpi(name, title, unit, value, numerator, denominator, n, n_excluded, parts)


_USD: Final = 1e-9


def total_spend(facts: Facts) -> Kpi:
    """Sum of what billed calls cost."""
    t = facts.totals
    priced = t.billed_calls - t.unpriced_calls
    return _ratio(
        "total_spend",
        "total spend",
        "usd",
        t.cost_nano_usd,
        1,
        priced,
        t.unpriced_calls,
        scale=_USD,
    )


def cost_per_run(facts: Facts) -> Kpi:
    """Spend of a run, on average; the middle one and the 95th of 100 beside it."""
    f = facts.figures
    return _ratio(
        "cost_per_run", "cost per run", "usd", f.runs_nano_usd, f.runs, f.runs, f.unpriced_runs,
        scale=_USD,
        p50=None if f.run_p50_nano_usd is None else _USD * f.run_p50_nano_usd,
        p95=None if f.run_p95_nano_usd is None else _USD * f.run_p95_nano_usd,
    )  # fmt: skip


def blended_cost(facts: Facts) -> Kpi:
    """Cost of a million tokens, input and output together, of calls with a price."""
    t = facts.totals
    tokens = t.total_tokens - facts.figures.unpriced_tokens
    return _ratio(
        "blended_cost", "cost per 1M tokens", "usd", t.cost_nano_usd, tokens,
        t.billed_calls - t.unpriced_calls, t.unpriced_calls, scale=1e6 * _USD,
    )  # fmt: skip


def savings_rate(facts: Facts) -> Kpi:
    """Money saved, of what would have been spent."""
    t = facts.totals
    unpriced = sum(effect.unpriced_uses for effect in facts.effects if not effect.observed)
    uses = sum(effect.uses for effect in facts.effects if not effect.observed)
    return _ratio(
        "savings_rate", "cost savings", "ratio", t.saved_nano_usd,
        t.cost_nano_usd + t.saved_nano_usd, uses - unpriced, unpriced,
    )  # fmt: skip


def token_reduction(facts: Facts) -> Kpi:
    """Tokens avoided, net, of what calls with a measured baseline would have taken."""
    f = facts.figures
    calls = facts.totals.calls
    return _ratio(
        "token_reduction", "token reduction", "ratio", f.avoided_tokens,
        f.measured_tokens + f.avoided_tokens, f.measured_calls, calls - f.measured_calls,
        coverage=f.measured_calls / calls if calls else None,
    )  # fmt: skip


def compression_ratio(facts: Facts) -> Kpi:
    """How many times longer prompts were before a stage made them shorter."""
    f = facts.figures
    return _ratio(
        "compression_ratio", "prompt compression", "times", f.tokens_before, f.tokens_after,
        f.shortened, f.not_shortened,
    )  # fmt: skip


def reasoning_share(facts: Facts) -> Kpi:
    """Reasoning, of all output tokens."""
    t = facts.whole_answers
    return _ratio(
        "reasoning_share", "reasoning share", "ratio", t.reasoning_tokens, t.output_tokens,
        t.billed_calls, facts.unfinished.billed_calls,
    )  # fmt: skip


def output_to_input(facts: Facts) -> Kpi:
    """Output tokens for each input token."""
    t = facts.whole_answers
    return _ratio(
        "output_to_input", "output to input", "ratio", t.output_tokens, t.input_tokens,
        t.billed_calls, facts.unfinished.billed_calls,
    )  # fmt: skip


def cache_hit_rate(facts: Facts) -> Kpi:
    """Calls that a response cache has answered, of all that were answered."""
    t = facts.totals
    answered = t.calls - facts.unfinished.calls
    return _ratio(
        "cache_hit_rate", "response cache hits", "ratio", t.cached_calls, answered, answered,
        facts.unfinished.calls,
    )  # fmt: skip


def prompt_cache_ratio(facts: Facts) -> Kpi:
    """Input that was read from the provider's prompt cache."""
    t = facts.whole_answers
    return _ratio(
        "prompt_cache_ratio", "prompt cache reads", "ratio", t.cache_read_tokens, t.input_tokens,
        t.billed_calls, facts.unfinished.billed_calls,
    )  # fmt: skip


def cache_net_savings(facts: Facts) -> Kpi:
    """Money that both kinds of caches saved, less what writing to the providers' cost more."""
    hits, prompts, f = facts.totals.cached_calls, facts.prompt_cache, facts.figures
    saved = f.cached_saved_nano_usd + prompts.saved_nano_usd
    return _ratio(
        "cache_net_savings", "caches saved, net", "usd", saved, 1,
        hits - f.unpriced_hits + prompts.calls, f.unpriced_hits + prompts.unpriced_calls,
        scale=_USD, responses=_USD * f.cached_saved_nano_usd, prompts=_USD * prompts.saved_nano_usd,
    )  # fmt: skip


def budget_utilisation(facts: Facts) -> Kpi:
    """Spent and held, of the limits of budgets that did something; the fullest beside it."""
    limited = [state for state in facts.budgets if state.limit_tokens > 0]
    return _ratio(
        "budget_utilisation", "budget use", "ratio",
        sum(state.spent_tokens + state.held_tokens for state in limited),
        sum(state.limit_tokens for state in limited),
        len(limited), len(facts.budgets) - len(limited),
        fullest=max((state.used_ratio for state in limited), default=None),
    )  # fmt: skip


def burn_rate(facts: Facts) -> Kpi:
    """Spend an hour, over the period; what the period or the day will have cost beside it."""
    t, hours = facts.totals, _hours(facts)
    forecast = facts.forecast
    seen = None if forecast is None else forecast.at_end
    return _ratio(
        "burn_rate", "spend per hour", "usd", t.cost_nano_usd, hours or 0,
        t.billed_calls - t.unpriced_calls, t.unpriced_calls, scale=_USD,
        forecast=None if seen is None else _USD * seen.expected,
        forecast_low=None if seen is None else _USD * seen.low,
        forecast_high=None if seen is None else _USD * seen.high,
        forecast_error=None if seen is None else seen.error,
    )  # fmt: skip


def _hours(facts: Facts) -> float | None:
    if facts.since is None or facts.until is None:
        return None
    return (facts.until - facts.since) / timedelta(hours=1)


def overshoot(facts: Facts) -> Kpi:
    """Tokens spent beyond limits, of the limits; calls that were refused beside it."""
    limited = [state for state in facts.budgets if state.limit_tokens > 0]
    refused, calls = facts.figures.refused_calls, facts.totals.billed_calls
    return _ratio(
        "overshoot", "budget overshoot", "ratio",
        sum(max(0, state.spent_tokens - state.limit_tokens) for state in limited),
        sum(state.limit_tokens for state in limited),
        len(limited), len(facts.budgets) - len(limited),
        refused_rate=refused / calls if calls else None, refused=float(refused),
    )  # fmt: skip


def waste(facts: Facts) -> Kpi:
    """Money that went into calls without a whole answer; how long the others took beside it."""
    t, lost = facts.totals, facts.unfinished
    return _ratio(
        "waste", "failed or abandoned", "ratio", lost.cost_nano_usd, t.cost_nano_usd,
        t.billed_calls - t.unpriced_calls, t.unpriced_calls,
        latency_p50=t.duration_p50_seconds, latency_p95=t.duration_p95_seconds,
        first_chunk_p50=t.first_chunk_p50_seconds, first_chunk_p95=t.first_chunk_p95_seconds,
    )  # fmt: skip


def data_quality(facts: Facts) -> Kpi:
    """Billed calls whose tokens the provider reported; how many have a price beside it."""
    t, kept = facts.totals, facts.compliance
    billed = t.billed_calls - facts.figures.refused_calls  # nothing of these can be reported
    return _ratio(
        "data_quality", "reported usage", "ratio", billed - t.estimated_calls, billed, billed,
        priced=(billed - t.unpriced_calls) / billed if billed else None,
        word_limits_kept=(kept.answers - kept.trimmed - kept.stopped) / kept.answers
        if kept.answers else None,
    )  # fmt: skip


KPIS: Final[Mapping[str, Callable[[Facts], Kpi]]] = {
    each.__name__: each
    for each in (
        total_spend, cost_per_run, blended_cost, savings_rate, token_reduction, compression_ratio,
        reasoning_share, output_to_input, cache_hit_rate, prompt_cache_ratio, cache_net_savings,
        budget_utilisation, burn_rate, overshoot, waste, data_quality,
    )
}  # fmt: skip
"""All of them, by name."""


def kpis(facts: Facts) -> list[Kpi]:
    """Return all key figures; as they were kept, where the records they follow from are gone."""
    kept = {each.kpi: each for each in facts.snapshots}
    found = [kpi(facts) for kpi in KPIS.values()]
    return [_as_kept(each, kept[each.name]) if each.name in kept else each for each in found]


def _as_kept(kpi: Kpi, kept: KpiSnapshot) -> Kpi:
    known = {name: getattr(kept, name) for name in _KEPT}
    return replace(kpi, **known, parts={})


_KEPT: Final = ("value", "numerator", "denominator", "n", "n_excluded")


# Targets


@dataclass(frozen=True, slots=True)
class Target:
    """From where a figure is good, and from where it is bad."""

    good: float
    bad: float
    """Smaller than ``good``: more is better."""


TARGETS: Final[Mapping[str, Target]] = {
    "savings_rate": Target(0.20, 0.0),
    "token_reduction": Target(0.20, 0.0),
    "compression_ratio": Target(1.5, 1.0),
    "prompt_cache_ratio": Target(0.30, 0.02),
    "cache_hit_rate": Target(0.10, 0.0),
    "cache_net_savings": Target(0.0, -0.01),
    "budget_utilisation": Target(0.75, 0.95),
    "overshoot": Target(0.0, 0.001),
    "waste": Target(0.02, 0.05),
    "data_quality": Target(0.98, 0.80),
}
"""Of figures that have a better and a worse side. Judgement, not measurement: set your own."""


def state_of(kpi: Kpi, targets: Mapping[str, Target] = TARGETS) -> State:
    """Say how a figure stands to its target; ``"none"``: it has none, or nothing was measured.

    Example:
        >>> state_of(Kpi("waste", "failed", "ratio", 0.03, 3, 100, 10))
        'watch'
    """
    target = targets.get(kpi.name)
    if target is None or kpi.value is None or not kpi.n:
        return "none"
    sign = 1 if target.good >= target.bad else -1
    if sign * kpi.value >= sign * target.good:
        return "good"
    return "bad" if sign * kpi.value <= sign * target.bad else "watch"


def snapshots_of(found: list[Kpi], at: datetime, span: timedelta) -> list[KpiSnapshot]:
    """Return figures as :meth:`Ledger.keep_snapshot` keeps them."""
    hours = max(1, round(span / timedelta(hours=1)))
    return [
        KpiSnapshot(
            at, hours, kpi.name, kpi.value, kpi.numerator, kpi.denominator, kpi.n, kpi.n_excluded
        )
        for kpi in found
    ]
