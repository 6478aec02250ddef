"""The probability that a stored answer is the right one."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from langchain_tokenopt.cache.features import FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AnswerModel", "design_matrix", "term_names"]

_SPREAD = 1.5
"""How far (one standard deviation) the traffic's own evidence is expected to move a weight."""
_PAIR_SPREAD = 1.5
"""The same for the weight of a product of two features."""
_BIAS_SPREAD = 0.5
"""The same for the bias. Labels come mostly from below the threshold: a bias that followed them
freely would promise too much above it."""
_CENTRE = 0.5
"""Features are from about 0 to about 1; products are taken around the middle."""
_FIRST, _SECOND = np.triu_indices(len(FEATURES))


class AnswerModel:
    """The probability that a stored answer is right: logistic in the features and their products.

    Products matter: a high cosine says more of a long question than of a short one, and an
    exchanged word less where the margin is wide. Starts from a prior (``prior.json``) and moves
    with evidence: the most probable weights under normal priors around the starting ones.

    Example:
        >>> model = AnswerModel()
        >>> far, near = np.zeros(len(FEATURES)), np.ones(len(FEATURES))
        >>> bool(model.logits(far[None])[0] < model.logits(near[None])[0])
        True
    """

    def __init__(self) -> None:
        self.start = _prior_weights()
        self.weights = self.start.copy()

    @property
    def weights(self) -> NDArray[np.float64]:
        """One for each of :func:`term_names`."""
        return self._weights

    @weights.setter
    def weights(self, weights: NDArray[np.float64]) -> None:
        """Lay them out as a matrix, too: no row of products need then be made for a request."""
        self._weights = weights
        self._single, pairs, (self._bias,) = np.split(weights, [len(FEATURES), len(weights) - 1])
        self._pairs = np.zeros((len(FEATURES), len(FEATURES)))
        self._pairs[_FIRST, _SECOND] = pairs

    def logits(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the log-odds of each row."""
        x = features - _CENTRE
        logits: NDArray[np.float64] = ((x @ self._pairs + self._single) * x).sum(
            axis=1
        ) + self._bias
        return logits

    def fit(
        self, features: NDArray[np.float64], right: NDArray[np.bool_], *, freedom: float = 1.0
    ) -> None:
        """Move from the prior towards what *features* and *right* say (Newton's method).

        Args:
            features: One row per checked request.
            right: Whether the stored answer would have been right.
            freedom: By how much more than usual the weights may leave the prior.
        """
        x = design_matrix(features)
        pull = (_SPREADS * freedom) ** -2
        weights = self.weights.copy()
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
            if before - loss < 1e-4 * abs(before):
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


def design_matrix(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the features, their products, and 1 for the bias."""
    x = features - _CENTRE
    return np.hstack([x, x[:, _FIRST] * x[:, _SECOND], np.ones((len(x), 1))])


def term_names() -> list[str]:
    """Return the names of the weights, in order."""
    pairs = zip(_FIRST.tolist(), _SECOND.tolist(), strict=True)
    return [*FEATURES, *(f"{FEATURES[i]} * {FEATURES[j]}" for i, j in pairs), "bias"]


_SPREADS = np.concatenate(
    [np.full(len(FEATURES), _SPREAD), np.full(len(_FIRST), _PAIR_SPREAD), [_BIAS_SPREAD]]
)


@cache
def _prior_weights() -> NDArray[np.float64]:
    text = resources.files(__package__).joinpath("prior.json").read_text(encoding="utf-8")
    weights = json.loads(text)["weights"]
    return np.array([weights.get(name, 0.0) for name in term_names()])
