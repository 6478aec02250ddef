"""Which tier is sent first: the one with which the fewest tokens are expected in all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from langchain_tokenopt.compress.answer_kinds import answer_pattern
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import terms_of

__all__ = ["Complexity", "complexity_of", "first_tier", "plain_chances"]

Complexity = Literal["simple", "ordinary", "broad"]

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
_LONG: Final = 12
"""Telling words of a question that is not simple any more."""
_STOPS: Final[frozenset[str]] = frozenset().union(*STOP_WORDS.values())


def _any_of(latin: str, others: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{latin})\b|{others}", re.IGNORECASE)


_BROAD: Final = _any_of(
    r"compar\w+|versus|vs|differences?|differs?|summar\w+|overview|all|every\w*|each|list|why"
    r"|explain\w*|analy[sz]\w+|discuss\w*|pros and cons|trade-?offs?|relat\w+|opinions?|think"
    r"|vergleich\w*|unterschie\w+|zusammenfass\w*|fasse?|überblick|alle[nrs]?|jede[mnrs]?|warum"
    r"|erklär\w*|analys\w+|liste"
    r"|resum\w+|diferencias?|todos?|todas?|cada|por qu[eé]|explica\w*|analiza\w*|lista"
    r"|r[ée]sum\w+|diff[ée]rences?|tous|toutes|chaque|pourquoi|expliqu\w+|analyse\w*"
    r"|riassum\w+|differenz\w+|tutt[ie]|ogni|perch[eé]|spieg\w+|diferen[çc]as?|vergelijk\w*|waarom",
    r"сравн|разниц|кратк|обзор|\bвсе\b|кажд|почему|объясн|перечисл"
    r"|比较|比較|区别|違い|总结|概述|要約|まとめ|所有|全部|すべて|全て|为什么|なぜ|解释|説明|列出|分析"
    r"|비교|차이|요약|모든|모두|설명|قارن|لخص|لماذا",
)


def complexity_of(query: str | None) -> Complexity:
    """Return how much of a content a question is likely to need, by its words.

    Simple is what asks for one date, number, person or place; broad what compares, sums up, lists
    or asks for reasons. Words of 12 languages.

    Example:
        >>> complexity_of("When was the bridge built?"), complexity_of("Compare both offers.")
        ('simple', 'broad')
        >>> complexity_of("What does the contract say about noise?"), complexity_of(None)
        ('ordinary', 'ordinary')
    """
    if not query:
        return "ordinary"
    if _BROAD.search(query):
        return "broad"
    telling = {*terms_of(query)} - _STOPS
    is_simple = len(telling) <= _LONG and query.count("?") <= 1 and answer_pattern(query)
    return "simple" if is_simple else "ordinary"


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
