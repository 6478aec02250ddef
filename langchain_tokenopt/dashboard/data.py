"""What the page shows, as JSON: asked of the ledger in one place, for a period and filters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from langchain_tokenopt.core.dimensions import DIMENSIONS, Filters
from langchain_tokenopt.core.records import CallRecord, UsageTotals
from langchain_tokenopt.ledger import Ledger, LedgerError
from langchain_tokenopt.pricing.money import format_usd
from langchain_tokenopt.report import Facts, kpis, recommendations, state_of
from langchain_tokenopt.report.figures import cost_over_time, savings_by_stage
from langchain_tokenopt.report.values import format_change, format_kpi

__all__ = ["FILTERS", "RANGES", "call_as_json", "data_of", "period_of", "problem_of"]

RANGES: Mapping[str, timedelta | None] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "all": None,
}
FILTERS = tuple(name for name in DIMENSIONS if re.fullmatch("agent|model|tag|user", name))
_SHOWN = 10


def period_of(query: Mapping[str, str]) -> tuple[datetime | None, Filters]:
    """Read the range and the filters from the address; what cannot be read is left out."""
    length = RANGES.get(query.get("range", "24h"), RANGES["24h"])
    since = None if length is None else datetime.now(UTC) - length
    filters = Filters(**{name: query[name] for name in FILTERS if query.get(name)})  # type: ignore[typeddict-item]
    return since, filters


def problem_of(error: LedgerError, location: str) -> dict[str, Any]:
    """Return what the page shows instead of figures."""
    return {"problem": str(error), "ledger": location}


def data_of(ledger: Ledger, query: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that the page shows of a period."""
    since, filters = period_of(query)
    now = datetime.now(UTC)
    span = ledger.span()
    if span is None:
        return problem_of(LedgerError("There are no calls in it yet."), ledger.location)
    begin = since or span[0]
    facts = Facts.of(ledger, begin, now, now=now, **filters)
    before = Facts.of(ledger, begin - (now - begin), begin, now=begin, **filters)
    asked: dict[str, Any] = {"since": begin, "until": now, **filters}
    earlier = {each.name: each for each in kpis(before)}
    return {
        "ledger": ledger.location,
        "calls": facts.totals.calls,
        "since": begin.isoformat(timespec="minutes"),
        "first": span[0].isoformat(timespec="minutes"),
        "tiles": [
            {
                "name": each.name,
                "title": each.title,
                "value": format_kpi(each),
                "change": format_change(each, earlier.get(each.name)),
                "state": state_of(each),
                "n": each.n,
                "n_excluded": each.n_excluded,
            }
            for each in kpis(facts)
        ],
        "forecast": _forecast(facts),
        "figures": {
            "by_agent": cost_over_time(ledger, "agent", **asked),
            "by_model": cost_over_time(ledger, "model", **asked),
            "savings": savings_by_stage(ledger, **asked),
        },
        "spenders": {
            name: _spenders(groups)
            for name, groups in (
                ("agent", facts.by_agent),
                ("model", facts.by_model),
                ("user", ledger.by("user", **asked)),
                ("tag", ledger.by("tag", **asked)),
            )
        },
        "budgets": [
            {
                "budget": state.budget,
                "owner": state.owner,
                "used": state.used_ratio,
                "text": f"{state.used_tokens:,} of {state.limit_tokens:,} tokens",
                "alerts": state.alerts,
                "denied": state.denied,
            }
            for state in facts.budgets[:_SHOWN]
        ],
        "advice": [
            {
                "text": f"{line.figure} {line.advice}",
                "command": line.command,
                "saves": None if line.saved_nano_usd is None else format_usd(line.saved_nano_usd),
            }
            for line in recommendations(facts)
        ],
    }


def _forecast(facts: Facts) -> str | None:
    seen, ends = facts.forecast, facts.forecast_ends
    if seen is None or ends is None:
        return None
    missed = "" if seen.error is None else f"; such forecasts missed by {seen.error:.0%}"
    return (
        f"By {ends:%Y-%m-%d %H:%M} UTC expect {format_usd(seen.expected)} "
        f"({format_usd(seen.low)} to {format_usd(seen.high)}){missed}."
    )


def _spenders(groups: Mapping[str, UsageTotals]) -> list[dict[str, Any]]:
    ranked = sorted(groups.items(), key=lambda item: (-item[1].cost_nano_usd, item[0]))
    cost = sum(totals.cost_nano_usd for totals in groups.values())
    tokens = sum(totals.total_tokens for totals in groups.values())
    return [
        {
            "name": name,
            "cost": format_usd(totals.cost_nano_usd) + ("+" if totals.unpriced_calls else ""),
            "of cost": f"{totals.cost_nano_usd / max(1, cost):.1%}",
            "tokens": f"{totals.total_tokens:,}",
            "of tokens": f"{totals.total_tokens / max(1, tokens):.1%}",
            "calls": f"{totals.calls:,}",
        }
        for name, totals in ranked[:_SHOWN]
    ]


def call_as_json(call: CallRecord) -> dict[str, Any]:
    """Return a call as the list of latest calls shows it."""
    return {
        "at": call.started_at.isoformat(timespec="seconds"),
        **{name: getattr(call.attribution, name, None) or "" for name in FILTERS},
        "model": call.model or "",
        "tokens": f"{call.spent_tokens:,}",
        "cost": format_usd(call.cost_nano_usd),
        "status": "from a cache" if call.cached else call.status,
    }
