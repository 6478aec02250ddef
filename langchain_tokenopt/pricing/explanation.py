"""Why a call costs what it costs: every part, its rate, and where the rate comes from."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.money import UNITS_PER_NANO_USD, format_usd, plain_decimal, usd
from langchain_tokenopt.pricing.rates import Rates

__all__ = ["PriceExplanation", "PriceLine", "bill_lines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLine:
    """One part of a bill."""

    kind: str
    """Such as ``"cache read"``, ``"output audio"`` or ``"request"``."""
    tokens: int
    """How many; for ``"request"``, 1."""
    usd_per_million: Decimal | None
    """US dollars per million tokens (for ``"request"``: of requests); ``None``: not known."""
    cost_nano_usd: int
    """Billionths of a US dollar; 0 where the rate is not known. Lines sum to the whole cost: what
    is below a nano-dollar goes to the lines that lose most by rounding."""
    source: str
    """Whose price it is: ``"genai-prices 0.2.3, openai gpt-5"``, or your own."""
    tier: str
    """The service tier: ``"standard"``, ``"flex"``, ``"batch"``..."""
    rule: str
    """Why this rate: its own, that of the whole, a long context."""

    @property
    def is_priced(self) -> bool:
        """Whether the rate is known."""
        return self.usd_per_million is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceExplanation:
    """Why a call costs what it costs; ``print`` shows it as a table.

    Made by ``RateCard.explain``.
    """

    model: str | None
    provider: str | None
    on: str
    """The day, in UTC, whose prices hold."""
    rates_version: str
    lines: tuple[PriceLine, ...]
    cost_nano_usd: int | None
    """The sum of the lines; ``None``: no price is known."""
    unpriced: tuple[str, ...] = ()
    """Parts whose rate is not known: the sum does not contain them."""
    notes: tuple[str, ...] = ()
    """What else decides: why nothing is charged, why nothing is known, what is not counted."""

    @property
    def head(self) -> str:
        """Of what this is."""
        return f"{self.model or 'a model without a name'} ({self.provider or '-'}), {self.on}"

    @property
    def table(self) -> list[tuple[str, ...]]:
        """Headings, then a row for each part."""
        head = ("part", "tokens", "USD per million", "cost", "tier", "why")
        return [head, *map(_row, self.lines)]

    @property
    def foot(self) -> list[str]:
        """The sum, and what else decides."""
        text = [f"total {_amount(self.cost_nano_usd)}, by {self.rates_version}"]
        if self.unpriced:
            text.append(f"unpriced in part: {', '.join(self.unpriced)}")
        return [*text, *self.notes]

    def __str__(self) -> str:
        rows = self.table
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        text = [self.head]
        if self.lines:
            text += [
                "  ".join(
                    (
                        row[0].ljust(widths[0]),
                        *(row[place].rjust(widths[place]) for place in (1, 2, 3)),
                        *row[4:],
                    )
                )
                for row in rows
            ]
        return "\n".join((*text, *self.foot))


def _row(line: PriceLine) -> tuple[str, ...]:
    rate = "unknown" if line.usd_per_million is None else f"{line.usd_per_million:f}"
    cost = f"${usd(line.cost_nano_usd):f}" if line.is_priced else "-"
    return line.kind, f"{line.tokens:,}", rate, cost, line.tier, line.rule


def _amount(nano: int | None) -> str:
    return format_usd(nano) if nano is None else f"${usd(nano):,f}"


def bill_lines(rates: Rates, usage: Usage, source: str, tier: str) -> tuple[PriceLine, ...]:
    """Return the lines of a bill, in whole nano-dollars that sum to its rounded sum."""
    charged, parts = rates.at(usage.input_tokens), [*rates.lines(usage)]
    units = [tokens * (rate or 0) for _, tokens, rate in parts]
    nanos = [unit // UNITS_PER_NANO_USD for unit in units]
    missing = rates.cost(usage) - sum(nanos)
    most_cut = sorted(range(len(units)), key=lambda place: -(units[place] % UNITS_PER_NANO_USD))
    for place in most_cut[:missing]:
        nanos[place] += 1
    start = next((start for start, above in rates.above if above is charged), None)
    long = "" if start is None else f", above {start:,} input tokens"
    return tuple(
        PriceLine(
            kind=kind.replace("_", " "),
            tokens=tokens,
            usd_per_million=None if rate is None else plain_decimal(rate),
            cost_nano_usd=nano,
            source=source,
            tier=tier,
            rule=_rule(charged, kind) + long,
        )
        for (kind, tokens, rate), nano in zip(parts, nanos, strict=True)
    )


def _rule(rates: Rates, kind: str) -> str:
    """Say in words where a rate comes from."""
    if kind == "request":
        return "for each request"
    if kind in rates.unpriced:
        return "charged apart, at a rate that is not known"
    if getattr(rates, kind) is not None:
        return "its own rate"
    return "no rate of its own: as the whole that it is part of"
