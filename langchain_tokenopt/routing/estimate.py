"""How likely each tier's answer to a request is good, by earlier outcomes, with error bars.

Two estimates are made from the same outcomes, and weighed by how well each predicts outcomes that
it has not seen (leave-one-out): a ridge regression on all numbers of a request, and the mean of the
outcomes nearest to it. Both know how unsure they are. Numbers, not texts, go in
(``routing/vectors.py``).

- Ridge with the penalty of least leave-one-out error: Golub, Heath, Wahba 1979.
- Nearest neighbours for routing: RouterBench, arXiv 2403.12031.
- Weights by leave-one-out predictions: Breiman, Stacked Regressions, 1996.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from langchain_tokenopt.routing.vectors import Vector, word_rows

__all__ = ["NOTHING_KNOWN", "Expected", "Space", "TierModel"]

_PENALTIES: Final = np.array([3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0])
_WORDS: Final = 0.4
"""Weight of a word's place, and of a number of an embedding, beside a feature."""
_NEIGHBOURS: Final = (5, 10, 20, 40)
"""How many outcomes are near, of which the number is taken that predicts best."""
_FARTHEST: Final = 4.0
"""Standard deviations at which features are cut off: one odd request shall not decide."""
_PRIOR: Final = 0.75
"""How likely an answer is good of which nothing is known."""
_PRIOR_WEIGHT: Final = 2.0
"""Outcomes that count as much as not knowing."""
_FAR: Final = 0.95
"""Share of the known requests that are nearer to others than the farthest."""
_Z: Final = 1.645
"""Error bars hold with 90 %."""

Rows = NDArray[np.float32]
Numbers = NDArray[np.float64]


class Expected(NamedTuple):
    """How likely an answer is good."""

    mean: float
    low: float
    """5 % chance that it is less likely."""
    high: float
    outcomes: int
    """By how many outcomes."""
    distance: float = math.inf
    """How far the request is from them: 1 is as far as the farthest of them are from each other."""

    def __str__(self) -> str:
        """Return it with its error bar."""
        bar = max(self.high - self.mean, self.mean - self.low)
        return f"{self.mean:.0%} ± {bar:.0%} of {self.outcomes} outcomes"


NOTHING_KNOWN: Final = Expected(_PRIOR, 0.0, 1.0, 0)


class Space:
    """Where requests stand to each other: each number by what is usual.

    Args:
        vectors: Of the requests that are known.
    """

    def __init__(self, vectors: Sequence[Vector]) -> None:
        self.size = len(vectors[0].features)
        lengths = {-1 if v.meaning is None else len(v.meaning) for v in vectors}
        self._meaning = next(iter(lengths)) if len(lengths) == 1 else -1
        blocks = self._blocks(vectors)
        self._usual = [(block.mean(0), block.std(0)) for block in blocks]
        self.rows = self._placed(blocks)

    def place(self, vectors: Sequence[Vector]) -> Rows:
        """Return the rows of other requests."""
        return self._placed(self._blocks(vectors))

    def _blocks(self, vectors: Sequence[Vector]) -> list[Rows]:
        blocks = [np.stack([vector.features for vector in vectors]), word_rows(vectors)]
        if self._meaning > 0:
            nothing = np.full(self._meaning, np.nan, np.float16)
            found = [nothing if v.meaning is None else v.meaning for v in vectors]
            blocks.append(np.stack(found).astype(np.float32))
        return blocks

    def _placed(self, blocks: Sequence[Rows]) -> Rows:
        weights = (1.0, _WORDS, _WORDS)
        placed = []
        for block, (mean, spread), weight in zip(blocks, self._usual, weights, strict=False):
            varies = spread > 1e-6
            scaled = np.where(varies, (block - mean) / np.where(varies, spread, 1.0), 0.0)
            placed.append(weight * np.clip(np.nan_to_num(scaled), -_FARTHEST, _FARTHEST))
        return np.hstack(placed).astype(np.float32)


