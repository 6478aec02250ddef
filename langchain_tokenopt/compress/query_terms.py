"""The words of a query that say what is asked, how telling each is, and what is related to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, Protocol

from langchain_tokenopt.compress.identifiers import identifiers, written_forms
from langchain_tokenopt.text.stems import root
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import is_cjk, lowered, terms_of

__all__ = [
    "EMPTY_WORDS", "Rarity", "Term", "query_terms", "query_words", "rarity_by_length",
    "rarity_by_rank",
]  # fmt: skip

EMPTY_WORDS: Final = frozenset().union(
    *(STOP_WORDS[language] for language in ("en", "de", "es")),
    ("many", "much", "before", "after", "during", "other", "don", "give"),
    ("say", "said", "says", "think", "thinks", "thought", "discuss", "discussed", "discussing"),
    ("discussion", "opinion", "opinions", "talk", "talked", "describe", "described", "summarize"),
    ("summarise", "explain", "explained", "mention", "mentioned", "according", "regarding"),
    ("feel", "felt", "suggest", "suggested", "recommend", "attitude", "view", "views"),
)
"""Words that say nothing of what a query asks."""

_RELATED = 0.6
"""What a related word ("discovered" for "discovery") counts, against 1 for the word itself."""


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
    """What is looked for: a word with its relatives, or an identifier, which has none."""

    word: str
    root: str
    needles: tuple[str, ...]
    """What is looked for in the text: a beginning that all related words share, or every way in
    which the identifier may be written."""
    weight: float
    kind: Literal["word", "pair", "exact"] = "word"
    """A pair is two characters of a script without spaces."""
    parts: tuple[Term, ...] = ()
    """Of an identifier: its words, to look for where it does not stand in the text itself."""
    seen: dict[str, float] = field(default_factory=dict)

    @property
    def is_telling(self) -> bool:
        """Whether it is an identifier rather than a number that many things may have."""
        return not self.word.isdigit() or len(self.word) > 4

    def value(self, found: str) -> float:
        """Return what a word of the text counts: 1 the same, less if related, else 0."""
        known = self.seen.get(found)
        if known is None:
            known = self.seen[found] = self._value(found)
        return known

    def _value(self, found: str) -> float:
        if found == self.word or root(found) == self.root:
            return 1.0
        longest = max(len(found), len(self.root))
        if len(found) < 4 or len(self.root) < 4 or not found.isalpha():
            return 0.0
        return _RELATED if _alike(found, self.root) >= 0.6 * longest else 0.0


def _alike(one: str, other: str) -> int:
    """Return with how many characters both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def query_words(query: str) -> list[str]:
    """Return the words of *query* that say what is asked, in order, without repeats.

    Chinese, Japanese and Korean are cut into overlapping pairs of characters.

    Example:
        >>> query_words("Who discovered the periodic table?")
        ['discovered', 'periodic', 'table']
        >>> query_words("长城有多长")
        ['长城', '多长']
    """
    words = dict.fromkeys(terms_of(query))
    return [word for word in words if word not in EMPTY_WORDS] or list(words)


def query_terms(query: str, rarity: Rarity) -> list[Term]:
    """Return what of *query* is searched for; of words with one root, the first.

    Example:
        >>> terms = query_terms("Who restarted host-40 on 2026-03-05?", rarity_by_length)
        >>> [term.word for term in terms]
        ['restarted', 'host-40', '2026-03-05']
    """
    terms: dict[str, Term] = {}
    rest, position = [], 0
    for found in identifiers(query):
        rest.append(query[position : found.start()])
        position = found.end()
        _add_words(terms, " ".join(rest), rarity)
        rest = []
        written = found.group()
        inside: dict[str, Term] = {}
        _add_words(inside, written, rarity)
        key = lowered(written)
        if key not in terms:
            parts = tuple(inside.values()) if len(inside) > 1 else ()
            terms[key] = Term(key, key, written_forms(key), 1.0, "exact", parts)
    _add_words(terms, query[position:], rarity)
    told = [term for term in terms.values() if term.word not in EMPTY_WORDS]
    return (told or list(terms.values()))[:_MOST_TERMS]


def _add_words(terms: dict[str, Term], text: str, rarity: Rarity) -> None:
    for word in terms_of(text)[: 4 * _MOST_TERMS]:
        if (word_root := root(word)) in terms:
            continue
        if is_cjk(word):
            terms[word_root] = Term(word, word_root, (word,), 1.0, "pair")
        else:
            needle = word_root[: min(max(4, len(word_root) - 1), _alike(word, word_root))]
            terms[word_root] = Term(word, word_root, (needle,), rarity(word) ** 2)


_MOST_TERMS = 64
"""A query of more words is a text; its first ones say what it is about."""
