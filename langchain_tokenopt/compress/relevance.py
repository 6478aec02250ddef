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
from collections.abc import Callable, Sequence
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
from langchain_tokenopt.compress.term_hits import FEW_BLOCKS, TermHits
from langchain_tokenopt.compress.units import Unit
from langchain_tokenopt.text.words import WORD

__all__ = ["Prior", "Relevance", "relevance"]

Prior = Literal["none", "lead", "recency"]
"""What position says where words do not: nothing; long pages begin with what matters; the latest
turns of a chat matter most."""

# Weights of the evidence for a passage, on a log-odds scale.
_BEST_SENTENCE = 0.6
"""Against 1 for the BM25 score of the passage."""
_TITLE_NAMED = 2.3
"""Share of the title's words that the question names."""
_TITLE_COVERS = 1.2
"""Share of the question that the title names."""
_PHRASE = 1.1
"""Two words of the question side by side."""

# Weights of the evidence for a sentence within its passage.
_COVERS = 0.9
_COVERS_ALONE = 3.0
"""The same in a text of few passages, where ranking passages says little."""
_OPENS = 1.4
"""Divided by the sentence's position: definitions come first."""
_ANSWERS_KIND = 1.9
"""Has a number where the question asks how many, a year where it asks when, and so on."""
_LENGTH = 0.5

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
        return Relevance([], [])
    text, blocks = RankedText(texts, units), blocks_of(units)
    terms = query_terms(query, rarity) if query is not None else []
    if query is None or not terms:
        return _by_centrality(text, blocks, prior)
    hits = TermHits(text, terms, blocks)
    scores = _with_neighbours(units, blocks, _scores(text, blocks, hits))
    scores = _with_prior(blocks, scores, prior)
    if rerank is not None:
        scores = rerank(query, [text.of_block(block) for block in blocks], scores)
    chances = _chances(units, blocks, scores)
    inside = _Sentences(text, hits, answer_pattern(query), few=len(blocks) <= FEW_BLOCKS)
    likely = [0.0] * len(units)
    for block, chance in zip(blocks, chances, strict=True):
        inside.share_out(block, chance, likely)
    alone = _BY_ITSELF * min(1.0, max(0, len(terms) - _ONE_PLACE) / (_ALL_OVER - _ONE_PLACE))
    if alone:
        own = _by_themselves(text, blocks, hits)
        likely = [
            (1 - alone) * there + alone * itself for there, itself in zip(likely, own, strict=True)
        ]
    return Relevance(likely, _best_first(blocks, scores))


def _best_first(blocks: Sequence[Block], scores: Sequence[float]) -> list[tuple[int, int]]:
    order = sorted(range(len(blocks)), key=lambda at: -scores[at])
    return [(blocks[at].first, blocks[at].end) for at in order]


# --- passages ------------------------------------------------------------------------------------


def _scores(text: RankedText, blocks: Sequence[Block], hits: TermHits) -> list[float]:
    """Return for each block the log odds, up to a constant, that the answer stands there."""
    sentences = hits.of_units_with_titles()
    lexical = _standardised(hits.of_blocks())
    best = _standardised([max(sentences[b.first : b.end]) for b in blocks])
    return [
        by_block
        + _BEST_SENTENCE * by_sentence
        + _PHRASE * (phrases > 0)
        + _title_evidence(text, block, hits)
        for block, by_block, by_sentence, phrases in zip(
            blocks, lexical, best, hits.phrases, strict=True
        )
    ]


def _title_evidence(text: RankedText, block: Block, hits: TermHits) -> float:
    if block.title is None:
        return 0.0
    named = hits.of_unit[block.title]
    if not named:
        return 0.0
    title = text.units[block.title]
    start = text.starts[block.title]
    words = WORD.findall(text.lowered, start, start + title.end - title.start)
    telling = sum(1 for word in words if word not in _LABEL_WORDS and not word.isdigit())
    share = min(1.0, sum(named.values()) / telling) if telling else 0.0
    return _TITLE_NAMED * share + _TITLE_COVERS * hits.weight(named) / hits.whole


_LABEL_WORDS: Final = EMPTY_WORDS | {
    "document", "title", "passage", "doc", "source", "dokument", "titel", "quelle", "documento",
}  # fmt: skip


def _with_neighbours(
    units: Sequence[Unit], blocks: Sequence[Block], scores: list[float]
) -> list[float]:
    """Add to windows of one passage, and to turns of a chat, part of their neighbours' scores."""
    smoothed = list(scores)
    for at, (one, other) in enumerate(pairwise(blocks)):
        before, after = units[one.first], units[other.first]
        same_passage = before.source == after.source and before.passage == after.passage
        if one.record or other.record:
            continue
        if same_passage or (before.kind == "turn" and after.kind == "turn"):
            smoothed[at + 1] += _NEIGHBOURS * max(0.0, scores[at])
            smoothed[at] += _NEIGHBOURS * max(0.0, scores[at + 1])
    return smoothed


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
    goes = [not all(u.required for u in units[b.first : b.end]) for b in blocks]
    among_all = _softmax(scores)
    if not any(goes):
        return among_all
    among_those = iter(_softmax([s for s, may_go in zip(scores, goes, strict=True) if may_go]))
    return [
        next(among_those) if may_go else share
        for share, may_go in zip(among_all, goes, strict=True)
    ]


# --- sentences -----------------------------------------------------------------------------------


class _Sentences:
    """Divides the chance of a block among its units."""

    def __init__(
        self, text: RankedText, hits: TermHits, looks_like: re.Pattern[str] | None, *, few: bool
    ) -> None:
        self._text = text
        self._hits = hits
        self._looks_like = looks_like
        self._covers = (_COVERS_ALONE if few else _COVERS) / hits.whole

    def share_out(self, block: Block, chance: float, likely: list[float]) -> None:
        """Write the chances of the units of *block*, *chance* together, into *likely*."""
        inside = self._text.inside(block)
        if not inside:
            return
        if chance < _HOPELESS:
            shares = [1 / len(inside)] * len(inside)
        else:
            pattern = self._looks_like if chance > _WORTH_A_LOOK else None
            shares = _softmax([self._score(n, at, pattern) for n, at in enumerate(inside)])
        for at, share in zip(inside, shares, strict=True):
            likely[at] = chance * share

    def _score(self, place: int, at: int, looks_like: re.Pattern[str] | None) -> float:
        unit = self._text.units[at]
        score = _OPENS / (1 + place) + _LENGTH * math.log(unit.end - unit.start + 1)
        if self._hits.of_unit[at]:
            score += self._covers * self._hits.weight(self._hits.of_unit[at])
        text = self._text.texts[unit.source]
        if looks_like is not None and looks_like.search(text, unit.start, unit.end):
            score += _ANSWERS_KIND
        return score


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
    return Relevance(likely, _best_first(blocks, scores))


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
