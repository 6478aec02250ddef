"""A report as one HTML file: figures, what they call for, who spent, what was saved.

Names are text: they are escaped. The page needs nothing from anywhere and forbids scripts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.core.dimensions import filters_in_words
from langchain_tokenopt.core.records import UsageTotals
from langchain_tokenopt.pricing.money import format_usd
from langchain_tokenopt.report.facts import Facts
from langchain_tokenopt.report.frame import framed, table
from langchain_tokenopt.report.kpis import Kpi, kpis, state_of
from langchain_tokenopt.report.recommendations import recommendations
from langchain_tokenopt.report.values import (
    format_change,
    format_forecast,
    format_kpi,
    format_value,
)

__all__ = ["page_of"]

_SHOWN = 10


def page_of(facts: Facts, before: Facts | None = None, *, title: str = "Token report") -> str:
    """Return the page.

    Args:
        facts: What a ledger says about a period.
        before: About the period before, for changes.
        title: What stands above.
    """
    return framed(title, _parts(facts, before))


def _parts(facts: Facts, before: Facts | None) -> Iterator[str]:
    yield f"<p>{_happened(facts)}</p>"
    earlier = {} if before is None else {kpi.name: kpi for kpi in kpis(before)}
    yield f"<h2>Key figures</h2>{_tiles(kpis(facts), earlier)}"
    yield "<h2>What to do next</h2>"
    yield from _advice(facts)
    if facts.effects:
        yield "<h2>What was saved, net</h2>"
        yield table(
            ("stage", "uses", "tokens saved", "spent itself", "net", "money"),
            [
                (
                    effect.stage + (" (only watched)" if effect.observed else ""),
                    f"{effect.uses:,}",
                    f"{effect.gross_saved_tokens:,}",
                    f"{effect.spent_tokens:,}",
                    f"{effect.net_saved_tokens:,}",
                    format_usd(effect.saved_nano_usd),
                )
                for effect in facts.effects
            ],
        )
    for name, groups in (("agent", facts.by_agent), ("model", facts.by_model)):
        yield f"<h2>By {name}</h2>"
        yield _spenders(name, groups)
    if facts.budgets:
        yield "<h2>Budgets</h2>"
        yield table(
            ("budget", "whose", "spent", "held", "limit", "used", "refused"),
            [
                (
                    state.budget,
                    state.owner,
                    f"{state.spent_tokens:,}",
                    f"{state.held_tokens:,}",
                    f"{state.limit_tokens:,}",
                    f"{state.used_ratio:.1%}",
                    f"{state.denied:,}",
                )
                for state in facts.budgets[:_SHOWN]
            ],
        )


def _happened(facts: Facts) -> str:
    totals = facts.totals
    said = (
        f"{counted(totals.calls, 'call')}{filters_in_words(facts.filters)}, "
        f"{totals.cached_calls:,} of them answered by a cache, took "
        f"{totals.total_tokens:,} tokens and cost {format_usd(totals.cost_nano_usd)}; "
        f"{format_usd(totals.saved_nano_usd)} were saved."
    )
    forecast = format_forecast(facts.forecast) if facts.forecast and totals.calls else ""
    return escape(f"{said} {forecast}".strip())


def _tiles(found: Sequence[Kpi], earlier: Mapping[str, Kpi]) -> str:
    tiles = []
    for kpi in found:
        change = format_change(kpi, earlier.get(kpi.name))
        left_out = f", {kpi.n_excluded:,} left out" if kpi.n_excluded else ""
        state = state_of(kpi)
        word = "" if state == "none" else f" · {state}"
        beside = "".join(
            f"<br>{escape(name.replace('_', ' '))} {_part(name, value, kpi)}"
            for name, value in kpi.parts.items()
            if value is not None
        )
        tiles.append(
            f'<li class="{state}">{escape(kpi.title)}<b>{escape(format_kpi(kpi))}</b>'
            f'<span class="small">{change} n {kpi.n:,}{left_out}{word}{beside}</span></li>'
        )
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def _part(name: str, value: float, kpi: Kpi) -> str:
    if name.startswith(("latency", "first_chunk")):
        return format_value(value, "seconds")
    if name == "refused":
        return f"{value:,.0f}"
    return format_value(value, kpi.unit if kpi.unit == "usd" and "error" not in name else "ratio")


def _advice(facts: Facts) -> Iterator[str]:
    lines = recommendations(facts)
    if not lines:
        yield "<p>Nothing: no figure of this period calls for it.</p>"
        return
    yield "<ol>"
    for line in lines:
        saved = line.saved_nano_usd
        worth = "" if saved is None else f" Expected saving: about {format_usd(saved)}."
        command = f"<br><code>{escape(line.command)}</code>" if line.command else ""
        yield f"<li>{escape(f'{line.figure} {line.advice}{worth}')}{command}</li>"
    yield "</ol>"


def _spenders(name: str, groups: Mapping[str, UsageTotals]) -> str:
    ranked = sorted(groups.items(), key=lambda item: (-item[1].cost_nano_usd, item[0]))
    cost = sum(totals.cost_nano_usd for totals in groups.values())
    tokens = sum(totals.total_tokens for totals in groups.values())
    rows = [
        (
            value,
            f"{totals.calls:,}",
            f"{totals.total_tokens:,}",
            f"{totals.total_tokens / max(1, tokens):.1%}",
            format_usd(totals.cost_nano_usd) + ("+" if totals.unpriced_calls else ""),
            f"{totals.cost_nano_usd / max(1, cost):.1%}",
        )
        for value, totals in ranked[:_SHOWN]
    ]
    more = len(ranked) - len(rows)
    shown = table((name, "calls", "tokens", "of tokens", "cost", "of cost"), rows)
    return shown + (f'<p class="small">and {more:,} more</p>' if more > 0 else "")
