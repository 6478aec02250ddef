"""What a word is, in running text of any language, and how to ask for so many of them.

A word is what word processors count: a run of characters without a space that has a letter, a
digit or a symbol in it. Chinese and Japanese are written without spaces, so every ideograph and
every kana is a word, as in the writing systems' own length limits (字数, 文字数). Marks that stand
alone (``-``, ``|``, ``**``, ``—``) are no words.

Two rules bound text that never ends a word: a run counts once more for every
:data:`LONGEST_WORD` characters, and so do marks that stand alone, taken together. A gap of
:data:`LONGEST_GAP` characters counts as a word too: models can fall into endless line breaks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from unicodedata import category, east_asian_width

__all__ = ["Language", "WordCounter", "count_words", "language_of", "languages", "request_line"]

LONGEST_WORD: Final = 100
"""Characters after which a run without a space counts as one more word. Longer than words and
almost all addresses, short enough to stop a model that repeats one letter."""

LONGEST_GAP: Final = 1000
"""Characters without any mark after which a gap counts as a word."""

_CJK = re.compile(
    "[\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9f]")

_GAP, _MARK, _BODY, _CHARACTER = range(4)


@lru_cache(maxsize=8192)
def _kind(char: str) -> int:
    """Say what a character does: separate words, stand beside them, be in one, be one."""
    if char.isspace():
        return _GAP
    if _CJK.match(char):
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


# --- languages -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Language:
    """How to ask for a length in a language, and how long its words are for a model."""

    tokens_per_word: float
    """Room to leave per word, so that ``max_tokens`` never cuts what the word limit allows."""
    prose_tokens_per_word: float
    """What running text takes; turns a limit in tokens into words to ask for."""
    words: tuple[str, str]
    """One word, and several."""
    sentences: tuple[str, str]
    both: str
    ask: str
    frequent: frozenset[str] = frozenset()
    """Frequent short words by which it is recognised."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


languages: Final[Mapping[str, Language]] = {
    "en": Language(
        8.0, 1.35, ("{n} word", "{n} words"), ("{n} sentence", "{n} sentences"), "{} and {}",
        "Answer in at most {}.",
        _words("the of and is to in what how are that for it with why do does you this which can"),
    ),
    "de": Language(
        8.0, 1.9, ("{n} Wort", "{n} Wörtern"), ("{n} Satz", "{n} Sätzen"), "{} und {}",
        "Antworte in höchstens {}.",
        _words("der die das und ist ein eine nicht wie was mit für auf dem den zu von im warum"),
    ),
    "es": Language(
        8.0, 1.5, ("{n} palabra", "{n} palabras"), ("{n} frase", "{n} frases"), "{} y {}",
        "Responde en un máximo de {}.",
        _words("el la los las de que y es en un una por qué cómo con para del se son cuál está no"),
    ),
    "zh": Language(
        4.0, 1.1, ("{n}个字", "{n}个字"), ("{n}句话", "{n}句话"), "{}、{}", "请用不超过{}回答。"
    ),
    "ja": Language(
        4.0, 1.1, ("{n}字", "{n}字"), ("{n}文", "{n}文"), "{}、{}", "{}以内で答えてください。"
    ),
}  # fmt: skip
"""The languages whose words and sentences are known, by ISO 639-1 code.

``tokens_per_word`` with :data:`ROOM_TOKENS` holds every window of 10, 30, 50 and 150 words that was
looked at (2026-11-21, o200k_base and cl100k_base). Most tokens per word in windows of 10 and of 50:
encyclopedia text 7.5 and 2.7, Python code 9.8 and 5.9, tables full of numbers and addresses 8.7 and
7.2. Chinese and Japanese took at most 0.6 of their room (``tests/benchmarks/bench_limits.py``).
``prose_tokens_per_word`` is about the middle for running text.
"""

ROOM_TOKENS: Final = 64
"""Room beside the words: fences, table rules, an end of message."""

_OTHER_TOKENS_PER_WORD: Final = 14.0
"""Scripts of other languages take up to a token a letter in vocabularies made for English."""
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str | None:
    """Guess the language of *text*: a code of :data:`languages`.

    Returns:
        ``"en"`` when nothing speaks for another language; ``None`` for other scripts.

    Example:
        >>> [language_of(t) for t in ("Was ist das?", "¿Qué es esto?", "何ですか", "Что это?")]
        ['de', 'es', 'ja', None]
    """
    sample = text[-2000:]
    if _KANA.search(sample):
        return "ja"
    latin = len(_LATIN.findall(sample))
    if len(_CJK.findall(sample)) * 4 > latin:
        return "zh"
    if latin * 2 < sum(map(str.isalpha, sample)):
        return None
    found = [word.lower() for word in _WORD.findall(sample)]
    scores = {
        code: sum(word in language.frequent for word in found)
        for code, language in languages.items()
    }
    return max(scores, key=lambda code: scores[code])


def room_for(words: int, language: str | None) -> int:
    """Return how many tokens *words* words may take, markup and all; generous on purpose."""
    known = languages.get(language or "")
    per_word = known.tokens_per_word if known else _OTHER_TOKENS_PER_WORD
    return round(words * per_word) + ROOM_TOKENS


def words_in(tokens: int, language: str | None) -> int:
    """Return how many words of prose *tokens* tokens hold, at least 1."""
    known = languages.get(language or "", languages["en"])
    return max(1, int(tokens / known.prose_tokens_per_word))


def request_line(language: str | None, *, words: int | None, sentences: int | None) -> str:
    """Return the line that asks for a length, in the reader's language.

    Example:
        >>> request_line("en", words=150, sentences=None)
        'Answer in at most 150 words.'
        >>> request_line("de", words=None, sentences=1)
        'Antworte in höchstens 1 Satz.'
    """
    known = languages.get(language or "", languages["en"])
    parts = [
        forms[number != 1].format(n=number)
        for forms, number in ((known.words, words), (known.sentences, sentences))
        if number is not None
    ]
    return known.ask.format(parts[0] if len(parts) == 1 else known.both.format(*parts))
