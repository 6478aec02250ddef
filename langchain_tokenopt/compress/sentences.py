"""Where sentences end."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from langchain_tokenopt.compress.protect import quoted_spans, verbatim_spans

__all__ = ["sentence_ends"]

_END = re.compile(
    r"[.!?…。！？\n](?:"
    r"(?<=[.!?…])[.!?…]*[\"'”’)\]»*_]*(?:[ \t]*[\r\n]+|(?=[ \t]+[\"'“‘„«(\[¿¡*_]*[^\W_a-z]))"
    r"|(?<=[。！？])[。！？]*[”』」）]*[ \t]*[\r\n]*"
    r"|(?<=\n)[ \t]*\r?\n\s*"
    r")"
)
"""Begins with one class of characters, by which the scanner of ``re`` skips everything else."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS = _words(
    """
    Mr Mrs Ms Dr St Jr Sr vs No Nr Prof Gen Col Lt Sgt Capt Rev Hon Inc Ltd Co Corp approx Jan Feb
    Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Fig Vol pp ca cf bzw usw Abs Art Bd Hr Fr Sra Dra Ud
    Uds e.g i.e z.B d.h u.a U.S U.K E.U
    """
)


def _abbreviates(text: str, start: int, dot: int) -> bool:
    """Say whether the full stop at *dot* ends an abbreviation, initial or ordinal (3. Mai)."""
    word = text[text.rfind(" ", max(start, dot - 8), dot) + 1 : dot].lstrip("([\"“„'")
    if word.isdigit() and len(word) < 3:
        before = text[max(start, dot - 16) : dot].split()
        return len(before) < 2 or before[-2].lower() in _BEFORE_ORDINALS
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isupper())


_BEFORE_ORDINALS = frozenset(
    ["am", "der", "dem", "den", "des", "die", "das", "vom", "zum", "im", "seit"]
)
"""German writes "am 3. Mai" where English sentences end in "at 3." as well."""

LONGEST_SENTENCE = 700
"""Characters. What is longer is no sentence (an endless line, a list in disguise) and is cut at
line breaks, then clauses, then words, then anywhere."""
_PIECE = 300
_BREAKS = (re.compile(r"[\r\n]+"), re.compile(r"[;；，、,:]\s*"), re.compile(r"(?=[ \t\u3000])"))


def sentence_ends(text: str, start: int, end: int) -> list[int]:
    """Return where each sentence of ``text[start:end]`` ends; the last one is *end*.

    No sentence ends inside a quotation, a placeholder or inline code.

    Example:
        >>> text = "Dr. Who paid 3.5 EUR. It rained."
        >>> sentence_ends(text, 0, len(text))
        [21, 32]
    """
    ends = []
    for match in _END.finditer(text, start, end):
        at, cut = match.span()
        if text[at] != "." or text[cut - 1] == "\n" or not _abbreviates(text, start, at):
            ends.append(cut)
    if not ends or ends[-1] != end:
        ends.append(end)
    if len(ends) > 1:
        ends = _outside_quotations(text, start, end, ends)
    if len(ends) > 1 and not text[ends[-2] : end].strip():
        ends.pop(-2)
    if end - start > LONGEST_SENTENCE:
        ends = list(_cut_long(text, start, ends))
    return ends


def _outside_quotations(text: str, start: int, end: int, ends: list[int]) -> list[int]:
    """Leave out the ends that fall into a quotation, a placeholder or code."""
    spans = quoted_spans(text, start, end)
    if not spans:
        return ends
    starts = [first for first, _ in spans]
    free = []
    for cut in ends:
        at = bisect_right(starts, cut - 1) - 1
        if cut == end or at < 0 or spans[at][1] <= cut:
            free.append(cut)
    return free


def _cut_long(text: str, start: int, ends: list[int]) -> Iterator[int]:
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
        cut = _best_break(text, position + _PIECE // 2, position + 2 * _PIECE)
        at = bisect_right(starts, cut - 1) - 1
        if at >= 0 and spans[at][0] < cut < spans[at][1]:
            cut = spans[at][1]
        if cut >= end:
            return
        yield cut
        position = cut


def _best_break(text: str, earliest: int, latest: int) -> int:
    for pattern in _BREAKS:
        found = pattern.search(text, earliest, latest)
        if found and found.end() > earliest:
            return found.end()
    return earliest + _PIECE // 2
