"""Which parts of a prompt are the caller's own, and which are material: one reading for all.

A prompt is a sequence of blocks: paragraphs, lines that stand for themselves, runs of items,
tables. Each is the caller's (it instructs, asks or announces) or material. What a block looks like
speaks for the one or the other, by :data:`WEIGHTS`; every change between them costs something. The
best division of all blocks is found at once, by dynamic programming, so that no block is judged
alone. Marks at the edges of material go with the caller. Where no block is the caller's, a task may
stand in the first or last sentence.

The weights were fitted, as those of a structured perceptron with a margin, on prompts whose frame
is known (M. Collins, Discriminative Training Methods for Hidden Markov Models, 2002,
https://aclanthology.org/W02-1001/, read 2026-11-29), and then rounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Final

from langchain_tokenopt.compress.block_features import WEIGHTS, BlockFeatures
from langchain_tokenopt.compress.prompt_blocks import LONGEST_MARK, is_open, prompt_blocks
from langchain_tokenopt.compress.prompt_lines import (
    Line,
    ends_with_colon,
    heading_of,
    is_frame_line,
    key_mark,
    size_of,
)
from langchain_tokenopt.compress.question import SHORT_PARAGRAPH, asks
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts
from langchain_tokenopt.compress.speech import is_header

__all__ = ["Frame", "Span", "frame_of", "without_edge_sentences"]

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a prompt holds material, as character offsets; the rest is the caller's."""

    material: list[Span]
    """In order, without overlaps."""
    is_announced: bool = False
    """Whether a label, a heading, a tag or a colon sets material apart."""
    is_empty: bool = False
    """Whether nothing but marks stands outside of the material."""
    is_guessed: bool = False
    """Whether it lacks its first and last sentence, though nothing says which of them asks."""

    @property
    def start(self) -> int:
        """Where the material begins."""
        return self.material[0][0]

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.material[-1][1]


def frame_of(text: str, lines: Sequence[Line]) -> Frame:
    r"""Return what is material in *text*; all of it where no part is the caller's.

    Example:
        >>> from langchain_tokenopt.compress.prompt_lines import lines_of
        >>> from langchain_tokenopt.compress.segments import segments_of
        >>> text = "Name the cold thing.\n\n" + "Tea is hot. Ice is cold. Birds can sing. " * 9
        >>> frame = frame_of(text, lines_of(text, segments_of(text)))
        >>> text[: frame.start].strip(), text[frame.end :]
        ('Name the cold thing.', '')
    """
    blocks = prompt_blocks(lines)
    own, is_asked = _divided(text, lines, blocks)
    if all(own):
        if _leaves_answer(lines, blocks):
            return Frame([(0, lines[blocks[-2][0]].start)])
        end = lines[blocks[-1][0]].start if is_asked else len(text)
        return Frame([(0, end)], is_empty=True)
    material: list[Span] = []
    for block, is_own in zip(blocks, own, strict=True):
        start = lines[block[0]].start
        end = lines[block.stop].start if block.stop < len(lines) else len(text)
        if is_own:
            continue
        if material and material[-1][1] == start:
            start = material.pop()[0]
        material.append((start, end))
    around = [lines[at] for b, is_own in zip(blocks, own, strict=True) if is_own for at in b]
    first = lines[next(b[0] for b, is_own in zip(blocks, own, strict=True) if not is_own)]
    is_announced = (
        key_mark(first) is not None
        or bool(heading_of(first))
        or any(
            is_frame_line(line) or ends_with_colon(line) or heading_of(line) or key_mark(line)
            for line in around
        )
    )
    start = material[0][0]
    if first.text[0] == "|":
        start = _first_row(lines, start)
        material[0] = (start, material[0][1])
    key = None if is_header(first.text) else key_mark(first)
    if key is not None and len(first.text) - key.end >= _LABELLED:
        start += text[first.start : first.end].index(first.text) + key.end
        material[0] = (start, material[0][1])
    says = any(map(str.isalnum, "".join(line.text for line in around if not ends_with_colon(line))))
    return Frame(material, is_announced, is_empty=not says)


def _first_row(lines: Sequence[Line], start: int) -> int:
    """Return where the first row stands of the table whose rows go on at *start*."""
    for at in reversed(range(bisect_left(lines, start, key=attrgetter("start")))):
        text = lines[at].text
        if not text[0] == "|" == text[-1]:
            break
        if not any(map(str.isalnum, text)):  # the rule below the names of the columns
            return lines[at + 1].start
    return start


_LABELLED: Final = 60
"""Characters behind a label on its line from which the label is none of the text's own."""

