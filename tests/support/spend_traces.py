"""Made-up spending by the hour, of kinds that forecasts are judged on."""

from __future__ import annotations

import math
import random

__all__ = ["KINDS", "spend_trace"]

KINDS = (
    "plain", "weekly", "ramp", "bursts", "gaps", "office", "sparse", "constant",
    "wandering", "jobs", "nightly", "month_end", "holiday", "regime", "heavy_tail",
)  # fmt: skip


def spend_trace(kind: str, seed: int, days: int, *, again: int = 0, since: int = 0) -> list[int]:
    """Return the spend of every hour, in billionths of a dollar.

    All have a size, a shape of the day, noise by the hour and by the day of their own.

    Args:
        kind: ``"weekly"`` quiet weekends, ``"ramp"`` grows or shrinks by the day, ``"bursts"`` some
            hours cost many times more, ``"gaps"`` half of the hours nothing, ``"office"`` working
            hours only, ``"sparse"`` one hour in twelve, ``"wandering"`` no days but drift,
            ``"jobs"`` a few large ones, ``"nightly"`` most of it in one hour of the night,
            ``"month_end"`` three days in thirty are three times as busy, ``"holiday"`` some days
            nearly nothing, ``"regime"`` another level from some day on, ``"heavy_tail"`` a few
            calls an hour of very unequal cost.
        seed: Of the chances.
        days: How many.
        again: Another future of the same process: what its hours from *since* on might have been.
        since: See *again*.
    """
    some = random.Random(f"{kind}{seed}")
    level = math.exp(some.uniform(math.log(1e5), math.log(1e9)))
    noise, daily = some.uniform(0.1, 0.6), some.uniform(0.03, 0.35)
    height, phase, first = some.uniform(0, 1), some.uniform(0, 24), some.randrange(7)
    quiet = some.uniform(0.1, 0.6) if kind == "weekly" else 1.0
    growth = some.choice([1.03, 1.08, 1.15, 0.93]) if kind == "ramp" else 1.0
    night, change = some.randrange(6), some.uniform(0.3, 0.95) * days
    jump = some.choice([0.2, 0.4, 2.5, 6.0])
    hours, drift = [], 0.0
    for day in range(days):
        weekend = (day + first) % 7 >= 5
        size = math.exp(some.gauss(0, daily)) * growth**day * (quiet if weekend else 1)
        if kind == "month_end" and (day + first) % 30 >= 27:
            size *= 3
        elif kind == "holiday" and some.random() < 0.08:
            size *= 0.05
        elif kind == "regime" and day >= change:
            size *= jump
        for hour in range(24):
            at = 24 * day + hour
            here = random.Random(f"{kind}{seed}/{at}/{again if at >= since else 0}")
            shape = 1 + height * math.sin((hour - phase) / 24 * 2 * math.pi)
            cost = level * size * shape * math.exp(here.gauss(0, noise))
            drift = 0.9 * drift + here.gauss(0, 0.25)
            chance = here.random()
            if kind == "bursts" and chance < 0.03:
                cost *= here.uniform(5, 30)
            elif kind == "gaps" and chance < 0.5:
                cost = 0
            elif kind == "office" and (weekend or not 8 <= hour < 18):
                cost = cost * 0.02 if chance < 0.3 else 0
            elif kind == "sparse" and chance > 0.08:
                cost = 0
            elif kind == "constant":
                cost = level * math.exp(here.gauss(0, 0.05))
            elif kind == "wandering":
                cost = level * math.exp(drift)
            elif kind == "jobs":
                large = level * 20 * math.exp(here.gauss(0, 1)) if chance < 0.04 else 0
                cost = cost * 0.02 + large
            elif kind == "nightly" and hour == night:
                cost += level * size * 40 * math.exp(here.gauss(0, 0.2))
            elif kind == "heavy_tail":
                cost = level * size * shape * sum(here.paretovariate(1.3) for _ in range(4))
            hours.append(round(cost))
    return hours
