"""Which language a text is written in, told by its script and its stop words.

A limit on answers asks, to word its request as the reader writes.
"""

from __future__ import annotations

import re
from typing import Final

from langchain_tokenopt.text.scripts import script_of
from langchain_tokenopt.text.stopwords import STOP_WORDS

__all__ = ["language_of"]

_BY_SCRIPT: Final = {"han": "zh", "kana": "ja", "hangul": "ko"}
_WORD: Final = re.compile(r"[^\W\d_]+")
_SAMPLE: Final = 2_000
"""Characters from the end that are looked at: the question comes last."""
_LANGUAGES_OF: Final = {
    word: tuple(code for code, known in STOP_WORDS.items() if word in known)
    for word in frozenset().union(*STOP_WORDS.values())
    if len(word) > 1
}
"""Without single letters, which are names of variables, notes and vitamins as well."""


def language_of(text: str, *, least: int = 2) -> str | None:
    """Guess the language of *text*.

    Args:
        text: Its last 2,000 characters are read.
        least: Different stop words that must speak for a language in Latin letters.

    Returns:
        An ISO 639-1 code of :data:`~langchain_tokenopt.text.stopwords.STOP_WORDS`, ``"zh"``,
        ``"ja"`` or ``"ko"``; for other scripts the script's name (``"cyrillic"``); ``None`` where
        two languages have as much for them, or none has *least*.

    Example:
        >>> texts = ("Was ist das?", "¿Qué es esto?", "何ですか", "Что это?", "OK")
        >>> [language_of(text) for text in texts]
        ['de', 'es', 'ja', 'cyrillic', None]
    """
    script = script_of(text)
    if script != "latin":
        return _BY_SCRIPT.get(script, script) or None
    scores = dict.fromkeys(STOP_WORDS, 0)
    for word in set(_WORD.findall(text[-_SAMPLE:].lower())):
        for code in _LANGUAGES_OF.get(word, ()):
            scores[code] += 1
    best, second = sorted(scores.values())[-1:-3:-1]
    if best < least or best == second:
        return None
    return max(scores, key=lambda code: scores[code])
