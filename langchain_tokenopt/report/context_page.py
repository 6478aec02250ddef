"""What conversations cost with each policy, as one HTML file: a table, and a plot of each call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from langchain_tokenopt.context.costs import EVERYTHING, ContextCosts
from langchain_tokenopt.core.counted import counted
from langchain_tokenopt.pricing.money import format_usd
from langchain_tokenopt.report.figures import COLORS
from langchain_tokenopt.report.frame import framed, table

__all__ = ["page_of"]

_WIDTH, _HEIGHT = 720, 240
_LEFT, _BELOW = 64, 24


def page_of(costs: ContextCosts, *, title: str = "Context") -> str:
    """Return the page.

    Args:
        costs: What was found.
        title: What stands above.
    """
    return framed(title, _parts(costs))


def _parts(costs: ContextCosts) -> Iterator[str]:
    raw = costs.policies[EVERYTHING]
    said = (
        f"{counted(len(raw.bills), 'conversation')}, {counted(costs.calls, 'call')} of "
        f"{costs.model}. What the provider knows from the prompt before costs {costs.price.read:g} "
        f"of the input price, all else {costs.price.write:g}. Prompts only; in tokens at the plain "
        f"input price."
    )
    yield f"<p>{escape(said)}</p>"
    yield table(
        ("policy", "sent", "known", "billed as", "cost", "of everything", "dearer in"),
        [
            (
                name,
                f"{found.sent:,.0f}",
                f"{found.known / max(1, found.sent):.1%}",
                f"{found.units:,.0f}",
                format_usd(found.cost_nano_usd),
                f"{found.units / max(1, raw.units):.1%}",
                f"{costs.dearer(name):,}",
            )
            for name, found in costs.policies.items()
        ],
    )
    each = {name: found.mean_units() for name, found in costs.policies.items()}
    yield "<h2>What each call costs</h2>" + _plot(each)
    sums = {
        name: [sum(values[: n + 1]) for n in range(len(values))] for name, values in each.items()
    }
    yield "<h2>What all calls so far have cost</h2>" + _plot(sums)


def _plot(series: Mapping[str, Sequence[float]]) -> str:
    """Draw a line for each policy, over the number of the call."""
    top = max(1.0, *(max(values) for values in series.values()))
    calls = max(map(len, series.values()))

    def x(call: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 8) * call / max(1, calls - 1), 1)

    def y(units: float) -> float:
        return round(8 + (_HEIGHT - 8) * (1 - units / top), 1)

    drawn = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _BELOW}" role="img" width="100%" font-size="12">'
    ]
    for quarter in range(5):
        height = y(top * quarter / 4)
        drawn.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{height}" y2="{height}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 6}" y="{height + 4}" text-anchor="end" fill="var(--soft)">'
            f"{top * quarter / 4:,.0f}</text>"
        )
    drawn += [
        f'<text x="{x(call)}" y="{_HEIGHT + 18}" text-anchor="middle" fill="var(--soft)">'
        f"{call + 1:,}</text>"
        for call in sorted({0, (calls - 1) // 2, calls - 1})
    ]
    for (name, values), color in zip(series.items(), COLORS, strict=False):
        points = " ".join(f"{x(call)},{y(units)}" for call, units in enumerate(values))
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2">'
            f"<title>{escape(name)}</title></polyline>"
        )
    legend = "".join(
        f'<li style="color:{color}">{escape(name)}</li>'
        for name, color in zip(series, COLORS, strict=False)
    )
    return "".join([*drawn, "</svg>", f"<ul>{legend}</ul>"])
