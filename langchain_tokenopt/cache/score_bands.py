"""Wrong answers per request, added up over bands of requests that score about the same.

Whether a request is checked depends on its score alone, so within a band the checked requests stand
for the others (post-stratification). Until a band has evidence of its own, a prior stands in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from langchain_tokenopt.cache.confidence_bounds import beta_cdf, upper_bound

__all__ = [
    "EDGES",
    "PRIOR_REQUESTS",
    "Band",
    "Estimate",
    "band_of",
    "estimate_of",
    "lowest_safe",
    "prior_share",
    "prior_wrong",
    "sigmoid",
]

_WIDTH = 0.25
EDGES = np.arange(-2.0, 8.01, _WIDTH)
PRIOR_REQUESTS = 100
_SUREST = 0.003
"""Without evidence no band is taken to be wrong less often than this."""
_STRANGE = 1.5
"""And wrong this much more often than the model says, which was fitted on other traffic."""
_PRIOR_CHECKED = 30.0
"""Checked requests that the prior of a band is worth."""


@dataclass(frozen=True, slots=True)
class Band:
    """Evidence about requests of about the same score."""

    floor: float
    """Lowest log-odds in the band."""
    share: float
    """Of all requests, those that fall into it."""
    checked: int
    wrong: int
    prior: float
    """Share of wrong answers before there is evidence."""

    @property
    def weight(self) -> float:
        """Checked requests, those that the prior stands for included."""
        return self.checked + _PRIOR_CHECKED

    @property
    def wrong_share(self) -> float:
        """Estimated share of wrong answers."""
        return (self.wrong + _PRIOR_CHECKED * self.prior) / self.weight


def band_of(logit: Any) -> Any:
    """Return the number of the band of a score, or of each of an array of scores."""
    return np.searchsorted(EDGES, logit, side="right")


def prior_share(band: int) -> float:
    """Share of requests in a band before any was seen: few are near anything."""
    return 0.01 if band else 0.6


def prior_wrong(band: int) -> float:
    """Share of wrong answers in a band before any was checked."""
    if band == 0:
        return 1.0
    return min(1.0, max(_SUREST, _STRANGE * sigmoid(-float(EDGES[band - 1]))))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Errors at one threshold."""

    threshold: float
    """Probability of being right from which answers are served."""
    hits_per_request: float
    wrong_per_request: float
    bound: float
    """Upper confidence bound of ``wrong_per_request``."""

    @property
    def wrong_per_hit(self) -> float:
        """Wrong answers per hit."""
        return self.wrong_per_request / self.hits_per_request if self.hits_per_request else 0.0


def estimate_of(served: Sequence[Band], threshold: float, confidence: float) -> Estimate:
    """Add up the bands that are served; bound the sum at its effective sample size."""
    total = _Sum()
    for band in served:
        total.add(band)
    bound = 0.0
    if total.wrong:
        bound = total.hits * upper_bound(*total.effective(), confidence)
    return Estimate(sigmoid(threshold), total.hits, total.wrong, bound)


@dataclass(slots=True)
class _Sum:
    """Bands added up: shares of requests, and the variance of the wrong share."""

    hits: float = 0.0
    wrong: float = 0.0
    variance: float = 0.0

    def add(self, band: Band) -> None:
        rate = band.wrong_share
        self.hits += band.share
        self.wrong += band.share * rate
        self.variance += band.share**2 * rate * (1 - rate) / band.weight

    def effective(self) -> tuple[float, float]:
        """Return wrong answers and hits of a plain sample that would say as much."""
        per_hit = self.wrong / self.hits
        trials = per_hit * (1 - per_hit) * self.hits**2 / self.variance if self.variance else 1.0
        return per_hit * trials, trials

    def keeps(self, limit: float, confidence: float) -> bool:
        """Say whether the bound on wrong answers per request is within *limit*."""
        if self.hits <= limit or not self.wrong:
            return True
        events, trials = self.effective()
        return beta_cdf(limit / self.hits, events + 1, trials - events) >= confidence


def lowest_safe(bands: Sequence[Band], limit: float, confidence: float) -> float:
    """Go down from the safest band while the bound on wrong answers per request holds."""
    threshold, total = math.inf, _Sum()
    for band in bands:
        total.add(band)
        if not total.keeps(limit, confidence):
            break
        threshold = band.floor
    return threshold


def sigmoid(x: float) -> float:
    """Return the probability of log-odds."""
    return 1.0 / (1.0 + math.exp(-max(-500.0, min(500.0, x))))
