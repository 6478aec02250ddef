"""Differences between two questions that are never judged by meaning.

Embedders read words. They hardly see a sign, a unit, an accent or a line of code, so nothing that
they say about two questions counts where these differ. What may differ is an allow list: plain
words of plain questions. All else has to be the same in both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from unicodedata import normalize

from langchain_tokenopt.cache.writing import canonical, shown
from langchain_tokenopt.text.numbers import NUMBER_WORDS, UNITS

__all__ = ["difference_in_writing"]


def difference_in_writing(stored: str, asked: str) -> str:
    """Return in what two questions differ that is never judged by meaning; '' if in nothing.

    Example:
        >>> difference_in_writing("Take 500 mg?", "May I take 500 g?")
        '500mg / 500g'
        >>> difference_in_writing("What is C++?", "what's C++ for")
        ''
    """
    one, other = _read(stored), _read(asked)
    if one.material or other.material:
        return "" if Counter(one.material) == Counter(other.material) else "pasted material"
    if one.numbers and other.numbers and sorted(one.numbers) != sorted(other.numbers):
        return _shown_difference(one.numbers, other.numbers)
    if sorted(one.signs) != sorted(other.signs):
        lost = Counter(one.signs) - Counter(other.signs)
        return _shown_difference(lost, Counter(other.signs) - Counter(one.signs))
    return _other_capitals(one, other) or _other_accents(one, other)


def _other_capitals(one: _Reading, other: _Reading) -> str:
    """Compare words of which the capitals mean something: NASA, CO and Co, plan A."""
    lost = [w for w in one.marked if w not in other.marked and w.lower() not in other.words]
    won = [w for w in other.marked if w not in one.marked and w.lower() not in one.words]
    if lost and won:
        return _shown_difference(lost, won)
    cased = {w.lower(): w for w in one.short}
    for word in other.short:
        twin = cased.get(word.lower(), word)
        if twin != word and not (twin.islower() or word.islower()):
            return f"{twin} / {word}"
    return ""


def _other_accents(one: _Reading, other: _Reading) -> str:
    if one.is_ascii and other.is_ascii:
        return ""
    bare = {_without_accents(word): word for word in one.words}
    for word in other.words:
        twin = bare.get(_without_accents(word))
        if twin is not None and twin not in other.words and word not in one.words:
            return f"{twin} / {word}"
    return ""


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    return "".join(filter(str.isalpha, normalize("NFD", word))).replace("ß", "ss")


def _shown_difference(left: Iterable[str], right: Iterable[str]) -> str:
    return f"{' '.join(left)} / {' '.join(right)}"


# --- reading -------------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    r"(?<![\w.])[+\u2212-]?\d(?:[\d.,:/]*\d)?(?!\w)"  # a number with its sign
    r"|[^\W\d_]+(?:['-][^\W\d_]+)*(?!\w)"  # a word
    r"|\w+"  # letters and digits mixed
    r"|[^\w\s]"
)
_PAUSES: Final = frozenset(".,?!¿¡;。、？！؟،।")
_BEFORE_WORDS: Final = frozenset("-(\"'/:")
_AFTER_WORDS: Final = _PAUSES | frozenset(")\"'+#%")
_CURRENCIES: Final = {"$": "usd", "\u20ac": "eur", "\u00a3": "gbp"}
_MATERIAL: Final = re.compile(r"[`{}\[\]<>=\\|_~^]|\w\(|[^\n]\n|\t")
"""What does not stand in a plain question: such a text holds something to work on."""
_LONG: Final = 600
"""Characters from which a text is taken to hold material, too."""
_UNIT_LENGTH: Final = 3


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_UNITS: Final = _words(
    "a an the in on at to of or and is are do for by was per as if it i my we he she us you but "
    "not off out all any had has can may ago new old who how why und der die das im am zu et de la "
    "le les en un une y e o"
)
"""Short words that follow a number without being its unit."""


class _Reading:
    """A question as tokens."""

    def __init__(self, text: str) -> None:
        text = shown(canonical(text))
        self.is_ascii = text.isascii()
        self.material: list[str] = []
        """All lines as they stand, where the text holds something to work on; else none."""
        self.words: list[str] = []
        """Plain words in lower case."""
        self.marked: list[str] = []
        """Words with capitals inside."""
        self.short: list[str] = []
        """Words so short that their capitals may be all that tells them apart."""
        self.signs: list[str] = []
        self.numbers: list[str] = []
        """With their units."""
        if len(text) > _LONG or _MATERIAL.search(text):
            self.material = [line.rstrip() for line in text.split("\n") if line.strip()]
            return
        before, found = "", [*_TOKEN.findall(text), ""]
        end, at = len(found) - 1, 0
        while at < end:
            token = found[at]
            small = token.lower()
            if token.isalpha() and small not in NUMBER_WORDS:
                self._take_word(token, small, is_first=not before or before in _PAUSES)
                at += 1
            else:
                at += self._take(token, before, found[at + 1])
            before = found[at - 1]

    def _take(self, token: str, before: str, following: str) -> int:
        """Take a token in; return how many are read with what belongs to it."""
        if value := _number(token):
            unit = _unit(following)
            self.numbers.append(value + unit)
            return 2 if unit else 1
        if token in _CURRENCIES and (value := _number(following)):
            self.numbers.append(value + _CURRENCIES[token])
            return 2
        if not self._is_pause(token, before, following):
            if token[0].isalpha() and not any(map(str.isdigit, token)):
                is_first = not before or before in _PAUSES
                self._take_word(token, token.lower(), is_first=is_first)
            else:
                self.signs.append(token)
        return 1

    def _take_word(self, token: str, small: str, *, is_first: bool) -> None:
        self.words.append(small)
        if len(token) <= _UNIT_LENGTH:
            self.short.append(token)
            is_letter = len(token) == 1 and token not in ("aiI" + "A" * is_first)
            if is_letter:
                self.marked.append(token)
                return
        if token != small and token[1:] != token[1:].lower():
            self.marked.append(token)

    def _is_pause(self, token: str, before: str, following: str) -> bool:
        """Say whether a sign only parts the words of a sentence."""
        if token in _PAUSES:
            is_after_words = not before or before[-1].isalnum() or before in _AFTER_WORDS
            return is_after_words and not following[:1].isdigit()
        if token in _BEFORE_WORDS and (following[:1].isalpha() or following in ("", token)):
            return True
        return token in ")\"'" and before[-1:].isalpha()


_read = lru_cache(maxsize=4_096)(_Reading)


def _number(token: str) -> str:
    if token[-1:].isdigit() and not any(map(str.isalpha, token)):
        return re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", token).replace("\u2212", "-")
    return NUMBER_WORDS.get(token.lower(), "")


def _unit(word: str) -> str:
    """Return the unit that a word or sign after a number stands for, if it is one."""
    if word in _CURRENCIES:
        return _CURRENCIES[word]
    unit = UNITS.get(word.lower())
    has_one_form = word.islower() or not word.isalpha() or unit in _CURRENCIES.values()
    if unit and (has_one_form or len(word) > _UNIT_LENGTH):
        return unit
    is_short = 0 < len(word) <= _UNIT_LENGTH and word[0].isalpha()
    return word if is_short and word.lower() not in _NO_UNITS else ""
