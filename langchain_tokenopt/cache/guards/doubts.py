"""Differences between two questions that often change the answer, but not always."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from langchain_tokenopt.cache.guards.comparison import (
    are_joined,
    count_opposites,
    has_same_words,
    is_among,
    is_misspelling,
    is_same_word,
    missing_entities,
    passive_agent,
    words_once_in_both,
)
from langchain_tokenopt.cache.guards.profile import Profile
from langchain_tokenopt.cache.guards.word_tables import (
    DEPENDENT_WORDS,
    FRAME_WORDS,
    FUNCTION_WORDS,
    PRONOUNS,
)
from langchain_tokenopt.text.sentences import sentences_of

__all__ = ["DOUBTS", "doubts_between"]


def _exchanged_word(a: Profile, b: Profile) -> bool:
    """The same sentence with another word in one place."""
    left, right = _middles(a, b)
    if not left or not right:
        return False
    frame = len(a.words) - len(left)
    if frame < 2 or frame < 0.5 * min(len(a.words), len(b.words)):
        return False
    lost = [w for w in left if w not in FRAME_WORDS]
    won = [w for w in right if w not in FRAME_WORDS]
    lost = [w for w in lost if not any(is_same_word(w, v) for v in right)]
    won = [w for w in won if not any(is_same_word(w, v) for v in left)]
    if bool(lost) != bool(won):  # a pronoun in place of a name, or the other way round
        gone, come = (left, right) if lost else (right, left)
        return len(gone) <= 2 and any(w in PRONOUNS for w in come)
    return 1 <= len(lost) <= 3 and 1 <= len(won) <= 3


def _added_word(a: Profile, b: Profile) -> bool:
    """The same sentence with a word of matter more on one side only."""
    left, right = _middles(a, b)
    frame = min(len(a.words) - len(left), len(b.words) - len(right))
    if max(len(left), len(right)) > 3 or frame < 0.6 * min(len(a.words), len(b.words)):
        return False
    lost = any(w not in FRAME_WORDS and not is_among(w, right) for w in left)
    won = any(w not in FRAME_WORDS and not is_among(w, left) for w in right)
    return lost != won


def _extra_number(a: Profile, b: Profile) -> bool:
    return bool(a.numbers) != bool(b.numbers)


def _extra_entity(a: Profile, b: Profile) -> bool:
    if is_misspelling(a.squeezed, b.squeezed):
        return False
    return bool(missing_entities(a.entities, b)) != bool(missing_entities(b.entities, a))


def _denies_other(a: Profile, b: Profile) -> bool:
    """One text denies what the other speaks of, or has the opposite of a word; not both at once."""
    turns = count_opposites(a, b)
    if len(a.negated) != len(b.negated):
        longer, other = (a, b) if len(a.negated) > len(b.negated) else (b, a)
        if turns or any(scope & other.stems for scope in longer.negated):
            turns += len(longer.negated) - len(other.negated)
    return turns % 2 == 1


def _other_order(a: Profile, b: Profile) -> bool:
    """The same words in another order, with nothing symmetric to join them."""
    if not has_same_words(a, b) or (passive_agent(a) is None) != (passive_agent(b) is None):
        return False
    shared = words_once_in_both(a, b)
    order = [w for w in b.content if w in shared]
    moved = {w for w, v in zip(shared, order, strict=True) if w != v}
    return bool(moved) and not (are_joined(a, moved) or are_joined(b, moved))


def _middles(a: Profile, b: Profile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is left of both texts without their common beginning and end."""
    if is_misspelling(a.squeezed, b.squeezed) or _asks_the_same(a.text, b.text):
        return (), ()
    left, right = a.words, b.words
    start, shorter = 0, min(len(left), len(right))
    while start < shorter and left[start] == right[start]:
        start += 1
    end, limit = 0, shorter - start
    while end < limit and left[-1 - end] == right[-1 - end]:
        end += 1
    return left[start : len(left) - end], right[start : len(right) - end]


def _asks_the_same(a: str, b: str) -> bool:
    """Say whether only the run-up differs and the question at the end stands on its own."""
    one = sentences_of(a.lower(), small_letters=True)
    if len(one) < 2:
        return False
    two = sentences_of(b.lower(), small_letters=True)
    if len(two) < 2 or one[-1] != two[-1]:
        return False
    words = re.findall(r"\w+", one[-1])
    matter = [w for w in words if w not in FUNCTION_WORDS]
    return len(matter) >= 3 and not any(w in DEPENDENT_WORDS for w in words)


DOUBTS: Final[Mapping[str, Callable[[Profile, Profile], bool]]] = {
    "exchanged_word": _exchanged_word,
    "added_word": _added_word,
    "extra_number": _extra_number,
    "extra_entity": _extra_entity,
    "turned": _denies_other,
    "reordered": _other_order,
}
"""Differences that often change the answer, by name."""


def doubts_between(a: Profile, b: Profile, names: Iterable[str] = tuple(DOUBTS)) -> list[str]:
    """Return the names of the doubts about answering *b* with the answer to *a*.

    Example:
        >>> from langchain_tokenopt.cache.guards import profile_of
        >>> one, other = map(profile_of, ("Can I feed my dog oil?", "Can I feed my cat oil?"))
        >>> doubts_between(one, other)
        ['exchanged_word']
    """
    return [name for name in names if DOUBTS[name](a, b)]
