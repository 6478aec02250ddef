"""What speaks for and against serving a stored answer, as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from langchain_tokenopt.cache.guards import Profile, doubts_between

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FEATURES", "NEIGHBOURS", "Neighbour", "Neighbourhood", "features_of"]


class Neighbour(NamedTuple):
    """A stored question near the one that is asked."""

    entry: int
    cosine: float
    answer: int
    """Entries with the same answer have the same number."""


class Neighbourhood(NamedTuple):
    """What is stored near a question."""

    near: Sequence[Neighbour] = ()
    """Nearest first."""
    around: Sequence[Neighbour] = ()
    """The neighbours of the nearest one, itself excluded."""


FEATURES = (
    "cosine",
    "margin",
    "crowd",
    "stored_margin",
    "stored_crowd",
    "agreement",
    "second",
    "shared_stems",
    "covered_stems",
    "shared_trigrams",
    "exchanged_word",
    "added_word",
    "one_sided",
    "turned",
    "reordered",
    "length_gap",
)
"""What the probability is computed from, in this order.

``margin`` and ``crowd``: how far behind the nearest neighbour with another answer is, and the mean
cosine of the next five with other answers; ``stored_*`` the same seen from the stored question.
"""

NEIGHBOURS = 16
"""How many are looked at."""


def features_of(
    neighbours: Sequence[Neighbour],
    around_stored: Sequence[Neighbour],
    asked: Profile,
    stored: Profile,
    doubts: Iterable[str],
) -> NDArray[np.float64]:
    """Return the features of serving ``neighbours[0]``.

    Args:
        neighbours: Of the question, nearest first.
        around_stored: Of the stored question that would be served, itself excluded.
        asked: The words of the question.
        stored: The words of the stored one.
        doubts: Names of the doubts that are switched on.
    """
    best = neighbours[0]
    others = [n.cosine for n in neighbours if n.answer != best.answer]
    around = [n.cosine for n in around_stored if n.answer != best.answer]
    agreeing = [n.cosine for n in neighbours[1:3] if n.answer == best.answer]
    shared = len(asked.stems & stored.stems)
    union, smaller = len(asked.stems | stored.stems), min(len(asked.stems), len(stored.stems))
    raised = set(doubts_between(stored, asked, doubts))
    longest = max(len(asked.words), len(stored.words), 1)
    return np.array(
        [
            best.cosine,
            best.cosine - _first(others),
            _mean(others[:5]),
            best.cosine - _first(around),
            _mean(around[:5]),
            len(agreeing) / 2,
            _first(agreeing),
            shared / union if union else 1.0,
            shared / smaller if smaller else 0.0,
            _trigram_overlap(asked.squeezed, stored.squeezed),
            "exchanged_word" in raised,
            "added_word" in raised,
            ("extra_number" in raised) + ("extra_entity" in raised),
            "turned" in raised,
            "reordered" in raised,
            abs(len(asked.words) - len(stored.words)) / longest,
        ]
    )


_FAR = 0.3
"""Cosine that stands in for a neighbour that is not there: that of loosely related questions."""


def _first(cosines: Sequence[float]) -> float:
    return max(cosines[0], _FAR) if cosines else _FAR


def _mean(cosines: Sequence[float]) -> float:
    return max(sum(cosines) / len(cosines), _FAR) if cosines else _FAR


def _trigram_overlap(a: str, b: str) -> float:
    one, two = set(zip(a, a[1:], a[2:], strict=False)), set(zip(b, b[1:], b[2:], strict=False))
    shared = len(one & two)
    union = len(one) + len(two) - shared
    return shared / union if union else float(a == b)
