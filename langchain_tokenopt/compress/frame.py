"""Which parts of a prompt are the caller's own, and which are material: one reading for all.

A prompt is a sequence of blocks: paragraphs, lines that stand for themselves, runs of items,
tables. Each is the caller's (it instructs, asks or announces) or material. What a block looks like
speaks for the one or the other, by :data:`WEIGHTS`; every change between them costs something. The
best division of all blocks is found at
once, by dynamic programming, so that no block is judged alone. Marks at the edges of material go
with the caller. Where no block is the caller's, a task may stand in the first or last sentence.

The weights were fitted, as those of a structured perceptron with a margin, on prompts whose frame
is known (M. Collins, Discriminative Training Methods for Hidden Markov Models, 2002,
https://aclanthology.org/W02-1001/, read 2026-11-29), and then rounded.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, Literal

from langchain_tokenopt.compress.prompt_lines import (
    LONG_LINE,
    Line,
    ends_with_colon,
    heading_of,
    instructs,
    is_fence,
    is_frame_line,
    is_title,
    key_mark,
    sections_of,
    size_of,
    typical,
)
from langchain_tokenopt.compress.question import LONGEST_CUE, SHORT_PARAGRAPH, asks, is_asked
from langchain_tokenopt.compress.segments import label_asks, label_of_passages
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts

__all__ = ["Frame", "Span", "frame_of", "without_edge_sentences"]

Span = tuple[int, int]

WEIGHTS: Final[dict[str, float]] = {
    "long": -4.0,
    "share": -4.0,
    "pattern": -4.0,
    "quoted": -4.0,
    "material label": -4.0,
    "repeats at all": -3.6,
    "repeats": -3.5,
    "asking label": 3.4,
    "first short": 3.4,
    "other kind": 2.6,
    "instructs": 2.6,
    "most": -2.4,
    "asks between": 2.4,
    "first": 2.2,
    "addresses": 3.4,
    "change": -2.2,
    "heads most": 2.2,
    "last short": 2.0,
    "heading": 1.8,
    "last": 1.2,
    "asks last": 1.2,
    "announces": 1.0,
    "asks alone": 0.8,
    "data": -0.8,
    "few": -0.6,
    "question inside": 0.6,
    "open end": 0.5,
    "any": 0.4,
    "short section": 0.4,
}
"""What each feature of a block adds to its being the caller's; of a boundary, to a change there."""


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
    blocks = blocks_of(lines)
    own = _divided(text, lines, blocks)
    if all(own):
        if _leaves_answer(lines, blocks):
            return Frame([(0, lines[blocks[-2][0]].start)])
        return Frame([(0, len(text))], is_empty=True)
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
    if (key := key_mark(first)) is not None and len(first.text) - key.end >= _LABELLED:
        start += text[first.start : first.end].index(first.text) + key.end
        material[0] = (start, material[0][1])
    says = any(map(str.isalnum, "".join(line.text for line in around if not ends_with_colon(line))))
    return Frame(material, is_announced, is_empty=not says)


_LABELLED: Final = 60
"""Characters behind a label on its line from which the label is none of the text's own."""

# --- blocks ---------------------------------------------------------------------------------------


def blocks_of(lines: Sequence[Line]) -> list[range]:
    """Cut at blank lines, and around lines that stand for themselves."""
    if not lines:
        return []
    first, made, runs, last = 0, [], _runs(lines), len(lines) - 1
    counts: Counter[tuple[str, str]] = Counter()
    for line in lines:
        counts.update((mark.kind, mark.name) for mark in line.marks)
    for at, (above, line) in enumerate(pairwise(lines), 1):
        if (
            above.paragraph != line.paragraph
            or _is_alone(above)
            or _is_alone(line)
            or ends_with_colon(above)
            or (at in runs) != (at - 1 in runs)
            or (at in runs and _is_lone(above, counts) != _is_lone(line, counts))
            or (at not in runs and (key_mark(line) is not None or _comes_back(line, counts)))
            or (at == last and (_is_open(line) or asks(line.text)))
            or (at == 1 and asks(above.text))
        ):
            made.append(range(first, at))
            first = at
    return [*made, range(first, len(lines))]


