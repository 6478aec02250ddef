"""How much of a request's words a tool has, field by field, without any model.

A term's worth is its rarity among the tools of the set. Each field answers with the share of the
request's worth that it has (terms saturate and long fields count less, as in BM25: Robertson and
Zaragoza 2009, "The Probabilistic Relevance Framework"), so that numbers of short and long requests,
of small and large sets can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokenopt.tools.tool_reading import ToolCard, name_words
from langchain_tokenopt.tools.tool_text import meanings_of, pieces_of, roots_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEXICAL_FEATURES", "LexicalIndex"]

_SATURATION: Final = 1.2
_LENGTH: Final = 0.75
_LONGEST_FIELD: Final = 4_000
"""Characters of one field that are read: some descriptions are manuals."""

LEXICAL_FEATURES: Final = (
    "description",
    "parameters",
    "values",
    "name_covered",
    "description_covered",
    "meaning",
    "name_pieces",
    "all_pieces",
    "exact_name",
)
"""What is known of a tool for a request, each from 0 to about 1:
the share of the request's words in its description, parameters (names and descriptions) and values
(enums, constants, examples); the share of its name and description in the request; the share of the
request's synonyms; the share of its name's letters in the request, and of the request's in name and
description; whether the request writes its name as code does."""


class LexicalIndex:
    """The words of a set of tools, ready to be asked.

    Args:
        cards: The tools, in the order in which scores are given.

    Example:
        >>> from langchain_tokenopt.tools.tool_reading import read_tool
        >>> index = LexicalIndex([read_tool({"name": n}) for n in ("send_mail", "get_weather")])
        >>> scores = index.features("What is the weather in Oslo?")
        >>> dict(zip(LEXICAL_FEATURES, scores[1].tolist()))["name_covered"]
        0.5
    """

    def __init__(self, cards: Sequence[ToolCard]) -> None:
        names = [" ".join((*card.words, card.group)) for card in cards]
        descriptions = [card.description[:_LONGEST_FIELD] for card in cards]
        self._name = _Field(map(roots_of, names))
        self._description = _Field(map(roots_of, descriptions))
        self._parameters = _Field(roots_of(_parameter_text(card)) for card in cards)
        self._values = _Field(roots_of(_value_text(card)) for card in cards)
        self._meaning = _Field(
            meanings_of(f"{name} {text}") for name, text in zip(names, descriptions, strict=True)
        )
        self._name_pieces = _Field(list(pieces_of(card.words)) for card in cards)
        self._all_pieces = _Field(
            list(pieces_of([*card.words, *roots_of(text)]))
            for card, text in zip(cards, descriptions, strict=True)
        )
        self._rarity = _rarities(
            (self._name, self._description, self._parameters, self._values), len(cards)
        )
        self._exact: dict[str, list[int]] = {}
        for at, card in enumerate(cards):
            for name in card.names:
                self._exact.setdefault(name.lower(), []).append(at)
        self._size = len(cards)

    def features(self, query: str) -> NDArray[np.float64]:
        """Return one row of :data:`LEXICAL_FEATURES` for each tool."""
        words = dict.fromkeys(roots_of(query))
        roots = {word: self._rarity.get(word, 1.0) for word in words}
        meanings = dict.fromkeys(meanings_of(query), 1.0)
        pieces = dict.fromkeys(pieces_of(words), 1.0)
        return np.stack(
            (
                self._description.shares(roots),
                self._parameters.shares(roots),
                self._values.shares(roots),
                self._name.covered(roots),
                self._description.covered(roots),
                self._meaning.shares(meanings),
                self._name_pieces.covered(pieces),
                self._all_pieces.shares(pieces),
                self._named(query),
            ),
            axis=1,
        )

    def holders(self, terms: Iterable[str]) -> tuple[list[str], NDArray[np.bool_]]:
        """Return *terms*, those that tell most first, and by row which tools have each."""
        best = sorted(terms, key=lambda term: -self._rarity.get(term, 1.0))
        found = np.zeros((len(best), self._size), dtype=np.bool_)
        for row, term in zip(found, best, strict=True):
            for field in (self._name, self._description, self._parameters):
                if term in field.places:
                    row[field.places[term][0]] = True
        return best, found

    def _named(self, query: str) -> NDArray[np.float64]:
        """Say whose name stands in the request as it is written in code."""
        found = np.zeros(self._size)
        for word in set(query.lower().replace("`", " ").replace("(", " ").split()):
            for at in self._exact.get(word.strip(".,;:!?\"')"), ()):
                found[at] = 1.0
        return found


def _parameter_text(card: ToolCard) -> str:
    parts = (f"{' '.join(name_words(p.name))} {p.description}" for p in card.parameters)
    return "\n".join(parts)[:_LONGEST_FIELD]


def _value_text(card: ToolCard) -> str:
    parts = (text for p in card.parameters for text in (*p.values, *p.examples))
    return " ".join(parts)[:_LONGEST_FIELD]


class _Field:
    """One field of all tools: which term stands where, and how much it counts there."""

    def __init__(self, documents: Iterable[list[str]]) -> None:
        counts = [Counter(document) for document in documents]
        lengths = np.array([sum(count.values()) for count in counts], dtype=np.float64)
        mean = lengths[lengths > 0].mean() if (lengths > 0).any() else 1.0
        norms = _SATURATION * (1 - _LENGTH + _LENGTH * lengths / mean)
        self._kinds = np.maximum(1.0, np.array([len(count) for count in counts], dtype=np.float64))
        places: dict[str, tuple[list[int], list[float]]] = {}
        for at, count in enumerate(counts):
            for term, times in count.items():
                where, worth = places.setdefault(term, ([], []))
                where.append(at)
                worth.append(times * (_SATURATION + 1) / (times + norms[at]))
        self.places = {
            term: (np.array(where), np.array(worth)) for term, (where, worth) in places.items()
        }

    def shares(self, terms: Mapping[str, float]) -> NDArray[np.float64]:
        """Return which share of the worth of *terms* each tool has."""
        scores = np.zeros(len(self._kinds))
        for term, worth in terms.items():
            found = self.places.get(term)
            if found is not None:
                scores[found[0]] += worth * found[1]
        return scores / max(1.0, sum(terms.values()))

    def covered(self, terms: Iterable[str]) -> NDArray[np.float64]:
        """Return which share of each tool's own terms is among *terms*."""
        scores = np.zeros(len(self._kinds))
        for term in terms:
            found = self.places.get(term)
            if found is not None:
                scores[found[0]] += 1.0
        return scores / self._kinds


def _rarities(fields: Sequence[_Field], size: int) -> dict[str, float]:
    found: dict[str, set[int]] = {}
    for field in fields:
        for term, (where, _) in field.places.items():
            found.setdefault(term, set()).update(where.tolist())
    most = math.log1p(max(1, size))
    return {
        term: math.log1p((size - len(where) + 0.5) / (len(where) + 0.5)) / most
        for term, where in found.items()
    }
