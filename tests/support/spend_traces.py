"""Made-up spending by the hour, of kinds that forecasts are judged on."""

from __future__ import annotations

import math
import random

__all__ = ["KINDS", "spend_trace"]

KINDS = (
    "plain", "weekly", "ramp", "bursts", "gaps",
    "office", "sparse", "constant", "wandering", "jobs",
)  # fmt: skip


def spend_trace(kind: str, seed: int, days: int) -> list[int]:
    """Return the spend of every hour, in billionths of a dollar.

    All have a size, a shape of the day, noise by the hour and by the day of their own.

    Args:
        kind: ``"weekly"`` quiet weekends, ``"ramp"`` grows or shrinks by the day, ``"bursts"`` some
            hours cost many times more, ``"gaps"`` half of the hours nothing, ``"office"`` working
            hours only, ``"sparse"`` one hour in twelve, ``"wandering"`` no days but drift,
            ``"jobs"`` a few large ones.
        seed: Of the chances.
        days: How many.
    """
    some = random.Random(f"{kind}{seed}")
    level = math.exp(some.uniform(math.log(1e5), math.log(1e9)))
    noise, daily = some.uniform(0.1, 0.6), some.uniform(0.03, 0.35)
    height, phase, first = some.uniform(0, 1), some.uniform(0, 24), some.randrange(7)
    quiet = some.uniform(0.1, 0.6) if kind == "weekly" else 1.0
    growth = some.choice([1.03, 1.08, 1.15, 0.93]) if kind == "ramp" else 1.0
    hours, drift = [], 0.0
    for day in range(days):
        weekend = (day + first) % 7 >= 5
        size = math.exp(some.gauss(0, daily)) * growth**day * (quiet if weekend else 1)
        for hour in range(24):
            shape = 1 + height * math.sin((hour - phase) / 24 * 2 * math.pi)
            cost = level * size * shape * math.exp(some.gauss(0, noise))
            drift = 0.9 * drift + some.gauss(0, 0.25)
            chance = some.random()
            if kind == "bursts" and chance < 0.03:
                cost *= some.uniform(5, 30)
            elif kind == "gaps" and chance < 0.5:
                cost = 0
            elif kind == "office" and (weekend or not 8 <= hour < 18):
                cost = cost * 0.02 if chance < 0.3 else 0
            elif kind == "sparse" and chance > 0.08:
                cost = 0
            elif kind == "constant":
                cost = level * math.exp(some.gauss(0, 0.05))
            elif kind == "wandering":
                cost = level * math.exp(drift)
            elif kind == "jobs":
                large = level * 20 * math.exp(some.gauss(0, 1)) if chance < 0.04 else 0
                cost = cost * 0.02 + large
            hours.append(round(cost))
    return hours