def _is_lone(line: Line, counts: Mapping[tuple[str, str], int]) -> bool:
    """Whether a line has a label that does not come back."""
    key = key_mark(line)
    return key is not None and counts[key.kind, key.name] < 3


def _comes_back(line: Line, counts: Mapping[tuple[str, str], int]) -> bool:
    """Whether a line is, or begins with, a mark that other lines have, too."""
    return any(
        counts[mark.kind, mark.name] > 2
        and (mark.kind in ("banner", "bold", "bracket") or mark.end == len(line.text))
        for mark in line.marks
    )


def _is_alone(line: Line) -> bool:
    """Whether a line is a mark, a heading, a paragraph that is not wrapped, or a block of data."""
    size = line.end - line.start
    return size >= LONG_LINE or is_mark(line) or bool(heading_of(line))


def is_mark(line: Line) -> bool:
    return line.end - line.start <= _LONGEST_MARK and is_frame_line(line)


_LONGEST_MARK: Final = 80
"""Characters."""


def _is_open(line: Line) -> bool:
    """Whether a line ends in a sign that something must follow."""
    return line.text.endswith((":", "：", "=", "→", "->", "=>"))


def _runs(lines: Sequence[Line]) -> frozenset[int]:
    """Return the lines that begin alike, with a sign or a label, as most of their paragraph."""
    found: set[int] = set()
    for _, group in groupby(range(len(lines)), key=lambda at: lines[at].paragraph):
        ats = list(group)
        kinds = [_beginning(lines[at]) for at in ats]
        kind, count = Counter(kinds).most_common(1)[0]
        if kind and count >= max(_FEWEST_OF_RUN, _MOST_OF_RUN * len(ats)):
            alike = [at for at, other in zip(ats, kinds, strict=True) if other == kind]
            found |= set(range(alike[0], alike[-1] + 1))
    return frozenset(found)


_FEWEST_OF_RUN: Final = 3
_MOST_OF_RUN: Final = 0.7


def _beginning(line: Line) -> str:
    """Return what lines of one run have in common: their first sign, a number, or a label."""
    if not line.text[0].isalnum():
        return line.text[0]
    return next((mark.kind for mark in line.marks if mark.kind in ("number", "key")), "")


# --- the best division ----------------------------------------------------------------------------


def _divided(text: str, lines: Sequence[Line], blocks: Sequence[range]) -> list[bool]:
    """Return which blocks are the caller's, in the division with the highest sum of weights."""
    looks = _Blocks(text, lines, blocks)
    features = [looks.features(n) for n in range(len(blocks))]
    own = [_weight(found) for found in features]
    found = best_division(own, WEIGHTS["change"])
    looks.join_their_like(found, features)
    goes_along = [
        _goes_along(lines, block, one) for block, one in zip(blocks, features, strict=True)
    ]
    if blocks and _is_open(lines[-1]) and size_of(lines, blocks[-1]) <= _LONGEST_MARK:
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
    return found


def _leaves_answer(lines: Sequence[Line], blocks: Sequence[range]) -> bool:
    """Whether the last label leaves an answer to the labelled line above: ``question: ...``."""
    if len(blocks) < 3 or not _is_open(lines[-1]):
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
    is_short = size_of(lines, block) <= _LONGEST_MARK and len(block) == 1
    return is_short and "announces" in features and "repeats at all" not in features


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


Kind = Literal["mark", "heading", "data", "long", "run", "short"]


def _kind(lines: Sequence[Line], block: range) -> Kind:
    first = lines[block[0]]
    if all(is_mark(lines[at]) for at in block):
        return "mark"
    if len(block) == 1 and heading_of(first):
        return "heading"
    if len(block) == 1 and not first.marks and first.end - first.start > len(first.text) + 40:
        return "data"
    longest = max(len(lines[at].text) for at in block)
    if longest >= LONG_LINE or (len(block) > 2 and size_of(lines, block) > 2 * LONG_LINE):
        return "long"
    return "run" if len(block) > 2 else "short"


_TAGS_BEHIND: Final = re.compile(r"(?:\s*</?[A-Za-z][^<>]*>)+\s*$")
_ASKS: Final = re.compile("[?？؟]")


