"""Cut prose into sentences, and what is too long for a sentence into pieces."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from langchain_tokenopt.compress.protect import verbatim_spans
from langchain_tokenopt.text.scripts import UNSPACED
from langchain_tokenopt.text.sentences import sentence_ends

__all__ = ["LONGEST_SENTENCE", "sentence_cuts"]

LONGEST_SENTENCE: Final = 700
"""Characters. What is longer is no sentence (an endless line, a list in disguise) and is cut at
line breaks, then clauses, then words, then anywhere."""
_PIECE = 300
_BREAKS = (
    re.compile(r"[\r\n]+"),
    re.compile(r"[,;:](?=\s)|[；，、：；]"),
    re.compile(rf"(?=\s)|(?<=[{UNSPACED}])(?=[{UNSPACED}])"),
)
"""Lines, clauses, words: what is best to cut at first. A comma within a number is no clause."""


def sentence_cuts(text: str, start: int, end: int) -> Sequence[int]:
    """Return where each unit of the prose ``text[start:end]`` ends; the last one is *end*.

    Example:
        >>> text = "Dr. Who paid 3.5 EUR. It rained."
        >>> sentence_cuts(text, 0, len(text))
        [21, 32]
    """
    ends = _with_letters(text, start, sentence_ends(text, start, end))
    return list(_cut_long(text, start, ends)) if end - start > LONGEST_SENTENCE else ends


def _with_letters(text: str, start: int, ends: Sequence[int]) -> Sequence[int]:
    """Leave out ends behind a mark or number alone, as "[ ] 3.", when words follow on its line."""
    made = []
    for end in ends:
        is_short = end - start <= _LONGEST_NUMBER and end != ends[-1]
        if is_short and _LETTERLESS.fullmatch(text, start, end) and text[end - 1] not in "\r\n":
            continue
        made.append(end)
        start = end
    return made


_LONGEST_NUMBER: Final = 12
_LETTERLESS: Final = re.compile(r"[\W\d_]*")


def _cut_long(text: str, start: int, ends: Sequence[int]) -> Iterator[int]:
    for end in ends:
        if end - start > LONGEST_SENTENCE:
            yield from _pieces(text, start, end)
        yield end
        start = end


def _pieces(text: str, start: int, end: int) -> Iterator[int]:
    """Yield cuts some 300 characters apart, at the best kind of break there is in reach."""
    spans = [(a + start, b + start) for a, b in verbatim_spans(text[start:end])]
    starts = [a for a, _ in spans]
    position = start
    while end - position > LONGEST_SENTENCE:
        cut = _best_break(text, position + _PIECE // 2, position + 2 * _PIECE, end)
        at = bisect_right(starts, cut - 1) - 1
        if at >= 0 and spans[at][0] < cut < spans[at][1]:
            cut = spans[at][1]
        if cut >= end:
            return
        yield cut
        position = cut


def _best_break(text: str, earliest: int, latest: int, end: int) -> int:
    """Return where to cut: between words even behind *latest*, if there is no space before it."""
    for pattern in _BREAKS:
        found = pattern.search(text, earliest, latest)
        if found and found.end() > earliest:
            return found.end()
    beyond = _BREAKS[-1].search(text, earliest + 1, min(end, earliest + LONGEST_WORD))
    return beyond.end() if beyond else min(end, earliest + LONGEST_WORD)


LONGEST_WORD: Final = 2_000
"""Characters; what is longer without a space is no word (base64, a row of dots) and is cut."""
