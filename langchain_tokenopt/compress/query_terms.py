"""The words of a query that say what is asked, how telling each is, and what is related to it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

__all__ = [
    "STOP_WORDS", "WORD", "Rarity", "Term", "lowered", "query_words", "rarity_by_length",
    "rarity_by_rank", "stem", "terms_of",
]  # fmt: skip

_RELATED = 0.6
"""What a related word ("discovered" for "discovery") counts, against 1 for the word itself."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _words(
    """
    a an the of in on at to for from by with and or but is are was were be been being am do does
    did has have had having it its this that these those as who whom whose which what when where
    why how many much i you he she they we his her their our your my me him them us not no can
    could will would shall should may might must than then there so if into about over after
    before between during up down out off also such only own same other s t d m re ve ll don
    please tell give der die das den dem des ein eine einen einem einer eines und oder aber ist
    sind war waren sein wird werden wurde wurden hat haben hatte im in am an auf aus bei mit nach
    seit von vom zu zum zur für über unter vor durch gegen ohne um nicht auch noch nur schon sich
    es er sie wir ihr ich du was wer wie wo wann warum welche welcher welches wieviel viele als
    wenn dass daß el la los las un una unos unas y o u e pero es son era eran fue fueron ser ha
    han había en de del al a con por para sin sobre entre desde hasta que qué quién quiénes cuál
    cuáles cuándo dónde cómo cuánto cuánta cuántos cuántas se su sus lo le les me te nos mi tu no
    sí más muy ya como si
    """
)
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IS_CJK = re.compile(rf"[{_CJK}]")
_CJK_FILLER = re.compile(
    r"什么|哪[里个些年位]?|谁|多少|几|怎么|为什么|如何|吗|呢|的|了|是|在|有|和|与|请"
)

_SUFFIXES = (
    "ingly", "edly", "ing", "ed", "ment", "ation", "ition", "tion", "sion", "er", "or", "ly", "al",
    "ive", "ance", "ence", "e", "y",
)  # fmt: skip


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Strip what English puts at the end of words; light enough not to hurt other languages."""
    if len(word) <= 3 or word.isdigit():
        return word
    for suffix, kept in (("ies", "y"), ("sses", "ss"), ("es", "e"), ("s", "")):
        if word.endswith(suffix) and not word.endswith("ss") and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)] + kept
            break
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


class Rarity(Protocol):
    """How much finding a word says, from 0 to 1, before any text is seen."""

    def __call__(self, word: str) -> float:
        """Return 1 for rare words, less for words that are everywhere."""
        ...


def rarity_by_length(word: str) -> float:
    """Guess a word's rarity where no vocabulary is at hand: long words are rarer (Zipf)."""
    return min(1.0, 0.5 + 0.06 * len(word))


def rarity_by_rank(encode: Callable[[str], Sequence[int]]) -> Rarity:
    """Read a word's rarity from a byte-pair vocabulary, whose ranks are ordered by frequency."""

    @lru_cache(maxsize=65_536)
    def rarity(word: str) -> float:
        tokens = encode(" " + word)
        return math.log(tokens[0] + 1) / 12 if len(tokens) == 1 else 1.0

    return rarity


@dataclass(slots=True)
class Term:
    """A word of the query."""

    word: str
    stem: str
    needle: str
    """What is looked for: a beginning that all related words share."""
    weight: float
    whole_words: bool = True
    seen: dict[str, float] = field(default_factory=dict)

    def value(self, found: str) -> float:
        """Return what a word of the text counts: 1 the same, less if related, 0 if a stranger."""
        known = self.seen.get(found)
        if known is None:
            known = self.seen[found] = self._value(found)
        return known

    def _value(self, found: str) -> float:
        if found == self.word or stem(found) == self.stem:
            return 1.0
        longest = max(len(found), len(self.stem))
        if len(found) < 4 or len(self.stem) < 4:
            return 0.0
        common = next(
            (i for i, (a, b) in enumerate(zip(found, self.stem, strict=False)) if a != b),
            min(len(found), len(self.stem)),
        )
        return _RELATED if common >= 0.6 * longest else 0.0


def query_words(query: str) -> list[str]:
    """Return the words of *query* that say what is asked, in order, without repeats.

    Chinese, Japanese and Korean are cut into overlapping pairs of characters.

    Example:
        >>> query_words("Who discovered the periodic table?")
        ['discovered', 'periodic', 'table']
        >>> query_words("长城有多长")
        ['长城', '多长']
    """
    words: list[str] = []
    for run in WORD.findall(lowered(query)):
        if not _IS_CJK.match(run):
            words.append(run)
            continue
        for part in _CJK_FILLER.split(run):
            words += [part[i : i + 2] for i in range(max(1, len(part) - 1))] if part else []
    said = [word for word in dict.fromkeys(words) if word not in STOP_WORDS]
    return said or list(dict.fromkeys(words))


def terms_of(query: str, rarity: Rarity) -> list[Term]:
    """Return the words of *query* to search for, of related words the first."""
    terms: dict[str, Term] = {}
    for word in query_words(query)[:_MOST_TERMS]:
        root = stem(word)
        if root in terms:
            continue
        cjk = _IS_CJK.match(word) is not None
        needle = root[: max(4, len(root) - 1)]
        weight = 1.0 if cjk else rarity(word) ** 2
        terms[root] = Term(word, root, word if cjk else needle, weight, whole_words=not cjk)
    return list(terms.values())


_MOST_TERMS = 64
"""A query of more words is a text; its first ones say what it is about."""


def lowered(text: str) -> str:
    """Lower-case without changing positions ("İ" becomes two characters in Python)."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)
