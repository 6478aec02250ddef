"""The form of one word: capitals, plurals, spellings."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from langchain_tokenopt.cache.wording.english import ENGLISH
from langchain_tokenopt.cache.wording.germanic import GERMAN
from langchain_tokenopt.cache.wording.language import Language, words_of
from langchain_tokenopt.text.stems import american

__all__ = ["form_of"]

_SHORT: Final = 3
_MIXED: Final = 4
_TELLING: Final = words_of(
    "turkey china polish apple march august java swift python rust word access windows orange "
    "amazon target shell oracle excel teams slack meta chrome safari edge sie ihr ihnen ihre ihrer "
    "ihrem ihren bill mark will grace hope mercury jordan georgia chile kiwi"
)
"""Names that are other words without their capital."""
_NO_PLURALS: Final = words_of(
    "goods customs news arms glasses means savings damages securities futures woods pants "
    "contents manners always perhaps sometimes whereas across besides afterwards towards lens "
    "series species physics mathematics economics politics ethics athletics statistics "
    "headquarters premises proceeds earnings works thanks spirits minutes hours airs grounds "
    "quarters gas bus plus texas paris james charles wales alps canvas atlas bias christmas "
    "diabetes rabies herpes scabies windows teams jeans shorts scissors trousers stairs "
    "regards congratulations alas whereabouts kudos jesus moses williams adams"
)
_WITH_ES: Final = ("sses", "shes", "ches", "xes")
_WITH_OE: Final = frozenset(["shoes", "toes", "foes", "woes", "oboes", "canoes"])
_WITH_S: Final = frozenset(["licence", "defence", "offence", "pretence"])


def form_of(
    word: str,
    after: str,
    language: Language | None,
    *,
    is_first: bool,
    is_plain: bool,
    is_counted: bool = False,
) -> str:
    """Return the form of a word; '' for an article that may be left out.

    Args:
        word: As it was written.
        after: The word behind it.
        language: In which it is read.
        is_first: Whether it begins a sentence.
        is_plain: Whether the question is made of words alone.
        is_counted: Whether one or several make a difference there.
    """
    small = word
    if not word.islower():
        small = _small(word, is_first=is_first, shortest=2 if language is GERMAN else _SHORT + 1)
        if len(word) == 1 and is_first and _is_word(small.lower(), after, language):
            small = small.lower()
        if language is ENGLISH and (word == "I" or (word == "A" and is_first and after.islower())):
            small = word.lower()
    if language is None or not is_plain:
        return small
    if after and small in language.articles and after.lower() not in language.counted:
        return ""
    if small in language.same:
        return language.same[small]
    if language is ENGLISH and small.islower() and (is_first or word[0].islower()):
        return _english(small, is_counted)
    return small


def _is_word(letter: str, after: str, language: Language | None) -> bool:
    """Say whether a letter that begins a sentence is a word, and no name or mark."""
    if not letter.isascii():
        return True
    of_language = (
        () if language is None else (language.prepositions, language.kinds, language.asking)
    )
    return (
        language is not ENGLISH
        and after.islower()
        and any(letter in words for words in of_language)
    )


def _small(word: str, *, is_first: bool, shortest: int) -> str:
    """Write a word with capitals small, where they say nothing."""
    if is_first and word[-1] == "'":
        return word.lower()
    if not word[1:].islower():
        return word if word.isupper() or len(word) <= _MIXED else word.lower()
    small = word.lower()
    if is_first or (len(word) >= shortest and small not in _TELLING):
        return small
    return word


@lru_cache(maxsize=65_536)
def _english(word: str, is_counted: bool) -> str:
    """Return what both spellings of a word share, and its plural where that says the same."""
    if word in _NO_PLURALS or not word.isascii():
        return word
    singular = word if is_counted else _singular(word)
    if not singular.endswith("ence") or singular in _WITH_S:
        singular = american(singular)
    return ENGLISH.same.get(singular, singular)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("oes"):
        return word[:-1] if word in _WITH_OE else word[:-2]
    if word.endswith(_WITH_ES) and len(word) > 4:
        return word[:-2]
    has_no_plural = word.endswith(("ss", "us", "is", "as")) or len(word) <= 3
    return word if has_no_plural else word.removesuffix("s")