class _Blocks:
    """The blocks of one prompt, and what each looks like beside the others."""

    def __init__(self, text: str, lines: Sequence[Line], blocks: Sequence[range]) -> None:
        self._lines = lines
        self._blocks = blocks
        self._text = text
        self._sizes = sizes = [size_of(lines, block) for block in blocks]
        self._kinds = kinds = [_kind(lines, block) for block in blocks]
        said = [n for n, kind in enumerate(kinds) if kind not in ("mark", "heading")]
        self._usual = typical([sizes[n] for n in said])
        self._total = sum(sizes) or 1
        chars: Counter[str] = Counter()
        for n in said:
            chars[kinds[n]] += sizes[n]
        self._bulk = max(chars, key=chars.__getitem__, default="")
        self._last = max(
            (n for n in said if sizes[n] > _CUE or not ends_with_colon(lines[blocks[n][-1]])),
            default=-1,
        )
        self._is_short = [size <= SHORT_PARAGRAPH for size in sizes]
        self._asking = [
            short and asks(_TAGS_BEHIND.sub("", lines[block[-1]].text))
            for short, block in zip(self._is_short, blocks, strict=True)
        ]
        self._inside = [self._asks_inside(n) for n in range(len(blocks))]
        self._ask, self._ask_inside = sum(self._asking), sum(self._inside)
        self._addressing = frozenset(self._speaks())
        self._headed = _headed(lines, blocks, sizes)
        self._count_marks()
        self._count_patterns()
        sections = sections_of(lines)
        self._section = {at: size_of(lines, section) for section in sections for at in section}
        self._usual_section = typical([size_of(lines, section) for section in sections])

    def _holds(self, pattern: re.Pattern[str], n: int) -> bool:
        start, end = self._lines[self._blocks[n][0]].start, self._lines[self._blocks[n][-1]].end
        return self._is_short[n] and pattern.search(self._text, start, end) is not None

    def _asks_inside(self, n: int) -> bool:
        return self._kinds[n] in ("short", "long") and self._holds(_ASKS, n)

    def _is_about_answering(self, n: int) -> bool:
        """Whether a paragraph speaks of two of these: answers, questions, and what is quoted."""
        if self._kinds[n] != "long" or not self._is_short[n]:
            return False
        start, end = self._lines[self._blocks[n][0]].start, self._lines[self._blocks[n][-1]].end
        found = {match.lastgroup for match in _OF_ANSWERING.finditer(self._text, start, end)}
        return len(found) > 1

    def _speaks(self) -> Iterator[int]:
        """Yield what speaks to whoever answers, from either end up to a paragraph that does not."""
        for order in (range(len(self._blocks)), reversed(range(len(self._blocks)))):
            for n in order:
                if self._holds(_ADDRESSES, n) or self._is_about_answering(n):
                    yield n
                elif self._kinds[n] == "long":
                    break

    def _count_marks(self) -> None:
        """How often, and with how much text, the marks come back with which blocks begin."""
        self._mark_count: Counter[tuple[str, str]] = Counter()
        self._mark_size: Counter[tuple[str, str]] = Counter()
        self._rules = Counter(self._lines[block[0]].text for block in self._blocks)
        self._marks = [frozenset(_marks(self._lines[block[0]])) for block in self._blocks]
        for marks, size in zip(self._marks, self._sizes, strict=True):
            for name in marks:
                self._mark_count[name] += 1
                self._mark_size[name] += size

    def _count_patterns(self) -> None:
        """How often blocks of one shape come, and before blocks of which other shape."""
        opening = [self._lines[block[0]] for block in self._blocks]
        self._shapes = [
            (kind, asking, kind == "short" and _names(line))
            for kind, asking, line in zip(self._kinds, self._asking, opening, strict=True)
        ]
        self._pairs = [*pairwise([*self._shapes, None])]
        self._titled = [
            _names(line) and (len(block) > 1 or after == ("long", False, False))
            for line, block, (_, after) in zip(opening, self._blocks, self._pairs, strict=True)
        ]
        self._pair_count = Counter(self._pairs)
        self._shape_count = Counter(self._shapes)
        self._titles = sum(self._titled)

    def _comes_in_order(self, n: int) -> bool:
        is_one_of_many = self._kinds[n] == "long" and self._shape_count[self._shapes[n]] > 3
        is_titled = self._titled[n] and self._titles > 3
        return is_one_of_many or is_titled or self._pair_count[self._pairs[n]] > 2

    def _heads_like_others(self, n: int) -> bool:
        """Whether a long block follows, as behind several others that look the same."""
        pair = self._pairs[n]
        is_title = self._kinds[n] != "long"
        return (
            is_title and pair[1] is not None and pair[1][0] == "long" and self._pair_count[pair] > 3
        )

    def _is_between_rules(self, n: int) -> bool:
        """Whether the same rule stands before and behind a block, and elsewhere."""
        if not 0 < n < len(self._blocks) - 1:
            return False
        rules = {self._lines[self._blocks[at][0]].text for at in (n - 1, n + 1)}
        return self._kinds[n - 1] == self._kinds[n + 1] == "mark" and any(
            len(rules) == 1 and self._rules[rule] > 2 for rule in rules
        )

    def _is_plain_passage(self, n: int) -> bool:
        """Whether a block is one of several long ones, none of the last, and asks nothing."""
        is_inside = self._kinds[n] == "long" and 0 < n < self._last
        speaks = self._inside[n] or n in self._addressing
        return is_inside and not speaks and self._comes_in_order(n)

    def join_their_like(self, own: list[bool], features: Sequence[Mapping[str, float]]) -> None:
        """Take for material what begins with a label or tag as several others that are material."""
        like: dict[tuple[str, str], list[int]] = {}
        for n, marks in enumerate(self._marks):
            for name in marks:
                if name[0] in _OF_PASSAGES:
                    like.setdefault(name, []).append(n)
        for same in like.values():
            mine = [n for n in same if own[n] and _ASKING.isdisjoint(features[n])]
            if len(same) > 3 and len(mine) < _FEW * len(same):
                for n in mine:
                    own[n] = False

    def features(self, n: int) -> dict[str, float]:
        """Return what speaks for or against a block's being the caller's."""
        if self._is_plain_passage(n):
            return {"any": 1.0, "long": 1.0, "pattern": 1.0}
        block, kind, size = self._blocks[n], self._kinds[n], self._sizes[n]
        first, last = self._lines[block[0]], self._lines[block[-1]]
        repeated = [
            self._mark_size[name] / self._total
            for name in self._marks[n]
            if self._mark_count[name] > 2
        ]
        is_fence_again = kind == "mark" and is_fence(first) and self._rules[first.text] > 2
        is_ruled = self._is_between_rules(n)
        short, asking = self._is_short[n], self._asking[n]
        is_said = kind not in ("mark", "heading")
        addresses = n in self._addressing
        told = addresses or (short and instructs(first) and not self._heads_like_others(n))
        is_between = 0 < n < self._last
        ends, at_end = n == len(self._blocks) - 1, n >= self._last
        asks_alone = asking and self._ask <= 2
        found: dict[str, float] = {
            "any": True,
            kind: True,
            "other kind": kind in ("short", "run") and kind != self._bulk,
            "share": size / self._total if is_said and not asking else 0.0,
            "most": 2 * size > self._total and not asking,
            "heads most": 2 * self._headed[n] > self._total,
            "asks alone": asks_alone,
            "asks last": asking and n == self._last,
            "asks between": is_between
            and (asks_alone or (self._inside[n] and self._ask_inside <= 2)),
            "question inside": self._inside[n] and self._ask_inside <= 3,
            "asking label": short and self._has_asking_label(first),
            "material label": size > _CUE // 2 and label_of_passages(self._text, first.start),
            "announces": ends_with_colon(last) and size <= LONGEST_CUE,
            "open end": ends and _is_open(last),
            "instructs": told,
            "addresses": addresses,
            "repeats": max(repeated, default=0.0),
            "repeats at all": bool(repeated) or is_fence_again or is_ruled,
            "pattern": not told and (is_ruled or self._comes_in_order(n)),
            "first": n == 0,
            "last": at_end,
            "first short": n == 0 and 2 * size < self._usual,
            "last short": at_end and 2 * size < self._usual,
            "few": len(self._blocks) <= 3,
            "quoted": first.text[0] == ">",
        }
        if len(self._section) > 0 and (own := self._section[block[0]]):
            found["short section"] = min(4.0, max(0.0, math.log2(self._usual_section / own)))
        return {name: float(value) for name, value in found.items() if value}

    def _has_asking_label(self, line: Line) -> bool:
        label = line.text[:_LONGEST_LABEL].split("?")[0]
        return label_asks(self._text, line.start) or is_asked(label, "")


