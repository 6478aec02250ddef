"""How key figures are written for people."""

from __future__ import annotations

from langchain_tokenopt.forecast.spend import SpendForecast
from langchain_tokenopt.pricing.money import format_usd
from langchain_tokenopt.report.kpis import Kpi, Unit

__all__ = ["format_change", "format_forecast", "format_kpi", "format_value"]


def format_value(value: float | None, unit: Unit) -> str:
    """Write a value; "-" where nothing was measured.

    Example:
        >>> format_value(0.1234, "ratio"), format_value(1.5, "times"), format_value(None, "usd")
        ('12.3%', '1.50x', '-')
    """
    if value is None:
        return "-"
    if unit == "usd":
        return format_usd(round(value * 1e9))
    if unit == "ratio":
        return f"{value:.1%}"
    return f"{value:,.2f}{'x' if unit == 'times' else ' s'}"


def format_kpi(kpi: Kpi) -> str:
    """Write the value of a key figure."""
    return format_value(kpi.value, kpi.unit)


def format_forecast(forecast: SpendForecast) -> str:
    """Say what the spend will have come to, and how wrong that was before; or what is missing."""
    seen = forecast.at_end
    if seen is None:
        return " ".join(forecast.notes)
    missed = "" if seen.error is None else f"; such forecasts missed by {seen.error:.0%}"
    return (
        f"Until {forecast.ends:%Y-%m-%d %H:%M} UTC expect {format_usd(forecast.expected)}, "
        f"{format_usd(forecast.low)} to {format_usd(forecast.high)} in four of five cases{missed}."
    )


def format_change(now: Kpi, before: Kpi | None) -> str:
    """Write how a figure has changed: shares in points, all else in percent; "" if unknown."""
    if before is None or now.value is None or before.value is None:
        return ""
    if now.unit == "ratio":
        return f"{100 * (now.value - before.value):+.1f} pt"
    if not before.value:
        return ""
    return f"{(now.value - before.value) / abs(before.value):+,.1%}"
