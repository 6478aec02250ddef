"""Where the terms of a query stand in a text, and how much that says: BM25.

The query's words are looked up in the text, rather than the text's words being indexed: a text is
asked about once.

Source:
    Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from langchain_tokenopt.compress.identifiers import closeness
from langchain_tokenopt.compress.passages import Block, RankedText
from langchain_tokenopt.compress.query_terms import Term

__all__ = ["TermHits"]

Hits = dict[int, float]
"""Term index to how often it was found, related words counting less."""

_PASSAGE_K1, _PASSAGE_B = 1.2, 0.6
_SENTENCE_K1, _SENTENCE_B = 1.0, 0.6
FEW_BLOCKS: Final = 3
"""A text of up to so many passages has too few to learn from which words are rare in it."""


class TermHits:
    """The terms of a query in a text, per unit and per block."""

    def __init__(self, text: RankedText, terms: Sequence[Term], blocks: Sequence[Block]) -> None:
        self._text = text
        self._blocks = blocks
        self.of_unit: list[Hits] = [{} for _ in text.units]
        self.of_block: list[Hits] = [{} for _ in blocks]
        self.phrases = [0] * len(blocks)
        """How often two words of the query stand side by side."""
        self.exact: set[int] = set()
        """Units that name an identifier of the query."""
        terms = list(_searchable(terms, text.lowered))
        self._find(terms)
        places = self.of_block if len(blocks) > FEW_BLOCKS else self.of_unit
        self.idf = _idf(terms, places, _commonness(blocks))
        self.whole = sum(self.idf) or 1.0
        """What all terms together weigh."""

    def _find(self, terms: Sequence[Term]) -> None:
        starts = self._text.starts
        block_of = [0] * len(starts)
        for number, block in enumerate(self._blocks):
            for at in range(block.first, block.end):
                block_of[at] = number
        before: set[int] = set()
        for number, term in enumerate(terms):
            ends: set[int] = set()
            for position, after, value in _occurrences(self._text, term):
                at = bisect_right(starts, position) - 1
                for hits in (self.of_unit[at], self.of_block[block_of[at]]):
                    hits[number] = hits.get(number, 0.0) + value
                ends.add(after)
                if value == 1.0 and term.kind == "exact" and term.is_telling:
                    self.exact.add(at)
                if position - 1 in before or (term.kind == "pair" and position + 1 in before):
                    self.phrases[block_of[at]] += 1
            before = ends

    def weight(self, hits: Mapping[int, float]) -> float:
        """Return what the terms in *hits* weigh, however often each was found."""
        return sum([self.idf[number] for number in hits])

    def weight_without(self, hits: Mapping[int, float], others: Mapping[int, float]) -> float:
        """Return what the terms in *hits* weigh that are not among *others*."""
        return sum([self.idf[number] for number in hits if number not in others])

    def of_blocks(self) -> list[float]:
        """Return the BM25 score of each block."""
        average = sum(block.chars for block in self._blocks) / len(self._blocks) + 1
        return [
            self._bm25(hits, block.chars, average, _PASSAGE_K1, _PASSAGE_B)
            for block, hits in zip(self._blocks, self.of_block, strict=True)
        ]

    def of_sentence(self, hits: Mapping[int, float], chars: float) -> float:
        """Return the BM25 score of a sentence of *chars* characters."""
        return self._bm25(hits, chars, self._text.average_chars, _SENTENCE_K1, _SENTENCE_B)

    def of_units_with_titles(self) -> list[float]:
        """Return the BM25 score of each unit together with its block's title."""
        units = self._text.units
        scores = [0.0] * len(units)
        for block in self._blocks:
            title_hits = self.of_unit[block.title] if block.title is not None else {}
            title_alone: float | None = None
            for at in range(block.first, block.end):
                own = self.of_unit[at]
                if own:
                    both = _sum(title_hits, own) if at != block.title else own
                    scores[at] = self.of_sentence(both, units[at].end - units[at].start)
                elif title_hits:
                    if title_alone is None:
                        title_alone = self.of_sentence(title_hits, self._text.average_chars)
                    scores[at] = title_alone
        return scores

    def _bm25(
        self, hits: Mapping[int, float], length: float, average: float, k1: float, b: float
    ) -> float:
        norm = k1 * (1 - b + b * length / average)
        return (k1 + 1) * sum([self.idf[n] * count / (count + norm) for n, count in hits.items()])


def _sum(left: Hits, right: Hits) -> Hits:
    both = dict(left)
    for number, count in right.items():
        both[number] = both.get(number, 0.0) + count
    return both


def _occurrences(text: RankedText, term: Term) -> Iterator[tuple[int, int, float]]:
    """Yield position, end and value of every word that is the term or related to it."""
    lowered = text.lowered
    for needle in term.needles:
        position = lowered.find(needle)
        while position >= 0:
            after = position + len(needle)
            if term.kind == "pair":
                yield position, after, 1.0
            elif term.kind == "exact":
                if value := closeness(lowered, position, after):
                    yield position, after, value
            elif not position or not lowered[position - 1].isalnum():
                after = _word_end(lowered, after)
                if value := term.value(lowered[position:after]):
                    yield position, after, value
            position = lowered.find(needle, after)


_LETTERS: Final = re.compile(r"[^\W_]*")


def _word_end(lowered: str, at: int) -> int:
    found = _LETTERS.match(lowered, at)
    return found.end() if found else at


def _searchable(terms: Sequence[Term], lowered: str) -> Iterator[Term]:
    """Yield the terms, and in place of an identifier that is nowhere, its words."""
    for term in terms:
        if term.parts and not any(needle in lowered for needle in term.needles):
            yield from term.parts
        else:
            yield term


def _idf(terms: Sequence[Term], places: Sequence[Hits], power: float) -> list[float]:
    """How telling each term is: its rarity in general times its rarity here."""
    total = len(places)
    having = [0] * len(terms)
    for place in places:
        for number in place:
            having[number] += 1
    return [
        term.weight * math.log(1 + (total - count + 0.5) / (count + 0.5)) ** power
        for term, count in zip(terms, having, strict=True)
    ]


def _commonness(blocks: Sequence[Block]) -> float:
    """Return how much being in many blocks speaks against a term.

    Half as much in passages: those who retrieved them looked for the question's words, so what is
    in most of them is there because it was asked for.
    """
    return 0.5 if 2 * sum([block.opens for block in blocks]) > len(blocks) else 1.0
