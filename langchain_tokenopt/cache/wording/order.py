"""Phrases that say the same wherever they stand in a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.cache.wording.language import Language, words_of
from langchain_tokenopt.cache.wording.tokens import PAUSE

__all__ = ["placed"]

_AUXILIARIES: Final = words_of("is was do did can could will would should must may might have had")
_JOINED: Final = {"between": ("and",), "zwischen": ("und",), "entre": ("y", "et", "e"),
                  "tra": ("e",), "fra": ("e",), "tussen": ("en",), "między": ("a", "i"),
                  "между": ("и",)}  # fmt: skip
_PARTED: Final = {"separate": "from", "отличается": "от", "compare": "with", "differ": "from"}
"""Verbs that join two things of which neither comes first, with the word before the second."""
_DETERMINERS: Final = words_of(
    "der die das den dem des mein meine meinen meinem dein deine ihr ihre unser unsere dieser "
    "diese dieses le la les l' mon ma mes ton ta tes votre vos ce cette ces el los las mi mis tu "
    "tus su sus este esta il lo gli i mio mia questo questa o os as meu minha seu sua"
)
"""Words that begin a thing of its own."""
_BINDING: Final = words_of(
    "de d' del du des di dei della do da dos das und et y e ou oder o à a al"
)
_ADJECTIVE: Final = re.compile(
    r"(?:ый|ий|ой|ого|его|ому|ему|ым|им|ом|ем|ая|яя|ую|юю|ые|ие|ых|их|ыми|ими|ей)$"
)
_BY_ENDINGS: Final = frozenset(["ru"])
"""Languages in which endings say who does what: there a phrase ends with its first noun."""


def placed(words: Sequence[str], language: Language | None) -> str:
    """Return a sentence with its phrases in one order.

    A phrase begins with a preposition and ends at the next, at a pause, or with the sentence. What
    stands before the first keeps its place; phrases that begin alike keep their order.
    """
    if language is None:
        return " ".join(word for word in words if word != PAUSE)
    phrases = _phrases(words, language)
    fixed = [p for p in phrases if p[0] not in language.prepositions]
    free = [_paired(p) for p in phrases if p[0] in language.prepositions]
    if phrases and phrases[0][0] in language.prepositions:
        free.append(free.pop(0))  # "In Japan, is it so in winter?": "Is it so in winter in Japan?"
    core = [word for p in fixed for word in p]
    _part(core, free)
    heads = [p[0] for p in free]
    if len(set(heads)) == len(heads):
        free.sort()
    return " | ".join(" ".join(p) for p in [core, *free] if p)


def _phrases(words: Sequence[str], language: Language) -> list[list[str]]:
    last: list[str] = []
    phrases = [last]
    is_whole = False
    prepositions, goes_by_endings = language.prepositions, language.code in _BY_ENDINGS
    for word in words:
        opens = word in prepositions
        if len(last) > 2 and word in _DETERMINERS and last[0] in prepositions:
            is_whole = is_whole or last[-1] not in _BINDING | _DETERMINERS
        may_resume = len(phrases) == 2 and not phrases[0]
        resumes = may_resume and len(last) > 1 and _may_go_on_with(word, language)
        if opens or is_whole or word == PAUSE or resumes:
            last = []
            phrases.append(last)
        if word != PAUSE:
            last.append(word)
        is_whole = (
            goes_by_endings
            and not opens
            and last != []
            and last[0] in prepositions
            and not _ADJECTIVE.search(word)
        )
    return [phrase for phrase in phrases if phrase]


def _may_go_on_with(word: str, language: Language) -> bool:
    """Say whether a sentence goes on with a word after a phrase at its very beginning."""
    return word in language.asking or word in _AUXILIARIES


def _paired(phrase: list[str]) -> list[str]:
    """Put two things that a preposition joins into one order."""
    for link in _JOINED.get(phrase[0], ()):
        if phrase.count(link) == 1:
            at = phrase.index(link)
            one, other = phrase[1:at], phrase[at + 1 :]
            if one and other:
                return [phrase[0], *min(one, other), link, *max(one, other)]
    return phrase


def _part(core: list[str], free: list[list[str]]) -> None:
    """Put two things that a verb joins into one order."""
    for verb, link in _PARTED.items():
        if core.count(verb) != 1:
            continue
        at = core.index(verb) + 1
        second = [p for p in free if p[0] == link]
        if len(second) == 1 and core[at:] and second[0][1:]:
            one, other = sorted((core[at:], second[0][1:]))
            core[at:], second[0][1:] = one, other
