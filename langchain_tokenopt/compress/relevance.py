"""How likely each unit of a text is to hold what the query asks for.

Coarse to fine and lexical: BM25 per passage and, with the passage's title, per sentence become the
probability that the answer stands in this passage, and in this sentence of it. A question is
answered in one place; a task that names many things is answered all over the text, so the more a
query names, the more its sentences count by themselves, wherever they stand.

The constants were chosen on 1,197 questions with 20 passages each (``nq20_train``, made from
Natural Questions) and rounded; ``tests/benchmarks/bench_compress.py`` judges them on other
questions.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from langchain_tokenopt.compress.answer_kinds import answer_pattern
from langchain_tokenopt.compress.passages import LONGEST_WINDOW, Block, RankedText, blocks_of
from langchain_tokenopt.compress.query_terms import (
    EMPTY_WORDS,
    Rarity,
    query_terms,
    rarity_by_length,
)
from langchain_tokenopt.compress.term_hits import TermHits
from langchain_tokenopt.compress.units import Unit
from langchain_tokenopt.text.words import WORD

__all__ = ["Prior", "Relevance", "relevance"]

Prior = Literal["none", "lead", "recency"]
"""What position says where words do not: nothing; long pages begin with what matters; the latest
turns of a chat matter most."""

# Weights of the evidence for a passage, on a log-odds scale.
_PASSAGE_WORDS = 0.95
"""BM25 of the passage, in standard deviations."""
_BEST_SENTENCE = 0.7
"""BM25 of its best sentence together with the title, in standard deviations."""
_COVERED = 0.65
"""The share of the question that the passage has, squared."""
_TITLE_NAMED = 1.65
"""Share of the title's words that the question names."""
_TITLE_COVERS = 0.8
"""Share of the question that the title names."""
_OPENING_COVERS, _OPENING_COVERS_UNTITLED = 0.5, 1.6
"""Share of the question in the first sentence: it says what a passage without title is about."""
_PHRASE = 0.45
"""Two words of the question side by side."""
_ANSWER_BESIDE = 0.9
"""Share of the question in the best sentence that has what answers of its kind look like."""

# Weights of the evidence for a sentence within its passage.
_OPENS = 1.25
"""Divided by the sentence's position: definitions come first."""
_TELLS = 1.0
"""Share of what the passage has of the question, its title left out."""
_COVERS = 1.5
"""Share of the question, its title left out, squared: whoever says all of it opens nothing."""
_GOES_ON = 0.4
"""The same of the sentence before, which this one may go on about."""
_EXACT = 3.0
"""Names an identifier of the question."""
_ANSWERS_KIND = 2.0
"""Has a number where the question asks how many, a year where it asks when, and so on."""
_LENGTH = 0.35

_ONE_PLACE = 8
"""Telling words up to which a query asks for one thing; of 1,197 questions 98.7 % have no more."""
_ALL_OVER = 20
"""Telling words from which on it is a task that names many."""
_BY_ITSELF = 0.4
"""Share of the chances that sentences then get by their own words alone. Less makes long prompts of
agents lose sentences that answer the task, more gains nothing (of 0.03 to 0.4, on the desk's
documents with planted facts, seeds 100 to 119 of ``tests/benchmarks/bench_desk.py``)."""

_NEIGHBOURS = 0.5
"""What the windows before and after add to a window's score."""
_TURNS, _TURNS_REACH = 0.7, 3
"""The same for windows of turns, and how many of them add to it; each adds less."""
_STANZA, _LONGEST_STANZA = 0.4, 16
"""What a few lines between blank lines add to each other's scores, and how many are a few."""
_LEAD, _LEAD_WINDOWS = 2.0, 3.0
_RECENCY, _RECENCY_WINDOWS = 1.5, 6.0

