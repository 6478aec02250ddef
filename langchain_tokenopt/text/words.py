"""What a word is: to those who count words, and to those who search for them.

*Counted* is what word processors count: a run of characters without a space that has a letter, a
digit or a symbol in it. Chinese and Japanese are written without spaces, so every ideograph and
every kana is a word, as in the writing systems' own length limits (字数, 文字数). Marks that stand
alone (``-``, ``|``, ``**``, ``—``) are no words.

Two rules bound text that never ends a word: a run counts once more for every
:data:`LONGEST_WORD` characters, and so do marks that stand alone, taken together. A gap of
:data:`LONGEST_GAP` characters counts as a word too: models can fall into endless line breaks.

*Searched for* are runs of letters and digits in lower case; of Chinese, Japanese and Korean, pairs
of neighbouring characters.

The guards of the cache read a third kind, with addresses, prices and ids whole; it is fitted
together with their weights and stays with them (``cache.guards``).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import lru_cache
from typing import Final
from unicodedata import category, combining, east_asian_width

from langchain_tokenopt.text.scripts import CJK, UNSPACED
from langchain_tokenopt.text.stopwords import CHINESE_FILLERS

__all__ = ["WORD", "WordCounter", "count_words", "extends", "is_cjk", "lowered", "terms_of"]

LONGEST_WORD: Final = 100
"""Characters after which a run without a space counts as one more word. Longer than words and
almost all addresses, short enough to stop a model that repeats one letter."""

LONGEST_GAP: Final = 1000
"""Characters without any mark after which a gap counts as a word."""

_UNSPACED = re.compile(f"[{UNSPACED}]")

_GAP, _MARK, _BODY, _CHARACTER = range(4)


_JOINER: Final = "\u200d"
_VIRAMA: Final = 9
_FLAG_LETTERS: Final = re.compile("[\U0001f1e6-\U0001f1ff]")
_JAMO: Final = re.compile("[\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff]")
_LONGEST_LETTER: Final = 1000
"""Characters that make one letter at most: whoever stacks more marks is not writing."""


@lru_cache(maxsize=8192)
def extends(char: str) -> bool:
    """Say whether *char* belongs to the letter before it: accents, vowel signs, emoji parts.

    These are the extending characters of https://www.unicode.org/reports/tr29/ (2026-11-29).

    Example:
        >>> [extends(char) for char in "e\u0301\ufe0fx"]
        [False, True, True, False]
    """
    return (
        category(char) in ("Mn", "Mc", "Me")
        or char in "\u200c\u200d\uff9e\uff9f"
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _may_part(before: str, char: str) -> bool:
    """Whether a letter may end between two characters of a run, as far as these two tell."""
    if extends(char) or before == _JOINER or combining(before) == _VIRAMA:
        return False
    if _FLAG_LETTERS.match(before) or _JAMO.match(before):
        return not (_FLAG_LETTERS.match(char) or _JAMO.match(char))
    return category(before) != "Cf"


@lru_cache(maxsize=8192)
def _kind(char: str) -> int:
    """Say what a character does: separate words, stand beside them, be in one, be one."""
    if char.isspace():
        return _GAP
    if _UNSPACED.match(char):
        return _CHARACTER
    if char.isalnum() or category(char) == "So":
        return _BODY
    return _GAP if east_asian_width(char) in "WF" else _MARK


class WordCounter:
    """Counts words one character at a time, and remembers where each of them begins."""

    __slots__ = (
        "_at", "_before", "_gap", "_in_run", "_marks", "_run_start", "_since", "ends", "starts",
    )  # fmt: skip

    def __init__(self) -> None:
        self.starts: list[int] = []
        """Where each word begins, what is written together with it included."""
        self.ends: list[int] = []
        """Where the last letter of each word ends, so far."""
        self._before = " "
        self._at = 0
        self._run_start = 0
        self._in_run = False
        self._since = 0
        self._marks = 0
        self._gap = 0

    @property
    def count(self) -> int:
        """How many words have begun."""
        return len(self.starts)

    def before(self, position: int) -> int:
        """Return how many words begin before *position*."""
        return bisect_left(self.starts, position)

    def read(self, char: str) -> None:
        """Take the next character."""
        kind = _kind(char)
        at, self._at = self._at, self._at + 1
        self._read(kind, char, at)
        self._before = char

    def _read(self, kind: int, char: str, at: int) -> None:
        if self.ends and self.ends[-1] == at and extends(char):
            self.ends[-1] = at + 1
            self._gap = 0
            if self._in_run:
                self._lengthen(char, at)
            else:
                self._run_start = at + 1
            return
        self._gap = self._gap + 1 if kind == _GAP else 0
        if kind == _GAP:
            self._in_run = False
            self._run_start = at + 1
            if self._gap % LONGEST_GAP == 0:
                self._begin(at, at)
        elif kind == _CHARACTER:
            self._begin(self._run_start if not self._in_run else at, at)
            self._in_run = False
            self._run_start = at + 1
        elif kind == _BODY:
            self._read_body(char, at)
        else:
            self._read_mark(char, at)

    def _begin(self, start: int, at: int) -> None:
        self.starts.append(start)
        self.ends.append(at + 1)
        self._since = 0

    def _read_body(self, char: str, at: int) -> None:
        if not self._in_run:
            self._begin(self._run_start, at)
            self._in_run = True
        self._lengthen(char, at)
        self.ends[-1] = at + 1

    def _read_mark(self, char: str, at: int) -> None:
        if self._in_run:
            self._lengthen(char, at)
            return
        self._marks += 1
        if self._marks > LONGEST_WORD:
            self._begin(at, at)
            self._marks = 0
            self._run_start = at + 1

    def _lengthen(self, char: str, at: int) -> None:
        self._since += 1
        if self._since > LONGEST_WORD and (
            self._since > _LONGEST_LETTER or _may_part(self._before, char)
        ):
            self._begin(at, at)
            self._since = 1


def count_words(text: str) -> int:
    """Count the words of *text*.

    Example:
        >>> count_words("Well-known rules - 3.14 of them, don't you think?")
        8
        >>> count_words("我喜欢 Python")
        4
    """
    counter = WordCounter()
    for char in text:
        counter.read(char)
    return counter.count


# --- words to search for -------------------------------------------------------------------------

WORD: Final = re.compile(rf"[{CJK}]+|[^\W_{CJK}]+")
"""A run of letters and digits, or a run of CJK characters; an underscore parts words."""
_IS_CJK = re.compile(f"[{CJK}]")


def is_cjk(word: str) -> bool:
    """Say whether a match of :data:`WORD` is a run of Chinese, Japanese or Korean characters."""
    return _IS_CJK.match(word) is not None


def lowered(text: str) -> str:
    """Lower-case *text* without changing positions ("İ" becomes two characters in Python).

    Example:
        >>> len("İstanbul".lower()), len(lowered("İstanbul"))
        (9, 8)
    """
    low = text.lower()
    if len(low) == len(text):
        return low
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def terms_of(text: str) -> list[str]:
    """Return what of *text* can be searched for, in order, with repeats and stop words.

    Words in lower case; of Chinese, Japanese and Korean, pairs of neighbouring characters. What
    asks rather than tells ("什么", "吗") parts such pairs and is left out.

    Example:
        >>> terms_of("Who built the Great Wall?")
        ['who', 'built', 'the', 'great', 'wall']
        >>> terms_of("长城是谁建的")
        ['长城', '建']
    """
    terms: list[str] = []
    for run in WORD.findall(lowered(text)):
        if not is_cjk(run):
            terms.append(run)
            continue
        for part in filter(None, CHINESE_FILLERS.split(run)):
            terms += [part[at : at + 2] for at in range(max(1, len(part) - 1))]
    return terms
