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
_NONE: Final[Hits] = {}

_PASSAGE_K1, _PASSAGE_B = 1.2, 0.6
_SENTENCE_K1, _SENTENCE_B = 1.0, 0.6
FEW_BLOCKS: Final = 3
"""A text of up to so many passages has too few to learn from which words are rare; in one with
rows beside paragraphs they are no measure either."""


class TermHits:
    """The terms of a query in a text, per unit and per block."""

    def __init__(self, text: RankedText, terms: Sequence[Term], blocks: Sequence[Block]) -> None:
        self._text = text
        self._blocks = blocks
        self.of_unit: list[Hits] = [_NONE] * len(text.units)
        self.of_block: list[Hits] = [_NONE] * len(blocks)
        self.phrases = [0] * len(blocks)
        """How often two words of the query stand side by side."""
        self.exact: set[int] = set()
        """Units that name an identifier of the query."""
        terms = list(_searchable(terms, text.lowered))
        self._find(terms)
        uneven = len(blocks) <= FEW_BLOCKS or any(block.record for block in blocks)
        places = self.of_unit if uneven else self.of_block
        self.idf = _idf(terms, places, _commonness(blocks))
        self.whole = sum(self.idf) or 1.0
        """What all terms together weigh."""

    def _find(self, terms: Sequence[Term]) -> None:
        starts, of_unit, of_block = self._text.starts, self.of_unit, self.of_block
        block_of = [-1] * len(of_unit)
        for place, block in enumerate(self._blocks):
            block_of[block.first : block.end] = [place] * (block.end - block.first)
        before: set[int] = set()
        for number, term in enumerate(terms):
            found = _occurrences(self._text, term)
            is_pair, is_telling = term.kind == "pair", term.kind == "exact" and term.is_telling
            for position, _, value in found:
                at = bisect_right(starts, position) - 1
                place = block_of[at]
                if place < 0:  # of no passage, so nothing that is ranked
                    continue
                _add(of_unit, at, number, value)
                _add(of_block, place, number, value)
                if is_telling and value == 1.0:
                    self.exact.add(at)
                if position - 1 in before or (is_pair and position + 1 in before):
                    self.phrases[place] += 1
            before = {after for _, after, _ in found}

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

    def of_best_units(self) -> list[float]:
        """Return for each block the BM25 score of its best unit together with the title."""
        units, of_unit = self._text.units, self.of_unit
        best = []
        for block in self._blocks:
            title = of_unit[block.title] if block.title is not None else _NONE
            found = self.of_sentence(title, self._text.average_chars) if title else 0.0
            for at, own in enumerate(of_unit[block.first : block.end], block.first):
                if own:
                    both = _sum(title, own) if title and at != block.title else own
                    unit = units[at]
                    score = self.of_sentence(both, unit.end - unit.start)
                    found = score if score > found else found
            best.append(found)
        return best

    def _bm25(
        self, hits: Mapping[int, float], length: float, average: float, k1: float, b: float
    ) -> float:
        norm, idf, score = k1 * (1 - b + b * length / average), self.idf, 0.0
        for number, count in hits.items():
            score += idf[number] * count / (count + norm)
        return (k1 + 1) * score


def _add(places: list[Hits], at: int, number: int, value: float) -> None:
    hits = places[at]
    if hits:
        hits[number] = hits[number] + value if number in hits else value
    else:
        places[at] = {number: value}


def _sum(left: Hits, right: Hits) -> Hits:
    both = dict(left)
    for number, count in right.items():
        both[number] = both.get(number, 0.0) + count
    return both


def _occurrences(text: RankedText, term: Term) -> list[tuple[int, int, float]]:
    """Return position, end and value of every word that is the term or related to it.

    Of names such as ``forceTheme`` each part is a word, too.
    """
    lowered, hump = text.lowered, text.hump
    find, is_word, is_pair = lowered.find, term.kind == "word", term.kind == "pair"
    word_end, seen = _WORD_END.search, term.seen
    occurrences = []
    for needle in term.needles:
        size = len(needle)
        position = find(needle)
        while position >= 0:
            after = position + size
            if is_word:
                inside = position > 0 and lowered[position - 1].isalnum()
                if not inside or hump(position, position + size + 1) == position:
                    end = word_end(lowered, after)
                    after = end.start() if end else len(lowered)
                    found = lowered[position:after]
                    value = seen[found] if found in seen else term.value(found)
                    if not value:
                        parted = hump(position + 1, after)
                        value = term.value(lowered[position:parted]) if parted > 0 else 0.0
                        after = parted if value else position + size
                    if value:
                        occurrences.append((position, after, value))
            elif value := 1.0 if is_pair else closeness(lowered, position, after):
                occurrences.append((position, after, value))
            position = find(needle, after)
    return occurrences


_WORD_END: Final = re.compile(r"[\W_]")


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