_HOPELESS = 1e-3
"""In blocks less likely than this all sentences are alike."""
_WORTH_A_LOOK = 0.002
"""Blocks less likely than this are not searched for answers of the right kind."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """What ranking found."""

    units: list[float]
    """For each unit, how likely it holds what is asked for. Those that may go sum to 1."""
    blocks: list[tuple[int, int]]
    """Ranges of units that were ranked together, best first."""
    named: list[int]
    """For each unit, how many of the words that are asked for it has."""


def relevance(
    texts: Sequence[str],
    units: Sequence[Unit],
    query: str | None,
    *,
    prior: Prior = "none",
    rarity: Rarity = rarity_by_length,
    rerank: Callable[[str, list[str], list[float]], list[float]] | None = None,
) -> Relevance:
    """Rank the units of *texts* for *query*; without one, by centrality and position.

    Args:
        texts: The sources that the units' offsets refer to.
        units: In the order of the text, covering it.
        query: What is asked.
        prior: What position says.
        rarity: How telling a word is.
        rerank: Given the query, the blocks' texts and their scores (log odds), returns scores.

    Example:
        >>> from langchain_tokenopt.compress.units import units_of
        >>> text = "Tea is a drink. The bridge was built in 1931. It rained."
        >>> units = units_of(text)
        >>> ranked = relevance([text], units, "When was the bridge built?").units
        >>> text[units[ranked.index(max(ranked))].start :][:30]
        ' The bridge was built in 1931.'
    """
    if not units:
        return Relevance([], [], [])
    text = RankedText(texts, units)
    blocks = blocks_of(units)
    blocks = [block for block in blocks if text.inside(block)] or blocks
    terms = query_terms(query, rarity) if query is not None else []
    if query is None or not terms:
        return _by_centrality(text, blocks, prior)
    hits = TermHits(text, terms, blocks)
    evidence = _Evidence(text, blocks, hits, answer_pattern(query))
    scores = _with_stanzas(text, blocks, evidence.of_blocks())
    scores = _with_neighbours(units, blocks, scores)
    scores = _with_prior(blocks, scores, prior)
    if rerank is not None:
        scores = rerank(query, [text.of_block(block) for block in blocks], scores)
    chances = _chances(units, blocks, scores)
    likely = evidence.of_units(chances)
    alone = _BY_ITSELF * min(1.0, max(0, len(terms) - _ONE_PLACE) / (_ALL_OVER - _ONE_PLACE))
    if alone:
        own = _by_themselves(text, blocks, hits)
        likely = [
            (1 - alone) * there + alone * itself for there, itself in zip(likely, own, strict=True)
        ]
    return Relevance(likely, _best_first(blocks, scores), list(map(len, hits.of_unit)))


def _best_first(blocks: Sequence[Block], scores: Sequence[float]) -> list[tuple[int, int]]:
    order = sorted(range(len(blocks)), key=lambda at: -scores[at])
    return [(blocks[at].first, blocks[at].end) for at in order]


# --- passages and their sentences ----------------------------------------------------------------


class _Evidence:
    """What speaks for each block, and for each unit of a block."""

    def __init__(
        self,
        text: RankedText,
        blocks: Sequence[Block],
        hits: TermHits,
        looks_like: re.Pattern[str] | None,
    ) -> None:
        self._text = text
        self._blocks = blocks
        self._hits = hits
        self._looks_like = looks_like
        self._inside = [text.inside(block) for block in blocks]
        self._titles = _telling_words(text, blocks)
        self._known_kinds: dict[int, bool] = {}

    def of_blocks(self) -> list[float]:
        """Return for each block the log odds, up to a constant, that the answer stands there."""
        blocks, hits = self._blocks, self._hits
        lexical = _standardised(hits.of_blocks())
        best = _standardised(hits.of_best_units())
        scores = []
        for at, block in enumerate(blocks):
            covered = hits.weight(hits.of_block[at]) / hits.whole
            scores.append(
                _PASSAGE_WORDS * lexical[at]
                + _BEST_SENTENCE * best[at]
                + _COVERED * covered * covered
                + _PHRASE * (hits.phrases[at] > 0)
                + self._topic(block, self._inside[at])
            )
        worth_a_look = max(scores) - _OUT_OF_THE_RACE
        for at, block in enumerate(blocks):
            if self._looks_like is not None and scores[at] > worth_a_look:
                scores[at] += _ANSWER_BESIDE * self._answer_beside(block, self._inside[at])
        return scores

    def _topic(self, block: Block, inside: Sequence[int]) -> float:
        """Return what the title says of the block, or its first sentence."""
        hits = self._hits
        opening = hits.of_unit[inside[0]] if inside and block.opens else {}
        opening_covers = hits.weight(opening) / hits.whole if opening else 0.0
        if block.title is None or not (telling := self._titles.get(block.title, 0)):
            return _OPENING_COVERS_UNTITLED * opening_covers
        evidence = _OPENING_COVERS * opening_covers
        if named := hits.of_unit[block.title]:
            share = min(1.0, sum(named.values()) / telling)
            evidence += _TITLE_NAMED * share + _TITLE_COVERS * hits.weight(named) / hits.whole
        return evidence

    def _answer_beside(self, block: Block, inside: Sequence[int]) -> float:
        """Return the largest share of the question beside something like an answer."""
        hits = self._hits
        titled = hits.of_unit[block.title] if block.title is not None else {}
        named = hits.weight(titled)
        shares = sorted(
            [(hits.weight_without(hits.of_unit[at], titled) + named, at) for at in inside],
            reverse=True,
        )
        return next((share for share, at in shares if self._answers_kind(at)), 0.0) / hits.whole

    def _answers_kind(self, at: int) -> bool:
        known = self._known_kinds.get(at)
        if known is None:
            unit, pattern = self._text.units[at], self._looks_like
            text = self._text.texts[unit.source]
            known = pattern is not None and pattern.search(text, unit.start, unit.end) is not None
            self._known_kinds[at] = known
        return known

    def of_units(self, chances: Sequence[float]) -> list[float]:
        """Return the chance of each unit, given those of the blocks."""
        likely = [0.0] * len(self._text.units)
        for block, chance, inside in zip(self._blocks, chances, self._inside, strict=True):
            if chance < _HOPELESS or len(inside) == 1:
                for at in inside:
                    likely[at] = chance / len(inside)
            elif inside:
                shares = _softmax(self._of_sentences(block, inside, chance > _WORTH_A_LOOK))
                for at, share in zip(inside, shares, strict=True):
                    likely[at] = chance * share
        return likely

    def _of_sentences(self, block: Block, inside: Sequence[int], look: bool) -> list[float]:
        text, hits = self._text, self._hits
        titled = hits.of_unit[block.title] if block.title is not None else {}
        whole = hits.whole - hits.weight(titled) or 1.0
        of_unit = hits.of_unit
        own = [
            hits.weight_without(found, titled) / whole if (found := of_unit[at]) else 0.0
            for at in inside
        ]
        told = self._telling_apart(inside, titled)
        opens = _OPENS if block.opens and not self._lines(inside) else 0.0
        scores, before = [], 0.0
        for place, (at, covers) in enumerate(zip(inside, own, strict=True)):
            unit = text.units[at]
            scores.append(
                _LENGTH * math.log(unit.end - unit.start + 1)
                + opens / (1 + place)
                + _TELLS * told[place]
                + _COVERS * covers * covers
                + _GOES_ON * before
                + _EXACT * (at in hits.exact)
                + (_ANSWERS_KIND if look and self._answers_kind(at) else 0.0)
            )
            before = covers
        return scores

    def _lines(self, inside: Sequence[int]) -> bool:
        """Whether most sentences stand on lines of their own: none of them opens the others."""
        text, units = self._text, self._text.units
        ends = [text.starts[at] + units[at].end - units[at].start - 1 for at in inside]
        return sum(text.lowered[end] == "\n" for end in ends) > max(2, len(inside) // 2)

    def _telling_apart(self, inside: Sequence[int], titled: Mapping[int, float]) -> list[float]:
        """Return for each sentence what only it has of the question, from 0 to 1.

        What each of them has does not say in which of them the answer is.
        """
        idf, of_unit = self._hits.idf, self._hits.of_unit
        having: dict[int, int] = {}
        for at in inside:
            for number in of_unit[at]:
                having[number] = having.get(number, 0) + 1
        if not having:
            return [0.0] * len(inside)
        left = {
            number: idf[number] * (1 - (count - 1) / len(inside))
            for number, count in having.items()
            if number not in titled
        }
        own = [sum([left[number] for number in of_unit[at] if number in left]) for at in inside]
        most = max(own) or 1.0
        return [weight / most for weight in own]


_OUT_OF_THE_RACE = 6.0
"""Log odds behind the best block from which no block is looked at again."""

_FEW_TITLES: Final = 3
_IN_ALL: Final = 0.8
"""Share of the titles that have a word, from which on it is a label such as "Source:"."""


def _telling_words(text: RankedText, blocks: Sequence[Block]) -> dict[int, int]:
    """Return for each title how many of its words say what its passage is about, if any.

    What stands in most titles is their label, or a key of JSON; those who speak in turns, or
    letters and numbers, are no titles.
    """
    words: dict[int, list[str]] = {}
    for title in dict.fromkeys(block.title for block in blocks if block.title is not None):
        start, size = text.starts[title], text.units[title].end - text.units[title].start
        found = WORD.findall(text.lowered, start, start + size)
        words[title] = [
            w
            for w in found
            if w not in EMPTY_WORDS and not w.isdigit() and (w[1:] or not w.isascii())
        ]
    if len(words) > _FEW_TITLES:
        having = Counter([word for found in words.values() for word in set(found)])
        labels = {word for word, count in having.items() if count > _IN_ALL * len(words)}
        words = {title: [w for w in found if w not in labels] for title, found in words.items()}
        if 2 * len(set(map(tuple, words.values()))) <= len(words):
            return {}
    return {title: len(found) for title, found in words.items()}


def _with_neighbours(
    units: Sequence[Unit], blocks: Sequence[Block], scores: list[float]
) -> list[float]:
    """Add to windows of one passage, and to turns of a chat, part of their neighbours' scores.

    People stay with a matter for several turns, so turns reach further than windows.
    """
    smoothed, reach = list(scores), 0
    for at, (one, other) in enumerate(pairwise(blocks), 1):
        before, after = units[one.first], units[other.first]
        same_passage = before.source == after.source and before.passage == after.passage
        turns = before.kind == "turn" and after.kind == "turn"
        if one.record or other.record or not (same_passage or turns):
            reach = 0
            continue
        reach = min(reach + 1, _TURNS_REACH if turns else 1)
        share = 1.0
        for back in range(at - 1, at - 1 - reach, -1):
            share *= _TURNS if turns else _NEIGHBOURS
            smoothed[at] += share * max(0.0, scores[back])
            smoothed[back] += share * max(0.0, scores[at])
    return smoothed


def _with_stanzas(text: RankedText, blocks: Sequence[Block], scores: list[float]) -> list[float]:
    """Add to each of a few lines between blank lines part of the best of the others' scores.

    They say one thing together: the settings of a section, the fields of an entry.
    """
    together, first = list(scores), 0
    for end in range(1, len(blocks) + 1):
        if (
            end < len(blocks)
            and blocks[end].record
            and _goes_on(text, blocks[end - 1], blocks[end])
        ):
            continue
        if 1 < end - first <= _LONGEST_STANZA:
            ranked = sorted(scores[first:end])
            for at in range(first, end):
                best = ranked[-2] if scores[at] == ranked[-1] else ranked[-1]
                together[at] += _STANZA * max(0.0, best)
        first = end
    return together


def _goes_on(text: RankedText, before: Block, after: Block) -> bool:
    """Say whether two records stand in one passage without a blank line between."""
    one, other = text.units[before.end - 1], text.units[after.first]
    if not before.record or one.source != other.source or one.passage != other.passage:
        return False
    return not text.texts[one.source][max(one.start, one.end - 4) : one.end].endswith(
        ("\n\n", "\n\r\n")
    )


def _with_prior(blocks: Sequence[Block], scores: list[float], prior: Prior) -> list[float]:
    """Add what the position says, in windows from the beginning or the end; nothing to records."""
    if prior == "none":
        return scores
    weight, decay = (_LEAD, _LEAD_WINDOWS) if prior == "lead" else (_RECENCY, _RECENCY_WINDOWS)
    made = []
    whole, before = sum(block.chars for block in blocks), 0
    for block, score in zip(blocks, scores, strict=True):
        distance = before if prior == "lead" else whole - before - block.chars
        before += block.chars
        bonus = 0.0 if block.record else weight * math.exp(-distance / LONGEST_WINDOW / decay)
        made.append(score + bonus)
    return made


def _chances(units: Sequence[Unit], blocks: Sequence[Block], scores: list[float]) -> list[float]:
    """Divide the chances among the blocks, and once more among those that may go.

    The question, which stays, has all of its own words: it would leave nothing to any passage.
    """
    among_all = _softmax(scores)
    required = [unit.required for unit in units]
    goes = [not all(required[block.first : block.end]) for block in blocks]
    if all(goes) or not any(goes):
        return among_all
    among_those = iter(_softmax([s for s, may_go in zip(scores, goes, strict=True) if may_go]))
    return [
        next(among_those) if may_go else share
        for share, may_go in zip(among_all, goes, strict=True)
    ]


def _by_themselves(text: RankedText, blocks: Sequence[Block], hits: TermHits) -> list[float]:
    """Divide the chances by what each unit says itself, wherever it stands.

    Turns of a conversation say little without their neighbours, and get none.
    """
    scores = [0.0] * len(text.units)
    for block in blocks:
        for at in text.inside(block):
            unit = text.units[at]
            if hits.of_unit[at] and unit.kind != "turn" and not unit.required:
                scores[at] = hits.of_sentence(hits.of_unit[at], unit.end - unit.start)
    total = sum(scores) or 1.0
    return [score / total for score in scores]


# --- no query ------------------------------------------------------------------------------------


def _by_centrality(text: RankedText, blocks: Sequence[Block], prior: Prior) -> Relevance:
    """A unit matters when its words are those the whole text keeps using."""
    central = _centrality(text)
    scores = [max(central[b.first : b.end]) for b in blocks]
    likely = [0.0] * len(central)
    for block, chance in zip(blocks, _softmax(_with_prior(blocks, scores, prior)), strict=True):
        inside = text.inside(block)
        if not inside:
            continue
        shares = _softmax([central[at] + _OPENS / (1 + n) for n, at in enumerate(inside)])
        for at, share in zip(inside, shares, strict=True):
            likely[at] = chance * share
    return Relevance(likely, _best_first(blocks, scores), [0] * len(likely))


def _centrality(text: RankedText) -> list[float]:
    counts: dict[str, int] = {}
    words_of: list[list[str]] = []
    ends = [*text.starts[1:], len(text.lowered) + 1]
    for start, end in zip(text.starts, ends, strict=True):
        words = [w for w in WORD.findall(text.lowered, start, end - 1) if w not in EMPTY_WORDS]
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        words_of.append(list(dict.fromkeys(words)))  # in order: sums of floats depend on it
    return _standardised(
        [
            sum(math.log(counts[word]) for word in words) / math.sqrt(len(words) + 4)
            for words in words_of
        ]
    )


def _softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    odds = [math.exp(score - top) for score in scores]
    total = sum(odds)
    return [odd / total for odd in odds]


def _standardised(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [0.0] * len(values) if spread < 1e-9 else [(value - mean) / spread for value in values]
