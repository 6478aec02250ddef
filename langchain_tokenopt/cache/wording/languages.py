"""Which language a question is in."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.cache.wording.arabic import ARABIC
from langchain_tokenopt.cache.wording.english import ENGLISH
from langchain_tokenopt.cache.wording.germanic import DUTCH, GERMAN
from langchain_tokenopt.cache.wording.language import Language, words_of
from langchain_tokenopt.cache.wording.romance import FRENCH, ITALIAN, PORTUGUESE, SPANISH
from langchain_tokenopt.cache.wording.slavic import POLISH, RUSSIAN

__all__ = ["LANGUAGES", "language_of"]

LANGUAGES: Final = (
    ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, PORTUGUESE, DUTCH, POLISH
)  # fmt: skip
_OF_SCRIPT: Final = {"cyrillic": RUSSIAN, "arabic": ARABIC}
_NOT_RUSSIAN: Final = words_of("що як чому є та або це") | words_of("се че за със")

_KNOWN_BY: Final = {
    word: tuple(
        language
        for language in LANGUAGES
        if word in language.known_by | language.kinds.keys() | language.prepositions
    )
    for word in frozenset().union(
        *(a.known_by | a.kinds.keys() | a.prepositions for a in LANGUAGES)
    )
}
_LETTERS: Final = {
    **dict.fromkeys("ßäö", GERMAN), **dict.fromkeys("ñ¿¡", SPANISH),
    **dict.fromkeys("ãõ", PORTUGUESE),
    **dict.fromkeys("łżśźćńęą", POLISH), **dict.fromkeys("èœêû", FRENCH),
}  # fmt: skip


def language_of(words: list[str], letters: str, script: str) -> Language | None:
    """Return the language of a question; ``None`` where it is not plain which one it is.

    Args:
        words: In small letters.
        letters: The text.
        script: Of the text, as :func:`langchain_tokenopt.text.scripts.script_of` names it.
    """
    if script in _OF_SCRIPT:
        return _OF_SCRIPT[script] if _NOT_RUSSIAN.isdisjoint(words) else None
    counts: dict[str, int] = {}
    named: dict[str, Language] = {}
    for word in words:
        for language in _KNOWN_BY.get(word, ()):
            counts[language.code] = counts.get(language.code, 0) + 1
            named[language.code] = language
    if not letters.isascii():
        for letter in set(letters) & _LETTERS.keys():
            language = _LETTERS[letter]
            counts[language.code] = counts.get(language.code, 0) + 1
            named[language.code] = language
    ranked = sorted(counts, key=counts.__getitem__, reverse=True)
    if not ranked:
        return None
    if len(ranked) > 1 and counts[ranked[0]] == counts[ranked[1]]:
        likely = [named[code] for code in ranked if counts[code] == counts[ranked[0]]]
        asking = [sum(word in language.asking for word in words) for language in likely]
        if asking.count(max(asking)) == 1:
            return likely[asking.index(max(asking))]
        is_likely = letters.isascii() and counts.get("en") == counts[ranked[0]]
        return ENGLISH if is_likely else None
    return named[ranked[0]]
