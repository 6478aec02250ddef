"""Sums over a period that need more than hourly totals: runs, baselines, what has no price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func, select

from langchain_tokenopt.core.records import percentile
from langchain_tokenopt.ledger.queries import Queries, run_keys
from langchain_tokenopt.ledger.rows import STATUSES
from langchain_tokenopt.ledger.schema import calls, savings

__all__ = ["PeriodFigures", "period_figures"]


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """What key figures are made of, beside the totals."""

    refused_calls: int
    """Calls that a budget has stopped before they were sent."""
    unpriced_tokens: int
    """Billed tokens of calls without any price."""
    cached_saved_nano_usd: int
    """What the answers of response caches would have cost."""
    unpriced_hits: int
    """Answers of response caches without a price."""
    runs: int
    """Runs whose calls all have a price."""
    runs_nano_usd: int
    """What these cost."""
    unpriced_runs: int
    run_p50_nano_usd: int | None
    run_p95_nano_usd: int | None
    measured_calls: int
    """Calls of which is known what they would have taken: cached, or with savings of a stage."""
    measured_tokens: int
    """What these took."""
    avoided_tokens: int
    """What they would have taken more, less what stages spent themselves."""
    shortened: int
    """Prompts that a stage has made shorter, or tried to."""
    tokens_before: int
    """Of these prompts."""
    tokens_after: int
    not_shortened: int
    """Savings of another kind: of answers, or of whole calls."""


def period_figures(queries: Queries) -> PeriodFigures:
    """Add up what one reading of the rows can say."""
    c, s = calls.c, savings.c
    tokens = c.input_tokens + c.output_tokens
    billed, no_price = c.cached == 0, c.cost_nano_usd.is_(None)
    refused, unpriced, saved, no_saving = queries.selected(
        calls,
        _count(c.status == STATUSES.index("refused")),
        _sum(case((billed & no_price, tokens), else_=0)),
        _sum(case((~billed, func.coalesce(c.saved_nano_usd, 0)), else_=0)),
        _count(~billed & c.saved_nano_usd.is_(None)),
    )[0]
    runs = queries.selected(
        calls,
        _sum(case((billed, func.coalesce(c.cost_nano_usd, 0)), else_=0)),
        _count(billed & (no_price | c.unpriced.is_not(None))),
        where=[c.run.is_not(None)],
        group_by=run_keys(),
    )
    costs = [int(cost) for cost, unpriced_calls in runs if not unpriced_calls]
    acted = select(s.call).where(s.observed == 0, s.call.is_not(None))
    measured, taken, cached = queries.selected(
        calls,
        func.count(),
        _sum(case((billed, tokens), else_=0)),
        _sum(case((billed, 0), else_=tokens)),
        where=[~billed | c.id.in_(acted)],
    )[0]
    of_prompts = (s.output_side == 0) & (s.tokens_after > 0)
    shortened, before, after, others, net = queries.selected(
        savings,
        _count(of_prompts),
        _sum(case((of_prompts, s.tokens_before), else_=0)),
        _sum(case((of_prompts, s.tokens_after), else_=0)),
        _count(~of_prompts),
        _sum(case((s.call.is_(None), 0), else_=s.tokens_before - s.tokens_after - s.spent_tokens)),
        where=[s.observed == 0],
    )[0]
    return PeriodFigures(
        refused_calls=int(refused),
        unpriced_tokens=int(unpriced),
        cached_saved_nano_usd=int(saved),
        unpriced_hits=int(no_saving),
        runs=len(costs),
        runs_nano_usd=sum(costs),
        unpriced_runs=len(runs) - len(costs),
        run_p50_nano_usd=_percentile(costs, 0.50),
        run_p95_nano_usd=_percentile(costs, 0.95),
        measured_calls=int(measured),
        measured_tokens=int(taken),
        avoided_tokens=int(cached) + int(net),
        shortened=int(shortened),
        tokens_before=int(before),
        tokens_after=int(after),
        not_shortened=int(others),
    )


def _sum(number: Any) -> ColumnElement[Any]:
    return func.coalesce(func.sum(number), 0)


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return _sum(case((condition, 1), else_=0))


def _percentile(values: list[int], share: float) -> int | None:
    found = percentile(values, share)
    return None if found is None else int(found)
