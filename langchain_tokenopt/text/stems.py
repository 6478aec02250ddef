"""Forms of one word, cut to what they share: its stem, or its root.

A *stem* is what is left without inflection: plural, tense, comparison. "operations" and
"operation" have one stem, "operator" has another. Guards compare stems (``cache``): to them,
another word is another question.

A *root* is what is left without derivation, too: "discovery" and "discovered" have one root.
Searches compare roots (``compress``, ``testing``): to them, a related word is a find.

Both are crude on purpose. What is compared is cut alike, so a stem need not be a word; and three
letters always stay, which hurts other languages little.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["american", "root", "stem"]

_SHORTEST: Final = 3
"""Letters that stay."""
_INFLECTIONS: Final = ("ings", "ing", "ers", "ed", "es", "er", "s", "d", "e")
_PLURALS: Final = (("ies", "y"), ("sses", "ss"), ("es", "e"), ("s", ""))
_DERIVATIONS: Final = (
    "ingly", "edly", "ing", "ed", "ment", "ation", "ition", "tion", "sion", "er", "or", "ly", "al",
    "ive", "ance", "ence", "e", "y",
)  # fmt: skip


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Cut plural, tense and comparison off *word*, which is in lower case; numbers stay.

    Example:
        >>> [stem(word) for word in ("operation", "operations", "operator", "parties", "1000")]
        ['operation', 'operation', 'operator', 'party', '1000']
    """
    if word.isdigit():
        return word
    if word.endswith("ies") and len(word) > _SHORTEST + 1:
        return word[:-3] + "y"
    return _undoubled(_without(word, _INFLECTIONS))


@lru_cache(maxsize=65_536)
def root(word: str) -> str:
    """Cut what makes one word of another, too; numbers stay.

    Example:
        >>> [root(word) for word in ("discovery", "discovered", "discoveries", "2000")]
        ['discover', 'discover', 'discover', '2000']
        >>> root("colours") == root("color"), root("normalising") == root("normalize")
        (True, True)
    """
    if len(word) <= _SHORTEST or word.isdigit():
        return word
    return _undoubled(_without(_singular(american(word)), _DERIVATIONS))


_SPELLINGS: Final = (
    (re.compile(r"(?<=..)our(?=s?$|ed$|ing$|al$|able$|ite$|hood$|less$|ful$)"), "or"),
    (re.compile(r"(?<=...[iy])s(?=e[sdr]?$|ing$|ation)"), "z"),
    (re.compile(r"(?<=..)tre(?=s?$)"), "ter"),
    (re.compile(r"(?<=..en)c(?=es?$)"), "s"),
    (re.compile(r"sulph"), "sulf"),
    (re.compile(r"(?<=h)a(?=em)|(?<=p)a(?=ed)|(?<=n)a(?=esth)|(?<=^)o(?=estr)|o(?=ea$)"), ""),
    (re.compile(r"(?<=(?:ravel|ancel|model|label|ignal|level))l(?=ed$|ing$|er$)"), ""),
)


def american(word: str) -> str:
    """Write a British word as Americans do.

    Example:
        >>> [american(word) for word in ("colour", "normalise", "centre", "hour")]
        ['color', 'normalize', 'center', 'hour']
    """
    for british, american in _SPELLINGS:
        word = british.sub(american, word)
    return word


def _singular(word: str) -> str:
    for plural, singular in _PLURALS:
        if word.endswith(plural) and len(word) - len(plural) >= _SHORTEST:
            return word[: -len(plural)] + singular
    return word


def _without(word: str, endings: tuple[str, ...]) -> str:
    """Cut the first of *endings* that leaves enough."""
    for ending in endings:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return word[: -len(ending)]
    return word


def _undoubled(word: str) -> str:
    """Cut one of two equal letters at the end: "stopp", of "stopped"."""
    return word[:-1] if len(word) > _SHORTEST and word[-1] == word[-2] else word
