"""Stacked bars, laid out: across in percent, so that a page of any width can show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from langchain_tokenopt.pricing.money import exact_usd, format_usd
from langchain_tokenopt.report.figures import CostsOverTime

__all__ = ["HEIGHT", "Chart", "Stack", "chart_of"]

HEIGHT = 220
"""Of the plot, in pixels."""
_LABELS = 6
_GAP = 0.18
"""Of the place of a bar, left free."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The bar of one step."""

    begins: str
    ends: str
    said: str
    """What it shows, in words."""
    place: float
    """Where its place begins."""
    x: float
    width: float
    parts: Sequence[tuple[int, float, float]]
    """Number of the series, from where on, and how high, in pixels from the top."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that is ready to be drawn."""

    series: Sequence[tuple[str, str]]
    """Names and sums, the largest first."""
    stacks: Sequence[Stack]
    place: float
    """Width of the place of a bar."""
    lines: Sequence[tuple[float, str]]
    """Of the scale: how far down, and what it says."""
    labels: Sequence[tuple[float, str]]
    """Of times: where, and what it says."""


def chart_of(found: CostsOverTime) -> Chart:
    """Lay the bars out."""
    steps = list(zip(found.times[:-1], found.times[1:], strict=True))
    sums = {at: sum(costs.get(at, 0) for costs in found.costs.values()) for at, _ in steps}
    top = _round_up(max(sums.values(), default=0))
    place = 100 / len(steps)
    stacks = []
    for number, (at, end) in enumerate(steps):
        parts, reached = [], float(HEIGHT)
        for series, costs in enumerate(found.costs.values()):
            height = HEIGHT * max(costs.get(at, 0), 0) / top
            reached -= height
            if height:
                parts.append((series, reached, height))
        named = {name: costs.get(at, 0) for name, costs in found.costs.items()}
        said = _said(at, end - at, sums[at], named)
        left = place * number
        stacks.append(
            Stack(
                f"{at:%Y-%m-%dT%H:%M}",
                f"{end:%Y-%m-%dT%H:%M}",
                said,
                left,
                left + place * _GAP / 2,
                place * (1 - _GAP),
                parts,
            )
        )
    every = math.ceil(len(steps) / _LABELS)
    return Chart(
        [(name, format_usd(sum(costs.values()))) for name, costs in found.costs.items()],
        stacks,
        place,
        _scale(top),
        [
            (place * (number + 0.5), _when(at, end - at))
            for number, (at, end) in enumerate(steps)
            if number % every == (every - 1) // 2
        ],
    )


def _scale(top: int) -> list[tuple[float, str]]:
    """Return five lines with as many decimals as they all need."""
    sums = [Decimal(exact_usd(top * n // 4) or 0) for n in range(5)]
    decimals = max(2, *(-int(each.as_tuple().exponent) for each in sums))
    return [(HEIGHT * (1 - n / 4), f"${each:,.{decimals}f}") for n, each in enumerate(sums)]


def _round_up(cost: int) -> int:
    """Return the next cost whose quarters are round.

    Example:
        >>> _round_up(0), _round_up(1_234_000), _round_up(99_000_000)
        (4000000, 2000000, 100000000)
    """
    if cost <= 0:
        return 4_000_000  # a scale without bars needs some figures
    unit: int = 10 ** max(0, len(str(cost)) - 2)
    steps = (4, 8, 12, 20, 40, 60, 80, 100)
    return next(n * unit for n in steps if n * unit >= cost)


def _when(at: datetime, length: timedelta) -> str:
    if length < timedelta(days=1) and (at.hour or at.minute):
        return f"{at:%H:%M}"
    return f"{at:%b} {at.day}" if length < timedelta(days=28) else f"{at:%b %Y}"


def _said(at: datetime, length: timedelta, whole: int, parts: Mapping[str, int]) -> str:
    when = f"{at:%b} {at.day} {at:%H:%M}" if length < timedelta(days=1) else _when(at, length)
    named = [f"{name} {format_usd(cost)}" for name, cost in parts.items() if cost]
    return "\n".join((f"{when} · {format_usd(whole)}", *named))
