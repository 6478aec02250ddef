"""Money: whole numbers inside, decimals and text at the surface."""

from __future__ import annotations

from decimal import Decimal

from langchain_tokenopt.core.money import usd

__all__ = [
    "HALF_NANO_USD",
    "PER_MILLION",
    "UNITS_PER_NANO_USD",
    "exact_usd",
    "format_usd",
    "plain_decimal",
    "usd",
]


UNITS_PER_USD = 10**24
"""Rates count in this fraction of a dollar per token, that is 10**-18 dollars per million tokens.

Chosen so that no price of genai-prices 0.2.3 is rounded: its finest have 18 decimals per million
tokens (OpenRouter's cache writes, such as 0.041666666666666664).
"""


UNITS_PER_NANO_USD = UNITS_PER_USD // 10**9


HALF_NANO_USD = UNITS_PER_NANO_USD // 2


PER_MILLION = UNITS_PER_USD // 10**6


def exact_usd(nano_usd: int | None) -> str | None:
    """Write an amount for machines: all digits, no sign of the currency.

    Example:
        >>> exact_usd(12_300_000), exact_usd(0), exact_usd(None)
        ('0.0123', '0', None)
    """
    return None if nano_usd is None else f"{usd(nano_usd).normalize():f}"


def format_usd(nano_usd: int | None) -> str:
    """Write an amount for people: cents above a dollar, three significant digits below.

    An unpriced amount is ``-``: it is not known, and not 0.

    Example:
        >>> [format_usd(nano) for nano in (1_234_560_000_000, 12_300_000, 456, 0, None)]
        ['$1,234.56', '$0.0123', '$0.000000456', '$0.00', '-']
    """
    if nano_usd is None:
        return "-"
    amount = usd(abs(nano_usd))
    decimals = 2 if not amount or amount >= 1 else min(9, max(4, 2 - amount.adjusted()))
    return f"{'-' if nano_usd < 0 else ''}${amount:,.{decimals}f}"


def plain_decimal(rate: int) -> Decimal:
    """Return a rate in dollars per million tokens, without needless zeros."""
    whole, rest = divmod(rate, PER_MILLION)
    return Decimal(f"{whole}.{rest:018d}".rstrip("0").rstrip("."))
