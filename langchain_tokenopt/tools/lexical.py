"""How much of a request's words a tool has, field by field, without any model.

A term's worth is its rarity among the tools of the set. Each field answers with the share of the
request's worth that it has (terms saturate and long fields count less, as in BM25: Robertson and
Zaragoza 2009, "The Probabilistic Relevance Framework"), so that numbers of short and long requests,
of small and large sets can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokenopt.tools.tool_reading import ToolCard
from langchain_tokenopt.tools.tool_text import meanings_of, pieces_of, roots_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEXICAL_FEATURES", "LexicalIndex"]

_SATURATION: Final = 1.2
_LENGTH: Final = 0.75

LEXICAL_FEATURES: Final = (
    "name", "description", "parameters", "values", "name_covered", "description_covered",
    "name_meaning", "description_meaning", "name_pieces", "all_pieces", "exact_name",
)  # fmt: skip


class LexicalIndex:
    """The words of a set of tools, ready to be asked.

    Args:
        cards: The tools, in the order in which scores are given.

    Example:
        >>> from langchain_tokenopt.tools.tool_reading import read_tool
        >>> index = LexicalIndex([read_tool({"name": n}) for n in ("send_mail", "get_weather")])
        >>> scores = index.features("What is the weather in Oslo?")
        >>> scores.shape == (2, len(LEXICAL_FEATURES)), bool(scores[1, 0] > scores[0, 0])
        (True, True)
    """

    def __init__(self, cards: Sequence[ToolCard]) -> None:
        names = [" ".join(card.words) for card in cards]
        texts = [f"{name} {card.group}" for name, card in zip(names, cards, strict=True)]
        parameters = [
            " ".join(f"{' '.join(_spaced(p.name))} {p.description}" for p in card.parameters)
            for card in cards
        ]
        values = [
            " ".join(text for p in card.parameters for text in (*p.values, *p.examples))
            for card in cards
        ]
        descriptions = [card.description for card in cards]
        self._name = _Field(map(roots_of, texts))
        self._description = _Field(map(roots_of, descriptions))
        self._parameters = _Field(map(roots_of, parameters))
        self._values = _Field(map(roots_of, values))
        self._name_meaning = _Field(map(meanings_of, texts))
        self._description_meaning = _Field(map(meanings_of, descriptions))
        self._name_pieces = _Field(list(pieces_of([*card.words])) for card in cards)
        self._all_pieces = _Field(
            list(pieces_of([*card.words, *roots_of(card.description)])) for card in cards
        )
        self._fields = (self._name, self._description, self._parameters, self._values)
        self._rarity = _rarities(self._fields, len(cards))
        self._exact: dict[str, list[int]] = {}
        for at, card in enumerate(cards):
            for name in card.names:
                self._exact.setdefault(name.lower(), []).append(at)
        self._size = len(cards)

    def features(self, query: str) -> NDArray[np.float64]:
        """Return one row of :data:`LEXICAL_FEATURES` for each tool."""
        roots = self._weighed(roots_of(query))
        meanings = dict.fromkeys(meanings_of(query), 1.0)
        words = [*dict.fromkeys(roots_of(query))]
        pieces = dict.fromkeys(pieces_of(words), 1.0)
        columns = [field.shares(roots) for field in self._fields]
        columns += [self._name.covered(roots), self._description.covered(roots)]
        columns += [
            self._name_meaning.shares(meanings),
            self._description_meaning.shares(meanings),
        ]
        columns += [self._name_pieces.covered(pieces), self._all_pieces.shares(pieces)]
        columns.append(self._exact_names(query))
        return np.stack(columns, axis=1)

    def _weighed(self, terms: Iterable[str]) -> dict[str, float]:
        return {term: self._rarity.get(term, 1.0) for term in terms}

    def _exact_names(self, query: str) -> NDArray[np.float64]:
        """Say whose name stands in the request as it is written in code."""
        found = np.zeros(self._size)
        low = query.lower()
        for word in set(low.replace("`", " ").replace("(", " ").split()):
            for at in self._exact.get(word.strip(".,;:!?\"')"), ()):
                found[at] = 1.0
        return found


def _spaced(name: str) -> list[str]:
    from langchain_tokenopt.tools.tool_reading import name_words

    return list(name_words(name))


class _Field:
    """One field of all tools: which term stands where, how much it counts there."""

    def __init__(self, documents: Iterable[list[str]]) -> None:
        counts = [Counter(document) for document in documents]
        lengths = np.array([sum(count.values()) for count in counts], dtype=np.float64)
        self.size = len(counts)
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

    def shares(self, terms: dict[str, float]) -> NDArray[np.float64]:
        """Return which share of the worth of *terms* each tool has."""
        scores = np.zeros(self.size)
        for term, worth in terms.items():
            found = self.places.get(term)
            if found is not None:
                scores[found[0]] += worth * found[1]
        return scores / max(1.0, sum(terms.values()))

    def covered(self, terms: dict[str, float]) -> NDArray[np.float64]:
        """Return which share of each tool's own terms is among *terms*."""
        scores = np.zeros(self.size)
        for term in terms:
            found = self.places.get(term)
            if found is not None:
                scores[found[0]] += 1.0
        return scores / self._kinds


def _rarities(fields: Sequence[_Field], size: int) -> dict[str, float]:
    """Return how rare each term is among the tools, from 0 to 1."""
    most = math.log1p(size)
    found: dict[str, set[int]] = {}
    for field in fields:
        for term, (where, _) in field.places.items():
            found.setdefault(term, set()).update(where.tolist())
    return {
        term: math.log1p((size - len(where) + 0.5) / (len(where) + 0.5)) / max(most, 1e-9)
        for term, where in found.items()
    }
