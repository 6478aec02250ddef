"""Figures of a ledger: laid out in time, and as plotly describes them for notebooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal, Unpack

from langchain_tokenopt.core.dimensions import (
    UNATTRIBUTED,
    Dimension,
    Filters,
    check_groupings,
    value_of,
)
from langchain_tokenopt.ledger import Ledger, Period

if TYPE_CHECKING:
    import plotly.graph_objects

__all__ = ["CostsOverTime", "cost_over_time", "costs_over_time", "figure", "savings_by_stage"]

_SHOWN = 7
"""As many names have a colour of their own."""
COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
"""Told apart in both themes, and by those who do not see red and green apart."""
_MINUTES = 5
_FEW_CALLS = 20_000
"""So many are read one by one where an hour is too long a step."""


@dataclass(frozen=True, slots=True)
class CostsOverTime:
    """What was spent from time to time, split by a dimension."""

    by: str
    step: str
    """Name of the step: ``"5 minutes"``, ``"hour"``, ``"day"`` or ``"month"``."""
    times: Sequence[datetime]
    """Where each step begins, without gaps; and where the last one ends."""
    costs: Mapping[str, Mapping[datetime, int]]
    """By name, the largest spender first, in billionths of a dollar; of the many small ones the
    sum."""


def costs_over_time(
    ledger: Ledger,
    by: Dimension = "agent",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    tz: tzinfo | None = UTC,
    period: Period | None = None,
    **filters: Unpack[Filters],
) -> CostsOverTime:
    """Return the costs of each step of a period.

    Args:
        ledger: Which.
        by: What they are split by.
        since: Begin of the period; ``None``: that of the ledger.
        until: Its end; ``None``: now.
        tz: Whose hours, days and months.
        period: The ledger's, from *since* to *until* with these filters, if it is open already.
        **filters: Which calls.

    Example:
        >>> from tempfile import mkdtemp
        >>> with Ledger(mkdtemp() + "/tokenopt.db") as ledger:
        ...     costs_over_time(ledger).costs
        {}
    """
    until = until or datetime.now(UTC)
    span = ledger.span()
    begin = since or (span[0] if span else until)
    asked: dict[str, Any] = {"since": since, "until": until, **filters}
    found: dict[str, dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
    step = _step(until - begin)
    label: str = step
    check_groupings((by,))
    with nullcontext(period) if period else ledger.period(**asked) as period:
        is_short = until - begin <= timedelta(hours=3)
        if is_short and 0 < period.totals().calls <= _FEW_CALLS:
            label = f"{_MINUTES} minutes"
            value = value_of(by)
            for call in ledger.calls(**asked):
                at = _floor(call.started_at.astimezone(tz), label)
                found[value(call) or UNATTRIBUTED][at] += call.cost_nano_usd or 0
        else:
            for (when, name), totals in period.by(step, by, tz=tz).items():
                at = _floor(datetime.fromisoformat(f"{when}-01" if step == "month" else when), step)
                at = at if at.tzinfo else at.replace(tzinfo=tz) if tz else at.astimezone()
                found[name][at] += totals.cost_nano_usd
    ranked = sorted(found, key=lambda name: (-sum(found[name].values()), name))
    costs: dict[str, Mapping[datetime, int]] = {n: found[n] for n in ranked[:_SHOWN]}
    if others := ranked[_SHOWN:]:
        rest: dict[datetime, int] = defaultdict(int)
        for name in others:
            for at, cost in found[name].items():
                rest[at] += cost
        costs[f"{len(others):,} others"] = rest
    times = _times(begin.astimezone(tz), until.astimezone(tz), label)
    return CostsOverTime(by, label, times, costs)


def _step(length: timedelta) -> Literal["hour", "day", "month"]:
    if length <= timedelta(days=3):
        return "hour"
    return "day" if length <= timedelta(days=120) else "month"


def _floor(at: datetime, step: str) -> datetime:
    at = at.replace(second=0, microsecond=0)
    if step.endswith("minutes"):
        return at.replace(minute=at.minute - at.minute % _MINUTES)
    if step == "hour":
        return at.replace(minute=0)
    return at.replace(minute=0, hour=0, day=at.day if step == "day" else 1)


def _times(begin: datetime, end: datetime, step: str) -> list[datetime]:
    """Return where the steps between two times begin, and where the last one ends."""
    times = [_floor(begin, step)]
    longest = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=31)}
    width = longest.get(step, timedelta(minutes=_MINUTES))
    while times[-1] < end or len(times) < 2:
        times.append(_floor(times[-1] + width, step))
    return times


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
    found = costs_over_time(ledger, by, since=since, until=until, tz=tz, **filters)
    bars = [
        {
            "type": "bar",
            "name": _text(name),
            "x": [f"{at:%Y-%m-%d %H:%M}" for at in found.times[:-1]],
            "y": [costs.get(at, 0) / 1e9 for at in found.times[:-1]],
            "marker": {"color": color},
            "hovertemplate": "%{x}: $%{y:.4f}",
        }
        for (name, costs), color in zip(found.costs.items(), COLORS, strict=False)
    ]
    title = f"Cost by {found.by}, per {found.step}"
    return {"data": bars, "layout": {"title": {"text": title}, "barmode": "stack"}}


def _text(name: str) -> str:
    """Return a name that plotly shows as it is: it would read some markup."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


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