# --- the best division ----------------------------------------------------------------------------


def _divided(text: str, lines: Sequence[Line], blocks: Sequence[range]) -> tuple[list[bool], bool]:
    """Return which blocks are the caller's, in the division with the highest sum of weights.

    Also, whether the last of them says that it asks: ``Question: ...``.
    """
    looks = BlockFeatures(text, lines, blocks)
    features = [looks.features(n) for n in range(len(blocks))]
    own = [_weight(found) for found in features]
    found = best_division(own, WEIGHTS["change"])
    looks.join_their_like(found, features)
    goes_along = [
        _goes_along(lines, block, one) for block, one in zip(blocks, features, strict=True)
    ]
    if blocks and is_open(lines[-1]) and size_of(lines, blocks[-1]) <= LONGEST_MARK:
        goes_along[-1] = True
        if _leaves_answer(lines, blocks):
            goes_along[-2] = True
    is_behind = True
    for at in range(len(blocks)):
        is_behind = found[at] = found[at] or (is_behind and goes_along[at])
    is_before = True
    for at in reversed(range(len(blocks))):
        is_heading = at + 1 < len(blocks) and "heading" in features[at]
        found[at] = found[at] or (is_before and (goes_along[at] or is_heading))
        is_before = found[at]
    return found, len(blocks) > 1 and "asking label" in features[-1]


def _leaves_answer(lines: Sequence[Line], blocks: Sequence[range]) -> bool:
    """Whether the last label leaves an answer to the labelled line above: ``question: ...``."""
    if len(blocks) < 3 or not is_open(lines[-1]):
        return False
    asked, label = blocks[-2], lines[blocks[-2][0]]
    is_one = lines[asked[-1]].paragraph == lines[-1].paragraph
    return is_one and key_mark(label) is not None and size_of(lines, asked) <= _LONGEST_ASKED


_LONGEST_ASKED: Final = 240
"""Characters."""


def _goes_along(lines: Sequence[Line], block: range, features: Mapping[str, float]) -> bool:
    """Whether a block is nothing but a mark, or a line that announces, and does not come back."""
    if "mark" in features:
        return "repeats at all" not in features
    is_short = size_of(lines, block) <= LONGEST_MARK and len(block) == 1
    return is_short and ends_with_colon(lines[block[-1]]) and "repeats at all" not in features


def _weight(features: Mapping[str, float]) -> float:
    return sum([WEIGHTS.get(name, 0.0) * value for name, value in features.items()])


def best_division(own: Sequence[float], change: float) -> list[bool]:
    """Return for which blocks to count what speaks for their being the caller's (Viterbi).

    Every *change* between the caller's and material counts, too.

    Example:
        >>> best_division([5, -1, 2, -9, 1], -2)
        [True, True, True, False, False]
    """
    if not own:
        return []
    material, mine = 0.0, own[0]
    back: list[tuple[bool, bool]] = []
    for gain in own[1:]:
        back.append((mine + change > material, mine >= material + change))
        material, mine = max(material, mine + change), gain + max(mine, material + change)
    found = [mine > material]
    for to_material, to_mine in reversed(back):
        found.append(to_mine if found[-1] else to_material)
    return found[::-1]


# --- no block is the caller's ---------------------------------------------------------------------

_FEWEST_SENTENCES: Final = 5
"""Of fewer sentences none is told apart."""
_WITHIN: Final = 3
"""Sentences from the edge among which one that asks is looked for."""
_LONGEST_TASK: Final = 300
"""Characters of a sentence."""


def without_edge_sentences(text: str, frame: Frame) -> Frame:
    """Take off a page the sentences up to one that asks, or else the first and the last."""
    if len(frame.material) > 1 or not frame.is_empty:
        return frame
    start, end = frame.start, frame.end
    edges = [start, *sentence_cuts(text, start, end)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    if len(pieces) < _FEWEST_SENTENCES:
        return frame
    for at in reversed(range(_WITHIN)):
        if asks(pieces[at]) and edges[at + 1] - start <= SHORT_PARAGRAPH:
            return Frame([(edges[at + 1], end)], frame.is_announced)
    for at in range(len(pieces) - _WITHIN, len(pieces)):
        if asks(pieces[at]) and end - edges[at] <= SHORT_PARAGRAPH:
            return Frame([(start, edges[at])], frame.is_announced)
    if max(len(pieces[0]), len(pieces[-1])) > _LONGEST_TASK:
        return frame
    return Frame([(edges[1], edges[-2])], frame.is_announced, is_guessed=True)
