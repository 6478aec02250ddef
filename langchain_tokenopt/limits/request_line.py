"""The line that asks for a length, in the reader's language, and the tokens that a length takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from langchain_tokenopt.text.languages import language_of
from langchain_tokenopt.text.stopwords import STOP_WORDS

__all__ = ["Language", "language_asked_in", "languages", "request_line", "room_for", "words_in"]


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


languages: Final[Mapping[str, Language]] = {
    "en": Language(
        8.0, 1.35, ("{n} word", "{n} words"), ("{n} sentence", "{n} sentences"), "{} and {}",
        "Answer in at most {}.",
    ),
    "de": Language(
        8.0, 1.9, ("{n} Wort", "{n} Wörtern"), ("{n} Satz", "{n} Sätzen"), "{} und {}",
        "Antworte in höchstens {}.",
    ),
    "es": Language(
        8.0, 1.5, ("{n} palabra", "{n} palabras"), ("{n} frase", "{n} frases"), "{} y {}",
        "Responde en un máximo de {}.",
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


def language_asked_in(question: str) -> str:
    """Return the language that *question* is written in; ``"en"`` where nothing tells.

    Example:
        >>> [language_asked_in(text) for text in ("Was ist das?", "何ですか", "42")]
        ['de', 'ja', 'en']
    """
    return language_of(question, least=1) or "en"


def _known(language: str) -> Language | None:
    """Return what is known of a language; of those in Latin letters, English stands for all."""
    return languages.get(language) or (languages["en"] if language in STOP_WORDS else None)


def room_for(words: int, language: str) -> int:
    """Return how many tokens *words* words may take, markup and all; generous on purpose."""
    known = _known(language)
    per_word = known.tokens_per_word if known else _OTHER_TOKENS_PER_WORD
    return round(words * per_word) + ROOM_TOKENS


def words_in(tokens: int, language: str) -> int:
    """Return how many words of prose *tokens* tokens hold, at least 1."""
    known = _known(language) or languages["en"]
    return max(1, int(tokens / known.prose_tokens_per_word))


def request_line(language: str, *, words: int | None, sentences: int | None) -> str:
    """Return the line that asks for a length, in the reader's language.

    Example:
        >>> request_line("en", words=150, sentences=None)
        'Answer in at most 150 words.'
        >>> request_line("de", words=None, sentences=1)
        'Antworte in höchstens 1 Satz.'
    """
    known = _known(language) or languages["en"]
    parts = [
        forms[number != 1].format(n=number)
        for forms, number in ((known.words, words), (known.sentences, sentences))
        if number is not None
    ]
    return known.ask.format(parts[0] if len(parts) == 1 else known.both.format(*parts))
