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
from unicodedata import category, east_asian_width

from langchain_tokenopt.text.scripts import CJK, UNSPACED
from langchain_tokenopt.text.stopwords import CHINESE_FILLERS

__all__ = ["WORD", "WordCounter", "count_words", "is_cjk", "lowered", "terms_of"]

LONGEST_WORD: Final = 100
"""Characters after which a run without a space counts as one more word. Longer than words and
almost all addresses, short enough to stop a model that repeats one letter."""

LONGEST_GAP: Final = 1000
"""Characters without any mark after which a gap counts as a word."""

_UNSPACED = re.compile(f"[{UNSPACED}]")

_GAP, _MARK, _BODY, _CHARACTER = range(4)


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

    __slots__ = ("_at", "_gap", "_in_run", "_marks", "_run_start", "_since", "ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        """Where each word begins, what is written together with it included."""
        self.ends: list[int] = []
        """Where the last letter of each word ends, so far."""
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
            self._read_body(at)
        else:
            self._read_mark(at)

    def _begin(self, start: int, at: int) -> None:
        self.starts.append(start)
        self.ends.append(at + 1)
        self._since = 0

    def _read_body(self, at: int) -> None:
        if not self._in_run:
            self._begin(self._run_start, at)
            self._in_run = True
        self._lengthen(at)
        self.ends[-1] = at + 1

    def _read_mark(self, at: int) -> None:
        if self._in_run:
            self._lengthen(at)
            return
        self._marks += 1
        if self._marks > LONGEST_WORD:
            self._begin(at, at)
            self._marks = 0
            self._run_start = at + 1

    def _lengthen(self, at: int) -> None:
        self._since += 1
        if self._since > LONGEST_WORD:
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
