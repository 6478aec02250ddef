"""How much each kind of evidence counts, and what probability a score means.

Weights are those of a conditional logit: of all tools the needed one has the highest score most
probably (McFadden 1974, "Conditional logit analysis of qualitative choice behavior"). A score
becomes a probability by a second logistic function, of the score itself and of its logarithmic
share among all tools of the set: with many rivals the same score means less. Both are fitted by
``tests/benchmarks/fit_tool_prior.py``; ``prior.json`` says on what.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokenopt.tools.lexical import LEXICAL_FEATURES
from langchain_tokenopt.tools.ranking_vectors import MEANING_FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["USED", "Fusion", "fusion_for", "shares_of", "step_towards"]

USED: Final = "used"
"""The share of a request's words that earlier requests for the tool had."""
_RATE: Final = 0.5
"""How far one use moves the weights."""


@dataclass(frozen=True)
class Fusion:
    """Weights for one kind of evidence: words alone, or words and meaning."""

    name: str
    features: tuple[str, ...]
    weights: NDArray[np.float64]
    calibration: tuple[float, float, float]
    """Intercept, weight of the score, weight of its logarithmic share."""

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability that each tool is needed."""
        intercept, own, share = self.calibration
        logits = intercept + own * scores + share * np.log(shares_of(scores) + 1e-12)
        found: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
        return found


def shares_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of each tool if exactly one is needed."""
    exponents = np.exp(scores - scores.max(initial=-np.inf))
    found: NDArray[np.float64] = exponents / exponents.sum()
    return found


def step_towards(
    features: NDArray[np.float64], scores: NDArray[np.float64], called: list[int]
) -> NDArray[np.float64]:
    """Return by how much a request moves the weights, towards the tools that it led to."""
    expected = shares_of(scores) @ features
    found: NDArray[np.float64] = _RATE * (features[called].mean(axis=0) - expected)
    return found


@cache
def fusion_for(*, meaning: bool) -> Fusion:
    """Return the fitted weights, with or without an embedder."""
    text = resources.files(__package__).joinpath("prior.json").read_text(encoding="utf-8")
    name = "meaning" if meaning else "words"
    fitted = json.loads(text)[name]
    features = (*LEXICAL_FEATURES, USED, *(MEANING_FEATURES if meaning else ()))
    weights = np.array([fitted["weights"].get(feature, 0.0) for feature in features])
    calibration = tuple(fitted["calibration"][key] for key in ("intercept", "score", "share"))
    return Fusion(name, features, weights, calibration)
