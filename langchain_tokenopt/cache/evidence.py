"""The last few thousand requests, and what came out where the model was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokenopt.cache.features import FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EvidenceWindow"]


_FIRST_ROWS: Final = 64


class EvidenceWindow:
    """The last rows of features, with their log-odds and outcomes, in arrays that are reused.

    Args:
        size: Rows that are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._count = 0
        self._features = np.zeros((min(size, _FIRST_ROWS), len(FEATURES)))
        rows = len(self._features)
        self._logits = np.zeros(rows)
        self._right = np.zeros(rows, dtype=bool)
        self._audit = np.zeros(rows, dtype=bool)
        self._number = np.zeros(rows, dtype=np.int64)

    def __len__(self) -> int:
        return min(self._count, self._size)

    @property
    def is_full(self) -> bool:
        """Whether earlier rows have been dropped."""
        return self._count >= self._size

    @property
    def oldest(self) -> int:
        """The number of the oldest row."""
        return int(self._number[self._count % self._size if self.is_full else 0])

    @property
    def features(self) -> NDArray[np.float64]:
        """One row each, in no particular order; the other arrays follow the same."""
        return self._features[: len(self)]

    @property
    def logits(self) -> NDArray[np.float64]:
        """As last scored."""
        return self._logits[: len(self)]

    @logits.setter
    def logits(self, logits: NDArray[np.float64]) -> None:
        self._logits[: len(self)] = logits

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the stored answer would have been right."""
        return self._right[: len(self)]

    @property
    def audit(self) -> NDArray[np.bool_]:
        """Whether it would have been served, and was asked by chance."""
        return self._audit[: len(self)]

    @property
    def number(self) -> NDArray[np.int64]:
        """What each row was numbered as."""
        return self._number[: len(self)]

    def add(
        self,
        features: NDArray[np.float64],
        logit: float,
        number: int,
        *,
        right: bool = False,
        audit: bool = False,
    ) -> None:
        """Take in a row; the oldest goes when there are too many."""
        at = self._count % self._size
        if at == len(self._logits):
            self._grow()
        self._features[at] = features
        self._logits[at] = logit
        self._right[at] = right
        self._audit[at] = audit
        self._number[at] = number
        self._count += 1

    def _grow(self) -> None:
        """Make room: most fields are asked seldom, and never need all of it."""
        rows = min(self._size, 2 * len(self._logits))
        for name in ("_features", "_logits", "_right", "_audit", "_number"):
            array = getattr(self, name)
            setattr(self, name, np.resize(array, (rows, *array.shape[1:])))

    def last(self, count: int) -> NDArray[np.int64]:
        """Return the positions of the last *count* rows, oldest first."""
        count = min(count, len(self))
        return np.arange(self._count - count, self._count) % self._size

    def keep_last(self, count: int) -> None:
        """Forget all but the last *count* rows."""
        kept = self.last(count)
        arrays = (self._features, self._logits, self._right, self._audit, self._number)
        for array in arrays:
            array[: len(kept)] = array[kept]
        self._count = len(kept)