_ADDRESSES: Final = re.compile(
    r"\byou (?:are|answer|help|must|should)\b|\byour (?:task|answers?|job|role|reply|response)\b"
    r"|\b(?:do not|don['’]t) \w+"
    r"|\bthe (?:user|customer)\b|\bdu (?:bist|musst|sollst)\b|\bbeantworte\w*|\bantworte\w*"
    r"|\beres\b|\bresponde\b|\bvous (?:êtes|devez)\b|\bréponde[zs]\b|你是|请|ください",
    re.IGNORECASE,
)
_OF_ANSWERING: Final = re.compile(
    r"\b(?:(?P<answer>answer(?:s|ed)?|repl(?:y|ies)|respond|(?:be)?antwort\w*|répon[ds]\w*"
    r"|respuestas?|responde[rs]?|rispost[ae]|rispond\w+|ответ\w*)"
    r"|(?P<question>questions?|quer(?:y|ies)|fragen?|preguntas?|domand[ae]|вопрос\w*)"
    r"|(?P<quoted>documents?|passages?|excerpts?|contexts?|sources?|snippets?|notes|dokumente?n?"
    r"|ausz[uü]ge?n?|quellen|extraits?|documentos?|fuentes|fragmentos?|contesto|контекст\w*"
    r"|документ\w*))\b"
    r"|(?P<answer_cjk>回答|答え)|(?P<question_cjk>質問|问题)|(?P<quoted_cjk>資料|文档|上下文)",
    re.IGNORECASE,
)
_OF_PASSAGES: Final = frozenset({"key", "phrase", "tag", "shape", "data"})
"""Marks that the caller's own words seldom share with passages, unlike bullets and numbers."""
_ASKING: Final = frozenset({"asking label", "asks alone", "asks last", "question inside"})
_FEW: Final = 0.3
_CUE: Final = 60
"""Characters of a last line that says how to go on, as "Answer:" does, rather than something."""
_LONGEST_LABEL: Final = 60


