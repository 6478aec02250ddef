"""Which tier is sent first: the one with which the fewest tokens are expected in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from langchain_tokenopt.context.question_needs import Complexity

__all__ = ["first_tier", "plain_chances"]

_PLACES: Final[Mapping[Complexity, int]] = {"simple": 25, "ordinary": 14, "broad": 5}
"""In how many places of a content stands what a question needs, any of which is enough: so falls
the chance that a share has none of them. Chosen by questions about passages and meetings that are
not among those of ``tests/benchmarks/context_tiers.py``."""
_SUREST: Final = 0.99
"""Chance of a part."""
_FURTHER_CALL: Final = 1_000
"""Tokens that asking for more costs beside what is fetched: a call reads everything once more."""
_SURE: Final = 0.9
"""Chance with which a tier must be enough where nobody can ask for more."""


def plain_chances(complexity: Complexity, shares: Sequence[float]) -> list[float]:
    """Return with what chance each tier is enough, as long as nothing is known of a user.

    Args:
        complexity: Of the question.
        shares: What part of the content each tier has.
    """
    places = _PLACES[complexity]
    return [min(_SUREST, 1 - (1 - share) ** places) if share < 1 else 1.0 for share in shares]


def first_tier(tokens: Sequence[int], chances: Sequence[float], most: int, *, can_ask: bool) -> int:
    """Return the index of the tier to send.

    Args:
        tokens: Of each tier, smallest first.
        chances: With what chance each is enough; they rise.
        most: Tokens that may be sent.
        can_ask: Whether somebody can ask for more. Where nobody can, the first is sent that is
            enough in nine of ten cases.

    Example:
        >>> tokens = [100, 220, 460, 1_000]
        >>> first_tier(tokens, [0.95, 0.97, 0.99, 1.0], 4_000, can_ask=True)
        0
        >>> first_tier(tokens, [0.1, 0.6, 0.95, 1.0], 4_000, can_ask=True)
        2
    """
    fitting = [at for at, size in enumerate(tokens) if size <= most] or [0]
    if not can_ask:
        sure = (at for at in fitting if chances[at] >= _SURE)
        return next(sure, fitting[-1])

    def expected(first: int) -> float:
        further = range(first, len(tokens) - 1)
        asked = ((1 - chances[at]) * (tokens[at + 1] + _FURTHER_CALL) for at in further)
        return tokens[first] + sum(asked)

    return min(fitting, key=expected)
