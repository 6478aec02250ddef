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

__all__ = [
    "LONGEST_QUERY",
    "meanings_of",
    "parts_of",
    "pieces_of",
    "roots_of",
    "shortened",
    "words_by_root",
]

LONGEST_QUERY: Final = 4_000
"""Characters of a request that are read. Of a longer one, which is mostly a file, its beginning and
its end: what is wanted stands before or behind what it is wanted for."""
_MOST_PARTS: Final = 6
_CLAUSES: Final = re.compile(
    r"[,;:]\s|[，、；：]|\s(?:and|then|also|und|dann|y|luego|et|puis|e|poi|depois|en|dan)\s(?:then\s|also\s)?"
)
_CAMEL: Final = re.compile(r"(?<=[a-zà-ÿ\d])(?=[A-Z])")
_PIECE: Final = 3


def shortened(query: str) -> str:
    """Return beginning and end of a request that is too long to be one."""
    if len(query) <= LONGEST_QUERY:
        return query
    half = LONGEST_QUERY // 2
    return f"{query[:half]}\n{query[-half:]}"


def parts_of(query: str) -> list[str]:
    """Return the sentences and clauses of a request that may ask for several things.

    Example:
        >>> parts_of("Book a flight to Rome and mail the ticket to Ann.")
        ['Book a flight to Rome', 'mail the ticket to Ann.']
        >>> parts_of("Book a flight to Rome.")
        []
    """
    found: list[str] = []
    for line in query.splitlines():
        for sentence in sentences_of(line):
            clauses = [clause for part in _CLAUSES.split(sentence) if (clause := part.strip())]
            found += [sentence, *(clauses if len(clauses) > 1 else [])]
    telling = [part for part in dict.fromkeys(found) if len(set(roots_of(part))) > 1]
    parts = [part for part in telling if part != query.strip()]
    half = _MOST_PARTS // 2
    return parts if len(parts) <= _MOST_PARTS else parts[:half] + parts[-half:]


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
