"""The exact confidence bound of a share."""

from __future__ import annotations

import math

__all__ = ["beta_cdf", "upper_bound"]


def upper_bound(events: float, trials: float, confidence: float) -> float:
    """Return the exact one-sided upper confidence bound of a share (Clopper and Pearson 1934).

    Args:
        events: How often it happened; an effective number need not be whole.
        trials: Out of how many.
        confidence: From 0 to 1.

    Example:
        >>> round(upper_bound(0, 59, 0.95), 3)
        0.05
    """
    if events >= trials:
        return 1.0
    low, high = events / trials, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if beta_cdf(middle, events + 1, trials - events) < confidence:
            low = middle
        else:
            high = middle
    return high


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function (Lentz's continued fraction, DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_cdf(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1) or 1e-300)
    fraction = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / (1.0 + term * d or 1e-300)
            c = 1.0 + term / c or 1e-300
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-10:
            break
    return front * fraction / a
