"""Billionths of a US dollar, and the dollars that they are."""

from __future__ import annotations

from decimal import Decimal

__all__ = ["usd"]


def usd(nano_usd: int) -> Decimal:
    """Return *nano_usd* billionths of a dollar as dollars, exactly.

    Example:
        >>> usd(12_300_000)
        Decimal('0.012300000')
    """
    return Decimal(f"{nano_usd}e-9")