class TierModel:
    """What is known of one tier.

    Args:
        rows: Where the requests stand that it has answered.
        good: How good its answers were, from 0 to 1.
    """

    def __init__(self, rows: Rows, good: Numbers) -> None:
        self._rows, self._good = rows, good
        self._squares = np.einsum("ij,ij->i", rows, rows)
        count = len(good)
        self._mean = float((good.sum() + _PRIOR * _PRIOR_WEIGHT) / (count + _PRIOR_WEIGHT))
        self._fit_ridge()
        self._fit_weights()

    def __len__(self) -> int:
        return len(self._good)

    def _fit_ridge(self) -> None:
        """Fit all penalties at once, and keep the one that predicts best what it has not seen."""
        rows = self._rows.astype(np.float64)
        residual = self._good - self._mean
        values, axes = np.linalg.eigh(rows.T @ rows)
        values, turned = np.maximum(values, 0.0), rows @ axes
        projected = turned.T @ residual
        best = math.inf
        for penalty in _PENALTIES:
            shrink = 1.0 / (values + penalty)
            fitted = turned @ (shrink * projected)
            leverage = np.minimum((turned * turned) @ shrink + 1.0 / len(rows), 0.98)
            error = (residual - fitted) / (1.0 - leverage)
            if (squared := float((error * error).mean())) < best:
                best, self._variance = squared, squared
                self._left_out = self._good - error
                self._weights = axes @ (shrink * projected)
                self._spread = axes * np.sqrt(shrink)

    def _fit_weights(self) -> None:
        """Weigh both estimates by their predictions of what was left out."""
        distances = self._distances(self._rows, self._squares)
        np.fill_diagonal(distances, np.inf)
        self._reach = float(np.quantile(self._reaches(distances), _FAR))
        near = self._choose_neighbours(distances)
        predictions = np.stack([self._left_out, near], axis=1) - self._mean
        gram = predictions.T @ predictions + 1e-6 * np.eye(2) * len(self._good)
        found = np.linalg.solve(gram, predictions.T @ (self._good - self._mean))
        # Shares that are positive and no more than 1 together: an average, never an amplifier.
        found = np.maximum(found, 0.0)
        self._shares = found / max(1.0, float(found.sum()))

    def _distances(self, rows: Rows, squares: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = squares[:, None] + self._squares - 2 * (rows @ self._rows.T)
        return found

    def _choose_neighbours(self, distances: NDArray[np.float32]) -> Numbers:
        """Take the number of neighbours that predicts best; return what they predict."""
        best, chosen = math.inf, self._good
        for near in (k for k in _NEIGHBOURS if k <= max(5, len(self) // 3)):
            found = self._neighbour_means(distances, near)
            error = float(((self._good - found) ** 2).mean())
            if error < best:
                best, chosen, self._near = error, found, near
        return chosen

    def _reaches(self, distances: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far off the neighbours are."""
        found: NDArray[np.float32] = np.partition(distances, 2, axis=1)[:, 2]
        return found

    def _neighbour_means(self, distances: NDArray[np.float32], near: int) -> Numbers:
        """Return the means of the nearest outcomes, drawn to what is usual of the tier."""
        nearest = np.argpartition(distances, near - 1, axis=1)[:, :near]
        found: Numbers = (self._good[nearest].sum(1) + self._mean) / (near + 1)
        return found

    def means(self, rows: Rows) -> Numbers:
        """Return how likely answers to several requests are good; not cut off at 0 and 1."""
        return self._means(rows, self._distances(rows, np.einsum("ij,ij->i", rows, rows)))

    def _means(self, rows: Rows, distances: NDArray[np.float32]) -> Numbers:
        ridge = rows.astype(np.float64) @ self._weights
        near = self._neighbour_means(distances, self._near) - self._mean
        found: Numbers = self._mean + self._shares[0] * ridge + self._shares[1] * near
        return found

    def expected(self, row: Rows) -> Expected:
        """Return how likely the answer to one request is good.

        The error bar has the regression's own, that of the neighbours, and that of a mean of so few
        outcomes; for who is far from all that is known the first is large.
        """
        distances = self._distances(row, np.einsum("ij,ij->i", row, row))
        mean = float(np.clip(self._means(row, distances)[0], 0.0, 1.0))
        reach = row[0].astype(np.float64) @ self._spread
        ridge = self._variance * float(reach @ reach)
        near = (mean * (1 - mean) + 0.25 / self._near) / self._near
        usual = 0.25 / (len(self) + _PRIOR_WEIGHT)
        bar = _Z * math.sqrt(self._shares[0] ** 2 * ridge + self._shares[1] ** 2 * near + usual)
        squared = max(0.0, float(self._reaches(distances)[0])) / max(self._reach, 1e-3)
        low, high = max(0.0, mean - bar), min(1.0, mean + bar)
        return Expected(mean, low, high, len(self), math.sqrt(squared))
