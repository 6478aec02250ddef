"""Of which kinds the differences between two questions are.

Two questions are laid beside each other word by word. What stands in one alone is sorted by what it
does in a sentence; what is harmless by itself (an allow list: articles, greetings, plurals, a few
words that mean the same, phrases that change places without changing their roles) is of no kind.
Everything else has to be seen to be harmless where it is served (``fields.py``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from langchain_tokenopt.cache.guards import Profile, profile_of
from langchain_tokenopt.cache.guards.word_tables import LANGUAGES_OF, NEGATORS

__all__ = ["difference_kinds"]

_KIND_OF: Final[Mapping[str, str]] = {
    word: kind
    for kind, words in (
        ("modal", "can could may might must shall should will would ought need"),
        (
            "quantifier",
            "a all any some each every both either few many much more most less least several only "
            "half whole enough just even also too first last next other another same once twice",
        ),
        (
            "relation",
            "to from in into out on onto off up down at by with before after between through over "
            "under above below for against about around per via within until till since during as "
            "than and or but if unless because while of back away again",
        ),
        ("question", "who whom whose what which when where why how"),
        (
            "person",
            "i me my mine we us our ours you your yours he him his she her hers it its they them "
            "their theirs someone anyone everyone this that these those",
        ),
        ("tense", "is was be been being do did done have had get got still yet already now ever"),
        ("negation", " ".join(NEGATORS)),
    )
    for word in words.split()
}
_HARMLESS: Final = frozenset(
    ["an", "the", "please", "kindly", "hi", "hello", "hey", "thanks", "thank"]
)
_ONE_FORM: Final[Mapping[str, str]] = {
    **{"are": "is", "were": "was", "does": "do", "has": "have"},
    **{
        word: group.split()[0]
        for group in [
            "buy purchase",
            "begin start commence",
            "change modify alter",
            "delete erase remove",
            "film movie",
            "car automobile",
            "child kid",
            "child children",
            "error mistake",
            "photo picture",
            "choose select",
            "large big",
            "difference distinction",
            "method way",
            "quick fast",
        ]
        for word in group.split()
    },
}
_PARTS: Final = re.compile(r"[,;:.?!]+(?=\s|$)")
_FRONTED: Final = frozenset(["in", "at", "on", "for", "with", "during"])
_PART_WORDS: Final = 3
"""Words from which a part of a sentence keeps its role wherever it stands; items of a list do
not."""


def difference_kinds(stored: Profile, asked: Profile) -> frozenset[str]:
    """Name the kinds of differences between two questions; none where all are harmless.

    Example:
        >>> from langchain_tokenopt.cache.guards import profile_of
        >>> def kinds(one, other):
        ...     return sorted(difference_kinds(profile_of(one), profile_of(other)))
        >>> kinds("Must I tell my landlord?", "May I tell my landlord?")
        ['modal']
        >>> kinds("Is tipping expected in Japan?", "In Japan, is tipping expected?")
        []
        >>> kinds("How do I change the lock?", "How do I sell a lock?")
        ['quantifier', 'word']
    """
    is_english = _is_english(stored) and _is_english(asked)
    one, other = _forms(stored.words, is_english), _forms(asked.words, is_english)
    lost, won = Counter(one) - Counter(other), Counter(other) - Counter(one)
    if not lost and not won:
        is_same = one == other or (is_english and _is_moved(stored.text, asked.text))
        return frozenset() if is_same else frozenset(["order"])
    names = set(_forms((*stored.entities, *asked.entities), is_english))
    kinds = {_kind(word, names) for word in (*lost, *won)}
    if "word" in kinds and not (_has_words(lost, names) and _has_words(won, names)):
        kinds = kinds - {"word"} | {"added" if _has_words(won, names) else "dropped"}
    return frozenset(kinds)


def _is_english(profile: Profile) -> bool:
    if profile.language not in ("", "en"):
        return False
    return any(LANGUAGES_OF.get(word) == ("en",) for word in profile.words)


def _kind(word: str, names: set[str]) -> str:
    if word in names:
        return "name"
    if not word.isalpha():
        return "number"
    return _KIND_OF.get(word, "word")


def _has_words(words: Iterable[str], names: set[str]) -> bool:
    return any(_kind(word, names) == "word" for word in words)


def _forms(words: Sequence[str], is_english: bool) -> list[str]:
    if not is_english:
        return list(words)
    return [form for word in words if (form := _form(word)) not in _HARMLESS]


@lru_cache(maxsize=65_536)
def _form(word: str) -> str:
    """Return what all harmless forms of an English word share."""
    singular = word
    if len(word) > 4 and word.endswith("ies"):
        singular = word[:-3] + "y"
    elif len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        singular = word[:-1]
    return _ONE_FORM.get(word) or _ONE_FORM.get(singular) or singular


def _is_moved(one: str, other: str) -> bool:
    """Say whether whole parts of a sentence have changed places, and nothing else."""
    left, right = _parts(one), _parts(other)
    if sorted(left) == sorted(right):
        return all(len(part) >= _PART_WORDS for part in left)
    return _is_fronted(left, right) or _is_fronted(right, left)


def _is_fronted(parts: Sequence[tuple[str, ...]], plain: Sequence[tuple[str, ...]]) -> bool:
    """Say whether "In Japan, is it so?" stands beside "Is it so in Japan?"."""
    if len(parts) != 2 or len(plain) != 1 or parts[0][0] not in _FRONTED:
        return False
    return parts[1] + parts[0] == plain[0]


def _parts(text: str) -> list[tuple[str, ...]]:
    found = (tuple(_forms(profile_of(part).words, True)) for part in _PARTS.split(text))
    return [part for part in found if part]