def _marks(line: Line) -> list[tuple[str, str]]:
    """Return what a line begins with: its marks, and the form of data."""
    found = [(str(mark.kind), mark.name) for mark in line.marks]
    if line.text[0] in _OPENS:
        found.append(("data", _LETTERS.sub("a", _DIGITS.sub("0", line.text[:_BEGINNING]))[:_FORM]))
    return found


_OPENS: Final = "{[(<\"'"
_LETTERS: Final = re.compile(r"[^\W\d]+")
_DIGITS: Final = re.compile(r"\d+")
_BEGINNING, _FORM = 40, 6
"""Characters with which data begins, and those of their form that are compared."""


def _names(line: Line) -> bool:
    """Whether a line may be a title, and is no sentence, however short."""
    return is_title(line) and line.text[-1] not in ".!。！"


def _headed(lines: Sequence[Line], blocks: Sequence[range], sizes: Sequence[int]) -> list[int]:
    """Return the characters under each block that is a heading or a title, up to its like."""
    found = [0] * len(blocks)
    opened: list[tuple[int, int]] = []
    for n, block in enumerate(blocks):
        line = lines[block[0]]
        level = len(heading_of(line)) if len(block) == 1 else 0
        if level:
            while opened and opened[-1][0] >= level:
                opened.pop()
        for _, at in opened:
            found[at] += sizes[n]
        if level:
            opened.append((level, n))
        elif len(block) == 1 and is_title(line) and n + 1 < len(blocks):
            found[n] = sizes[n + 1]
    return found


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
