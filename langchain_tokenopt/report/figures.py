"""Figures of a ledger as plotly describes them: for the dashboard, and for notebooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Unpack

from langchain_tokenopt.core.dimensions import Dimension, Filters, Period
from langchain_tokenopt.ledger import Ledger

if TYPE_CHECKING:
    import plotly.graph_objects

__all__ = ["cost_over_time", "figure", "savings_by_stage"]

_SHOWN = 7
"""As many names have a colour of their own."""
COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
"""Told apart in both themes, and by those who do not see red and green apart."""


def cost_over_time(
    ledger: Ledger,
    by: Dimension = "agent",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    tz: tzinfo | None = UTC,
    **filters: Unpack[Filters],
) -> dict[str, Any]:
    """Return stacked bars: dollars an hour, a day or a month, by agent or another dimension.

    Example:
        >>> from tempfile import mkdtemp
        >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger:
        ...     cost_over_time(ledger)["data"]
        []
    """
    period = _period(ledger, since, until)
    found = ledger.by(period, by, since=since, until=until, tz=tz, **filters)
    costs: dict[str, dict[str, int]] = {}
    for (when, name), totals in found.items():
        at = costs.setdefault(name, {})
        at[when] = at.get(when, 0) + totals.cost_nano_usd
    ranked = sorted(costs, key=lambda name: (-sum(costs[name].values()), name))
    times = sorted({when for when, _ in found})
    bars = [_bar(name, times, costs[name], COLORS[n]) for n, name in enumerate(ranked[:_SHOWN])]
    if others := ranked[_SHOWN:]:
        rest = {when: sum(costs[name].get(when, 0) for name in others) for when in times}
        bars.append(_bar(f"{len(others):,} others", times, rest, COLORS[-1]))
    title = f"Cost by {by}, per {period}"
    return {"data": bars, "layout": {"title": {"text": title}, "barmode": "stack"}}


def _bar(name: str, times: list[str], cost: dict[str, int], color: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "name": _text(name),
        "x": [when[:16].replace("T", " ") for when in times],
        "y": [cost.get(when, 0) / 1e9 for when in times],
        "marker": {"color": color},
        "hovertemplate": "%{x}: $%{y:.4f}",
    }


def _text(name: str) -> str:
    """Return a name that plotly shows as it is: it would read some markup."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _period(ledger: Ledger, since: datetime | None, until: datetime | None) -> Period:
    span = ledger.span()
    begin = since or (span[0] if span else datetime.now(UTC))
    length = (until or datetime.now(UTC)) - begin
    if length <= timedelta(days=3):
        return "hour"
    return "day" if length <= timedelta(days=120) else "month"


def savings_by_stage(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    **filters: Unpack[Filters],
) -> dict[str, Any]:
    """Return bars: tokens that each stage has saved, net."""
    effects = ledger.effects(since=since, until=until, **filters)
    acting = [effect for effect in effects if not effect.observed][::-1]
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": [_text(effect.stage) for effect in acting],
        "x": [effect.net_saved_tokens for effect in acting],
        "marker": {"color": COLORS[0]},
        "hovertemplate": "%{y}: %{x:,} tokens",
    }
    return {
        "data": [bar] if acting else [],
        "layout": {"title": {"text": "Tokens saved, net, by stage"}},
    }


def figure(description: dict[str, Any]) -> plotly.graph_objects.Figure:
    """Return a plotly figure of a description, to show in a notebook.

    Raises:
        ImportError: plotly is not installed.
    """
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise ImportError(
            'figures need plotly. Install it: pip install "langchain-tokenopt[dashboard]".'
        ) from error
    return plotly.graph_objects.Figure(description)
