"""The probability that a stored answer is the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from langchain_tokenopt.cache.features import FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AnswerModel"]

_PRIOR = {
    "cosine": 6.0,
    "margin": 6.0,
    "crowd": -1.0,
    "stored_margin": 2.5,
    "stored_crowd": 0.0,
    "agreement": 1.5,
    "second": 0.5,
    "shared_stems": 1.5,
    "covered_stems": 0.0,
    "shared_trigrams": 0.5,
    "exchanged_word": -1.5,
    "added_word": -1.0,
    "one_sided": -0.5,
    "length_gap": -0.5,
}
"""Log-odds per unit, set by hand in round numbers: the signs are plain, the sizes were looked up on
development questions (bank customers' requests, one half), none of which is stored here."""
_PRIOR_BIAS = -6.0
_PRIOR_SPREAD = 1.5
"""How far (one standard deviation) the traffic's own evidence is expected to move a weight."""


_BIAS_SHARE = 1 / 3
"""The same for the bias, as a share of that. Labels come mostly from below the threshold: a bias
that followed them freely would promise too much above it."""


class AnswerModel:
    """The probability that a stored answer is right, as a logistic function of the features.

    Starts from a prior and moves with evidence: the most probable weights under normal priors
    around the starting ones.

    Example:
        >>> model = AnswerModel()
        >>> far, near = np.zeros(len(FEATURES)), np.ones(len(FEATURES))
        >>> bool(model.logits(far[None])[0] < model.logits(near[None])[0])
        True
    """

    def __init__(self) -> None:
        self.start = np.array([*(_PRIOR[name] for name in FEATURES), _PRIOR_BIAS])
        self.weights = self.start.copy()

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-odds of each row."""
        logits: NDArray[np.float64] = features @ self.weights[:-1] + self.weights[-1]
        return logits

    def fit(
        self,
        features: NDArray[np.float64],
        right: NDArray[np.bool_],
        *,
        spread: float = _PRIOR_SPREAD,
    ) -> None:
        """Move from the prior towards what *features* and *right* say (Newton's method).

        Args:
            features: One row per checked request.
            right: Whether the stored answer would have been right.
            spread: Standard deviation of each weight around its prior.
        """
        x = np.column_stack([features, np.ones(len(features))])
        pull = np.full(x.shape[1], spread**-2)
        pull[-1] = (spread * _BIAS_SHARE) ** -2
        weights = self.start.copy()
        loss = self._loss(x, right, weights, pull)
        for _ in range(25):
            p = 1.0 / (1.0 + np.exp(-np.clip(x @ weights, -30, 30)))
            gradient = x.T @ (right - p) - pull * (weights - self.start)
            hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(pull)
            step = np.linalg.solve(hessian, gradient)
            before = loss
            for _ in range(20):  # where the curve is flat, a whole step overshoots
                loss = self._loss(x, right, weights + step, pull)
                if loss <= before:
                    break
                step /= 2
            weights = weights + step
            if before - loss < 1e-6 * abs(before):
                break
        self.weights = weights

    def _loss(
        self,
        x: NDArray[np.float64],
        right: NDArray[np.bool_],
        weights: NDArray[np.float64],
        pull: NDArray[np.float64],
    ) -> float:
        """Minus the log of what :meth:`fit` makes as probable as possible."""
        logits = np.clip(x @ weights, -500, 500)
        surprise = np.logaddexp(0.0, np.where(right, -logits, logits)).sum()
        return float(surprise + 0.5 * (pull * (weights - self.start) ** 2).sum())
