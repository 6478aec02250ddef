"""Comparisons of words and texts that several guards need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from langchain_tokenopt.cache.guards.profile import Profile
from langchain_tokenopt.cache.guards.word_tables import (
    FORMS_OF_BE,
    FUNCTION_WORDS,
    NEGATING_PREFIXES,
    OPPOSITES,
    SYMMETRIC_WORDS,
    SYNONYMS,
)
from langchain_tokenopt.text.stems import stem

__all__ = [
    "are_joined",
    "count_opposites",
    "has_same_words",
    "is_among",
    "is_misspelling",
    "is_same_word",
    "missing_entities",
    "passive_agent",
    "words_once_in_both",
]


@lru_cache(maxsize=65_536)
def is_same_word(a: str, b: str) -> bool:
    """Say whether two words are one: inflected, misspelt, or listed as synonyms."""
    if a == b or stem(a) == stem(b):
        return True
    group = SYNONYMS.get(a)
    if group is not None and group == SYNONYMS.get(b):
        return True
    if a[0] != b[0] or min(len(a), len(b)) < 4 or b in OPPOSITES.get(a, ()):
        return False
    if is_misspelling(a, b):
        return True
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    return shared >= 5 and shared >= max(len(a), len(b)) - 3


def is_among(word: str, words: Iterable[str]) -> bool:
    """Say whether *word* is one of *words*, in whatever form or spelling."""
    return any(is_same_word(word, other) for other in words)


def is_misspelling(a: str, b: str) -> bool:
    """Say whether two texts are equal but for spaces and one exchanged, lost or doubled letter."""
    if a == b:
        return True
    if abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 4:
        return False
    at = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    if len(a) == len(b):
        swapped = a[:at] + a[at + 1 : at + 2] + a[at : at + 1] + a[at + 2 :]
        return swapped == b
    long, short = (a, b) if len(a) > len(b) else (b, a)
    return long[:at] + long[at + 1 :] == short


def count_opposites(a: Profile, b: Profile, *, without: frozenset[str] = frozenset()) -> int:
    """Count the words of *a* that have an opposite in *b*, where neither stands in both.

    Args:
        a: One text.
        b: The other.
        without: Words of *a* that do not count.
    """
    known_a, known_b = set(a.words), set(b.words)
    only_a = [w for w in a.words if w not in known_b and w not in without]
    only_b = known_b - known_a
    turned = frozenset().union(*map(_turned, only_b))
    turns = 0
    for word in only_a:
        if word not in turned and _turned(word).isdisjoint(only_b):
            continue
        for other in only_b:
            if other in _turned(word) or word in _turned(other):
                turns += 1
                only_b.discard(other)
                break
    return turns


@lru_cache(maxsize=65_536)
def _turned(word: str) -> frozenset[str]:
    """Return the listed opposites of *word*, and what it denies by its prefix."""
    denied = {
        word.removeprefix(prefix)
        for prefix in NEGATING_PREFIXES
        if word.startswith(prefix) and len(word) - len(prefix) >= 4
    }
    return OPPOSITES.get(word, frozenset()) | denied


def missing_entities(entities: Iterable[str], other: Profile) -> list[str]:
    """Return the entities that *other* does not mention, not even misspelt or abbreviated."""
    return [
        entity
        for entity in entities
        if entity not in other.words
        and not any(is_same_word(entity, word) for word in other.words)
        and not (2 <= len(entity) <= 5 and entity in other.initials)
    ]


def words_once_in_both(a: Profile, b: Profile) -> list[str]:
    """Return the words of matter that stand once in each text, in the order of *a*."""
    return [
        w
        for w in a.content
        if w in b.content_set and a.content.count(w) == 1 and b.content.count(w) == 1
    ]


def passive_agent(profile: Profile) -> str | None:
    """Return the first matter word after "by" in "was ... by ..."; None in active voice."""
    words = profile.words
    if "by" not in words:
        return None
    by = words.index("by")
    if by < 2 or not any(w in FORMS_OF_BE for w in words[:by]):
        return None
    if not re.search(r"(ed|en|wn|ght|t|d|de|ne)$", words[by - 1]):
        return None
    return next((w for w in words[by + 1 :] if w not in FUNCTION_WORDS), None)


def has_same_words(a: Profile, b: Profile) -> bool:
    """Nearly every word of one text stands in the other."""
    return a.stems == b.stems and abs(len(a.words) - len(b.words)) <= 2


def are_joined(profile: Profile, moved: set[str]) -> bool:
    """Say whether the words that changed places are joined by something symmetric."""
    positions = [at for at, w in enumerate(profile.words) if w in moved]
    first, last = max(0, min(positions) - 3), max(positions) + 3
    return any(w in SYMMETRIC_WORDS for w in profile.words[first:last])
