"""The parts of the page: what each shows of a view."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from langchain_tokenopt.cache.stats import CacheStats
from langchain_tokenopt.core.dimensions import Dimension
from langchain_tokenopt.core.records import BudgetEvent, UsageTotals
from langchain_tokenopt.dashboard.asked import FILTERS
from langchain_tokenopt.dashboard.charts import chart_of
from langchain_tokenopt.dashboard.gauges import Gauge, gauges_of
from langchain_tokenopt.dashboard.run_page import run_path
from langchain_tokenopt.dashboard.tables import Column, Table
from langchain_tokenopt.dashboard.view import View
from langchain_tokenopt.pricing.money import format_usd
from langchain_tokenopt.report import Kpi, kpis, recommendations, state_of
from langchain_tokenopt.report.facts import Facts
from langchain_tokenopt.report.values import format_change, format_kpi

__all__ = ["PARTS", "TABLES", "tiles"]

_SHOWN = 8
_ROWS = 15
_HEADLINE: Final = (
    "total_spend",
    "cost_per_run",
    "savings_rate",
    "cache_hit_rate",
    "budget_utilisation",
    "burn_rate",
    "waste",
    "data_quality",
)


# Key figures


def _kpis(view: View) -> list[tuple[Kpi, Kpi | None]]:
    before = {} if view.before is None else {each.name: each for each in kpis(view.before)}
    return [(each, before.get(each.name)) for each in kpis(view.facts)]


def tiles(view: View) -> list[dict[str, Any]]:
    """Return the key figures, as text, with their change against the period before."""
    return [
        {
            "name": each.name,
            "title": each.title,
            "value": format_kpi(each),
            "change": format_change(each, before),
            "state": state_of(each),
            "n": each.n,
            "n_excluded": each.n_excluded,
        }
        for each, before in _kpis(view)
    ]


def key_figures(view: View) -> Table:
    """Return all key figures."""
    found = tiles(view)
    return Table(
        "kpis",
        "All key figures",
        (
            Column("figure"),
            Column("value", "said"),
            Column("change", "said"),
            Column("state"),
            Column("n", "count"),
            Column("left out", "count"),
        ),
        [
            (
                tile["title"],
                tile["value"],
                tile["change"],
                "" if tile["state"] == "none" else tile["state"],
                tile["n"],
                tile["n_excluded"],
            )
            for tile in found
        ],
        tones=[tile["state"] for tile in found],
        note="Change is against the period before of the same length.",
    )


def _overview(view: View) -> dict[str, Any]:
    shown = {tile["name"]: tile for tile in tiles(view)}
    took, before = _latencies(view)[1]
    quick = {
        "title": "latency p95",
        "value": "-" if took is None else f"{took:,.1f} s",
        "change": f"{took / before - 1:+,.1%}" if took and before else "",
        "state": "none",
    }
    alarms = [gauge for gauge in gauges_of(view)[0] if gauge.tone == "bad"]
    return {
        "calls": view.facts.totals.calls,
        "tiles": [*(shown[name] for name in _HEADLINE[:-1]), quick],
        "table": key_figures(view),
        "forecast": _forecast(view.facts),
        "alarms": alarms,
    }


def _forecast(facts: Facts) -> str:
    seen = facts.forecast
    if seen is None or seen.at_end is None:
        return ""
    error = seen.at_end.error
    missed = "" if error is None else f"; such forecasts missed by {error:.0%}"
    return (
        f"By {seen.ends:%b %d %H:%M} UTC the day will have cost about {format_usd(seen.expected)} "
        f"({format_usd(seen.low)} to {format_usd(seen.high)}){missed}."
    )


def _advice(view: View) -> dict[str, Any]:
    return {
        "advice": [
            (
                line.figure,
                line.advice,
                line.command,
                "" if line.saved_nano_usd is None else format_usd(line.saved_nano_usd),
            )
            for line in recommendations(view.facts)
        ]
    }


# Cost


def cost_table(view: View) -> Table:
    """Return the costs of each step."""
    found = view.costs
    return Table(
        "cost",
        f"Cost by {found.by}, per {found.step}",
        (Column("from (UTC)", "time"), *(Column(name, "usd") for name in found.costs)),
        [(at, *(costs.get(at, 0) for costs in found.costs.values())) for at in found.times[:-1]],
    )


def _cost(view: View) -> dict[str, Any]:
    found = view.costs
    return {
        "step": found.step,
        "chart": chart_of(found) if found.costs else None,
        "table": cost_table(view),
        "dimensions": FILTERS,
    }


def spenders(dimension: Dimension) -> Callable[[View], Table]:
    """Return what makes the table of the largest spenders in a dimension."""

    def table(view: View) -> Table:
        now, before = view.by(dimension)
        ranked = sorted(now.items(), key=lambda item: (-item[1].cost_nano_usd, item[0]))
        cost = sum(totals.cost_nano_usd for totals in now.values())
        rows = [
            (
                name,
                totals.cost_nano_usd,
                _change(totals, before.get(name)) if view.has_before else None,
                totals.cost_nano_usd / max(1, cost),
                totals.total_tokens,
                totals.calls,
            )
            for name, totals in ranked
        ]
        return Table(
            f"spend-by-{dimension}",
            f"By {dimension}",
            (
                Column(dimension),
                Column("cost", "usd"),
                Column("change", "change"),
                Column("share", "ratio", bar=True),
                Column("tokens", "count"),
                Column("calls", "count"),
            ),
            rows,
            links=[f"/?{view.asked.query_with(**{dimension: name})}" for name, _ in ranked],
        )

    return table


def _change(now: UsageTotals, before: UsageTotals | None) -> float:
    if before is None or not before.cost_nano_usd:
        return math.inf if now.cost_nano_usd else 0.0
    return now.cost_nano_usd / before.cost_nano_usd - 1


def _spenders(view: View) -> dict[str, Any]:
    return {"tables": [spenders(name)(view).head(_SHOWN) for name in FILTERS]}


# Budgets


def budgets(view: View) -> Table:
    """Return all budgets."""
    found, note = gauges_of(view)
    return Table(
        "budgets",
        "All budgets",
        (
            Column("budget"),
            Column("whose"),
            Column("used", "ratio", bar=True),
            Column("spent", "count"),
            Column("held", "count"),
            Column("limit", "count"),
            Column("alerts", "count"),
            Column("refused", "count"),
            Column("resets"),
        ),
        [
            (g.budget, g.owner, g.used, g.spent, g.held, g.limit, g.alerts, g.denied, g.resets)
            for g in found
        ],
        tones=[gauge.tone for gauge in found],
        note=note,
    )


def alerts(view: View) -> Table:
    """Return what budgets have warned of and refused, the latest first."""
    agent = view.asked.filters.get("agent")
    events = [
        event
        for event in view.ledger.budget_events(since=view.begin, until=view.end)
        if event.kind in ("alert", "denied") and agent in (None, event.agent)
    ][::-1]
    return Table(
        "alerts",
        "Alerts and refusals",
        (
            Column("what"),
            Column("time (UTC)", "time"),
            Column("budget"),
            Column("agent"),
            Column("used", "ratio"),
            Column("detail"),
        ),
        [(_KINDS[e.kind], e.at, e.budget, e.agent, _used(e), e.detail) for e in events],
        empty="None in this period.",
        tones=["bad" if event.kind == "denied" else "watch" for event in events],
    )


_KINDS: Final[Mapping[str, str]] = {"alert": "alert", "denied": "refused a call"}


def _used(event: BudgetEvent) -> float | None:
    used = event.spent_tokens + event.held_tokens
    return used / event.limit_tokens if event.limit_tokens else None


def _budgets(view: View) -> dict[str, Any]:
    found: tuple[list[Gauge], str] = gauges_of(view)
    return {
        "gauges": found[0][:12],
        "note": found[1],
        "table": budgets(view),
        "alerts": view.once("alerts", lambda: alerts(view)).head(_SHOWN),
    }


# What was saved, and how long it took


def savings(view: View) -> Table:
    """Return what each stage has saved."""
    effects = view.facts.effects
    return Table(
        "savings",
        "Saved by stage, net",
        (
            Column("stage"),
            Column("net tokens", "count", bar=True),
            Column("money", "usd"),
            Column("spent itself", "count"),
            Column("uses", "count"),
        ),
        [
            (
                each.stage + (" (only watched)" if each.observed else ""),
                each.net_saved_tokens,
                each.saved_nano_usd,
                each.spent_tokens,
                each.uses,
            )
            for each in effects
        ],
        empty="No stage has saved anything in this period. Put some around your model: "
        "`optimize(model, PromptCompressor(), SemanticCache())`.",
        tones=["bad" if each.net_saved_tokens < 0 else "" for each in effects],
    )


def _latency(t: UsageTotals) -> tuple[float | None, ...]:
    whole = t.duration_p50_seconds, t.duration_p95_seconds
    return (*whole, t.first_chunk_p50_seconds, t.first_chunk_p95_seconds)


def _latencies(view: View) -> list[tuple[float | None, float | None]]:
    """Return how long calls took, and took before."""
    before = view.before.totals if view.before else UsageTotals()
    return list(zip(_latency(view.facts.totals), _latency(before), strict=True))


def latency(view: View) -> Table:
    """Return how long calls took."""
    names = ("whole answer p50", "whole answer p95", "first chunk p50", "first chunk p95")
    return Table(
        "latency",
        "Latency",
        (
            Column("what"),
            Column("took", "seconds", bar=True),
            Column("before", "seconds"),
            Column("change", "change"),
        ),
        [
            (name, took, earlier, took / earlier - 1 if took is not None and earlier else None)
            for name, (took, earlier) in zip(names, _latencies(view), strict=True)
            if took is not None
        ],
        empty="No call of this period was sent and answered.",
        note="Of calls that were sent and answered; those from a cache are left out.",
    )


def _savings(view: View) -> dict[str, Any]:
    return {"tables": [savings(view).head(_ROWS), latency(view)]}


# Quality


def cache(view: View) -> Table:
    """Return what response caches did, and how far they can be trusted."""
    totals, unfinished = view.facts.totals, view.facts.unfinished
    stats, note = view.once("cache", view.sources.cache_stats)
    answered = totals.calls - unfinished.calls
    rows: list[tuple[str, str, str]] = []
    if totals.cached_calls or stats:
        of_answers = f"{totals.cached_calls / answered:.1%} of all answers" if answered else ""
        rows.append(("answered from a cache", f"{totals.cached_calls:,}", of_answers))
    if stats:
        rows += _evidence(stats)
    elif rows and not note:
        note = "Start with `--cache FILE` to see how many answers were audited, and the bound."
    return Table(
        "cache",
        "Response cache",
        (Column("what"), Column("value", "said"), Column("which means", "note")),
        rows,
        empty="No call was answered from a cache. Put one around your model: "
        "`optimize(model, SemanticCache('answers.db'))`, and start with `--cache answers.db`.",
        note=note,
    )


def _evidence(stats: CacheStats) -> list[tuple[str, str, str]]:
    """Return what a cache file says of itself, since it was made."""
    hits = (
        f"{stats.exact_hits:,} by the same request, {stats.same_words_hits:,} by the same words, "
        f"{stats.semantic_hits:,} by meaning"
    )
    ratio, checked, wrong = stats.hit_ratio, stats.checked, stats.checked_wrong
    bound = max((field.wrong_per_request_bound for field in stats.fields), default=None)
    fields = f"the worst of {len(stats.fields):,} fields of questions, with 95 % confidence"
    return [
        ("requests to the file", f"{stats.requests:,}", "since it was made"),
        ("hits", "-" if ratio is None else f"{ratio:.1%}", hits),
        ("audited", f"{checked:,}", "requests of which the true answer is known as well"),
        ("of these, wrong", f"{wrong:,}", f"{wrong / checked:.1%}" if checked else "none yet"),
        (
            "wrong per request, at most",
            "-" if bound is None else f"{bound:.2%}",
            "not known before answers by meaning were audited" if bound is None else fields,
        ),
    ]


def limits(view: View) -> Table:
    """Return how well agents kept to their word limits."""
    found = view.facts.compliance_by_agent
    ranked = sorted(found.items(), key=lambda item: (-item[1].answers, item[0]))
    return Table(
        "word-limits",
        "Word limits",
        (
            Column("agent"),
            Column("obeyed", "ratio", bar=True),
            Column("answers", "count"),
            Column("trimmed", "count"),
            Column("stopped", "count"),
            Column("tokens saved", "count"),
        ),
        [
            (name, kept.obeyed_ratio, kept.answers, kept.trimmed, kept.stopped, kept.saved_tokens)
            for name, kept in ranked
        ],
        empty="No answer was under a limit. Set one: `optimize(model, WordLimit(150))`.",
    )


def guard(view: View) -> Table:
    """Return what a quality guard has found."""
    return view.once("guard", view.sources.guarded)


def comparisons(view: View) -> Table:
    """Return the verdicts of comparisons."""
    return view.once("compared", view.sources.compared)


def _quality(view: View) -> dict[str, Any]:
    return {"tables": [table(view) for table in (cache, limits, comparisons, guard)]}


# Runs


def runs(view: View, limit: int = 1_000) -> Table:
    """Return the latest runs."""
    found = view.ledger.runs(**view.where, limit=limit)
    return Table(
        "runs",
        "Latest runs",
        (
            Column("run"),
            Column("agents"),
            Column("user"),
            Column("started (UTC)", "time"),
            Column("took", "seconds"),
            Column("calls", "count"),
            Column("tokens", "count"),
            Column("cost", "usd"),
        ),
        [
            (
                run.run,
                ", ".join(run.agents),
                run.user or "",
                run.started_at,
                (run.ended_at - run.started_at).total_seconds(),
                run.totals.calls,
                run.totals.total_tokens,
                run.totals.cost_nano_usd,
            )
            for run in found
        ],
        empty="No call of this period belongs to a run: they were recorded without LangChain's "
        "run ids.",
        links=[run_path(run.run) for run in found],
    )


def _runs(view: View) -> dict[str, Any]:
    return {"table": view.once("runs", lambda: runs(view, _ROWS))}


PARTS: Final[Mapping[str, Callable[[View], dict[str, Any]]]] = {
    "overview": _overview,
    "cost": _cost,
    "advice": _advice,
    "budgets": _budgets,
    "spenders": _spenders,
    "savings": _savings,
    "quality": _quality,
    "runs": _runs,
}
"""By name, in the order of the page."""

TABLES: Final[Mapping[str, Callable[[View], Table]]] = {
    "kpis": key_figures,
    "cost": cost_table,
    **{f"spend-by-{name}": spenders(name) for name in FILTERS},
    "budgets": budgets,
    "alerts": alerts,
    "savings": savings,
    "latency": latency,
    "cache": cache,
    "word-limits": limits,
    "guard": guard,
    "comparisons": comparisons,
    "runs": runs,
}
"""Each is a CSV file, too."""
