"""Differences between two questions that change the answer by themselves.

``appended`` and ``strangers`` are for planted answers; how often they fire was seen on all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from langchain_tokenopt.cache.guards.comparison import (
    are_joined,
    count_opposites,
    has_same_words,
    is_among,
    is_misspelling,
    missing_entities,
    passive_agent,
    words_once_in_both,
)
from langchain_tokenopt.cache.guards.profile import Profile
from langchain_tokenopt.cache.guards.word_tables import (
    FRAME_WORDS,
    FUNCTION_WORDS,
    GENDER_OF,
    NEGATORS,
)
from langchain_tokenopt.text.stems import stem

__all__ = ["VETOES", "vetoes_between"]


def _other_numbers(a: Profile, b: Profile) -> bool:
    if not a.numbers or not b.numbers:
        return False
    if [n for n, _ in a.numbers] != [n for n, _ in b.numbers]:
        return True
    return any(u and v and u != v for (_, u), (_, v) in zip(a.numbers, b.numbers, strict=True))


def _other_dates(a: Profile, b: Profile) -> bool:
    return bool(a.dates and b.dates and a.dates != b.dates)


def _other_ids(a: Profile, b: Profile) -> bool:
    return a.ids != b.ids and a.squeezed != b.squeezed


_NEGATOR_STEMS = frozenset(map(stem, NEGATORS))


def _opposite(a: Profile, b: Profile) -> bool:
    """Count what turns the meaning round: an odd number of turns is the opposite question.

    Only where little else differs. A long text finds its way to an "in" and an "out", and a
    negation is mostly another way to put the same ("I can't find", "where is").
    """
    matter_is_equal = a.stems - _NEGATOR_STEMS == b.stems - _NEGATOR_STEMS
    turns = count_opposites(a, b, without=frozenset() if matter_is_equal else FUNCTION_WORDS)
    others = len(a.stems | b.stems) - 2 * turns
    if len(a.negated) != len(b.negated) and (turns or matter_is_equal):
        turns += abs(len(a.negated) - len(b.negated))
    return turns % 2 == 1 and len(a.stems & b.stems) >= 0.4 * others


def _negates_other(a: Profile, b: Profile) -> bool:
    """Both deny something, but not the same thing, and both things stand in both texts."""
    if len(a.negated) != 1 or len(b.negated) != 1:
        return False
    one, other = a.negated[0], b.negated[0]
    return bool(one and other and not one & other and one <= b.stems and other <= a.stems)


def _other_entity(a: Profile, b: Profile) -> bool:
    """Each text names somebody or something that the other does not."""
    if not a.entities or not b.entities or is_misspelling(a.squeezed, b.squeezed):
        return False
    return bool(missing_entities(a.entities, b) and missing_entities(b.entities, a))


def _swapped_roles(a: Profile, b: Profile) -> bool:
    """The same words, but who does it to whom has changed."""
    one, other = _genders(a), _genders(b)
    if one != other and len(one) == len(other):
        return True
    shared = words_once_in_both(a, b)
    if len(shared) < 2:
        return False
    agent_a, agent_b = passive_agent(a), passive_agent(b)
    if (agent_a is None) != (agent_b is None):
        active, passive, agent = (b, a, agent_a) if agent_a else (a, b, agent_b)
        patient = next((w for w in passive.content if w in shared), None)
        if agent not in shared or patient in (None, agent):
            return False
        return active.content.index(agent) > active.content.index(patient)
    if not has_same_words(a, b):
        return False
    order = [w for w in b.content if w in shared]
    moved = [w for w, v in zip(shared, order, strict=True) if w != v]
    if not _trade_places(moved, a, b):
        return False
    return not (are_joined(a, set(moved)) or are_joined(b, set(moved)))


def _trade_places(moved: Sequence[str], a: Profile, b: Profile) -> bool:
    """Say whether two words have traded places around something that stayed where it was.

    "A loves B" and "B loves A"; not "colleges for MCA" and "MCA colleges".
    """
    if len(moved) != 2:
        return False
    between = []
    for words in (a.words, b.words):
        first, last = sorted(words.index(word) for word in moved)
        between.append(words[first + 1 : last])
    return bool(between[0] and set(between[0]) & set(between[1]))


def _genders(profile: Profile) -> tuple[str, ...]:
    return tuple(GENDER_OF[w] for w in profile.words if w in GENDER_OF)


def _other_language(a: Profile, b: Profile) -> bool:
    return bool(a.language and b.language and a.language != b.language)


def _other_aspect(a: Profile, b: Profile) -> bool:
    return a.aspect != b.aspect and bool(a.content_set & b.content_set)


def _or_against_and(a: Profile, b: Profile) -> bool:
    """One asks which of two, the other asks for both."""
    for one, other in ((a, b), (b, a)):
        if "or" in one.words and "and" not in one.words:
            both = "and" in other.words and "or" not in other.words
            if both and len(one.content_set & other.content_set) >= 2:
                return True
    return False


def _appended(stored: Profile, asked: Profile) -> bool:
    """The stored question is the asked one with more put before or behind it.

    Somebody else's addition ("... and answer that the bank is closed") must not become part of the
    answer to the plain question. The other way round nobody is answered with what he has not asked.
    """
    if len(stored.words) <= len(asked.words) or len(asked.content) < 2:
        return False
    extra = [w for w in stored.words if w not in FRAME_WORDS and not is_among(w, asked.words)]
    if len(extra) < 2:
        return False
    count = len(asked.words)
    if any(
        stored.words[at : at + count] == asked.words for at in range(len(stored.words) - count + 1)
    ):
        return True
    said = [stem(w) for w in stored.words if w not in FRAME_WORDS]
    shared = [at for at, stem in enumerate(said) if stem in asked.stems]
    others = [at for at, stem in enumerate(said) if stem not in asked.stems]
    if len(others) < 3 or {said[at] for at in shared} < asked.stems:
        return False
    return min(others) > max(shared) or max(others) < min(shared)


def _strangers(a: Profile, b: Profile) -> bool:
    """No word of matter in common: near only for an embedder that is mistaken, or was deceived.

    Only for texts in letters without accents, in which words stand apart.
    """
    if not a.content or not b.content or not a.text.isascii() or not b.text.isascii():
        return False
    if a.stems & b.stems or is_misspelling(a.squeezed, b.squeezed):
        return False
    return not any(is_among(word, b.content) for word in a.content)


VETOES: Final[Mapping[str, Callable[[Profile, Profile], bool]]] = {
    "numbers": _other_numbers,
    "dates": _other_dates,
    "ids": _other_ids,
    "opposite": _opposite,
    "negation_scope": _negates_other,
    "entities": _other_entity,
    "roles": _swapped_roles,
    "language": _other_language,
    "aspect": _other_aspect,
    "or_and": _or_against_and,
    "appended": _appended,
    "strangers": _strangers,
}
"""Differences that change the answer by themselves, by name."""


def vetoes_between(a: Profile, b: Profile, names: Iterable[str] = tuple(VETOES)) -> list[str]:
    """Return the names of the vetoes that forbid answering *b* with the answer to *a*.

    Example:
        >>> from langchain_tokenopt.cache.guards import profile_of
        >>> one, other = map(profile_of, ("How do I enable 2FA?", "How do I disable 2FA?"))
        >>> vetoes_between(one, other)
        ['opposite']
    """
    return [name for name in names if VETOES[name](a, b)]
