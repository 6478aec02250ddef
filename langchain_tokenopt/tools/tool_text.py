"""The words of tools and of requests, made comparable: roots, synonyms and pieces of words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from langchain_tokenopt.text.languages import language_of
from langchain_tokenopt.text.sentences import sentences_of
from langchain_tokenopt.text.stems import root
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import is_cjk, terms_of
from langchain_tokenopt.tools.synonyms import MEANINGS

__all__ = ["LONGEST_QUERY", "meanings_of", "parts_of", "pieces_of", "roots_of", "shortened", "words_by_root"]

LONGEST_QUERY: Final = 4_000
"""Characters of a request that are read. Of a longer one, which is mostly a file, its beginning and
its end: what is wanted stands before or behind what it is wanted for."""
_MOST_PARTS: Final = 6
_CAMEL: Final = re.compile(r"(?<=[a-zà-ÿ\d])(?=[A-Z])")
_PIECE: Final = 3


def shortened(query: str) -> str:
    """Return beginning and end of a request that is too long to be one."""
    if len(query) <= LONGEST_QUERY:
        return query
    half = LONGEST_QUERY // 2
    return f"{query[:half]}\n{query[-half:]}"


def parts_of(query: str) -> list[str]:
    """Return the sentences of a request that asks for several things; else nothing.

    Example:
        >>> parts_of("Book a flight to Rome. Then mail the ticket to Ann.")
        ['Book a flight to Rome.', 'Then mail the ticket to Ann.']
        >>> parts_of("Book a flight to Rome.")
        []
    """
    found = [
        part.strip()
        for line in query.splitlines()
        for part in sentences_of(line)
        if len(roots_of(part)) > 1
    ]
    if len(found) < 2:
        return []
    return found if len(found) <= _MOST_PARTS else found[:3] + found[-3:]


def roots_of(text: str) -> list[str]:
    """Return the roots of a text's words in order, with repeats and without stop words.

    Example:
        >>> roots_of("Cancel my meetings with createIssue")
        ['cancel', 'meet', 'creat', 'issu']
    """
    return [_root(word) for word in _words(text)]


def words_by_root(text: str) -> dict[str, str]:
    """Return the words of a text as they are written, by their roots.

    Example:
        >>> words_by_root("Cancel my meetings")
        {'cancel': 'cancel', 'meet': 'meetings'}
    """
    return {_root(word): word for word in _words(text)}


def meanings_of(text: str) -> list[str]:
    """Return what the words of a text mean, as :data:`~.synonyms.MEANINGS` names it.

    Example:
        >>> meanings_of("Lösche den Termin"), meanings_of("remove the appointment")
        (['delete', 'event'], ['delete', 'event'])
    """
    return [meaning for word in _words(text) for meaning in _meanings(word)]


def pieces_of(words: Iterable[str]) -> Iterator[str]:
    """Yield the overlapping pieces of three letters of each word, its ends marked.

    Example:
        >>> list(pieces_of(["mail"]))
        ['^ma', 'mai', 'ail', 'il$']
    """
    for word in words:
        marked = f"^{word}$"
        for at in range(max(1, len(marked) - _PIECE + 1)):
            yield marked[at : at + _PIECE]


def _words(text: str) -> list[str]:
    stop = STOP_WORDS["en"]
    if not text.isascii() or len(text) > 20:
        stop = stop | STOP_WORDS.get(language_of(text) or "en", frozenset())
    return [word for word in terms_of(_CAMEL.sub(" ", text)) if word not in stop]


@lru_cache(maxsize=65_536)
def _root(word: str) -> str:
    return word if is_cjk(word) else root(word)


@lru_cache(maxsize=65_536)
def _meanings(word: str) -> tuple[str, ...]:
    return MEANINGS.get(word) or MEANINGS.get(_root(word), ())
