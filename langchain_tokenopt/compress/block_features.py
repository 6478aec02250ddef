"""What each block of a prompt looks like beside the others, and what that speaks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.addressing import OF_ANSWERING, TEXT_ABOVE, TEXT_BELOW, addresses
from langchain_tokenopt.compress.prompt_blocks import kind_of
from langchain_tokenopt.compress.prompt_lines import (
    Line,
    ends_with_colon,
    heading_of,
    instructs,
    is_fence,
    is_title,
    key_mark,
    size_of,
    typical,
)
from langchain_tokenopt.compress.question import SHORT_PARAGRAPH, asks, is_asked
from langchain_tokenopt.compress.said_by_others import (
    LONGEST_VERSE,
    goes_on_in_lines,
    letters_in,
)
from langchain_tokenopt.compress.segments import label_asks, label_of_passages
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts

__all__ = ["WEIGHTS", "BlockFeatures"]

WEIGHTS: Final[dict[str, float]] = {
    "long": -4.0,
    "share": -4.0,
    "pattern": -4.0,
    "material label": -4.0,
    "repeats at all": -3.6,
    "announced": -7.0,
    "beside a letter": 3.0,
    "asking label": 3.4,
    "first short": 3.4,
    "other kind": 2.6,
    "instructs": 2.6,
    "most": -2.4,
    "statement": -1.5,
    "asks between": 2.4,
    "first": 2.2,
    "addresses": 3.4,
    "change": -2.2,
    "heads most": 2.2,
    "last short": 2.0,
    "heading": 1.8,
    "last": 1.2,
    "asks last": 1.2,
    "any": 0.4,
}
"""What each feature of a block adds to its being the caller's; of a boundary, to a change there.

``announced`` and ``beside a letter`` were not fitted, but set so that either decides by itself.
"""


_TAGS_BEHIND: Final = re.compile(r"(?:\s*</?[A-Za-z][^<>]*>)+\s*$")
_ASKS: Final = re.compile("[?？؟]")


def _without_tags(line: str) -> str:
    """Return a line without the tags behind its words."""
    return _TAGS_BEHIND.sub("", line) if line.rstrip().endswith(">") else line


class BlockFeatures:
    """The blocks of one prompt, and what each looks like beside the others."""

    def __init__(self, text: str, lines: Sequence[Line], blocks: Sequence[range]) -> None:
        self._lines = lines
        self._blocks = blocks
        self._text = text
        self._sizes = sizes = [size_of(lines, block) for block in blocks]
        self._kinds = kinds = [kind_of(lines, block) for block in blocks]
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
        verses = self._verses()
        self._asking = [
            short and not verse and asks(_without_tags(lines[block[-1]].text))
            for short, verse, block in zip(self._is_short, verses, blocks, strict=True)
        ]
        self._again: Counter[str] = Counter()
        letters = letters_in(lines, blocks)
        self._is_letter = 2 * sum(sizes[n] for n in letters) > self._total
        self._is_material = [
            verse or n in letters or self._comes_again(n) for n, verse in enumerate(verses)
        ]
        """Blocks that nobody says to whoever answers, whatever their words are."""
        self._inside = [self._asks_inside(n) for n in range(len(blocks))]
        self._ask, self._ask_inside = sum(self._asking), sum(self._inside)
        self._addressing = frozenset(self._speaks())
        self._headed = _headed(lines, blocks, sizes)
        self._count_marks()
        self._count_patterns()
        self._plain = [self._is_plain_passage(n) for n in range(len(blocks))]
        passages = [n for n, is_plain in enumerate(self._plain) if is_plain] or [0]
        self._amid = range(passages[0], passages[-1])
        """Blocks with plain passages on both sides, where kinds may differ."""

    def _said(self, n: int) -> str:
        start, end = self._lines[self._blocks[n][0]].start, self._lines[self._blocks[n][-1]].end
        return self._text[start:end]

    def _verses(self) -> list[bool]:
        """Whether each block is a verse: beside another one, or with passages on both sides."""
        count = len(self._blocks)
        lines = [False, *(self._is_in_lines(n) for n in range(count)), False]
        passages = [
            0 < n < self._last and self._kinds[n] != "mark" and 2 * self._sizes[n] >= self._usual
            for n in range(count)
        ]
        amid = [False, *(a and b for a, b in zip(passages, passages[2:], strict=False)), False]
        return [
            (lines[n + 1] and (lines[n] or lines[n + 2] or amid[n])) or self._is_stanza(n)
            for n in range(count)
        ]

    def _is_stanza(self, n: int) -> bool:
        """Whether a block is a stanza, which may stand alone beside what the caller says of it."""
        lines = [self._lines[at] for at in self._blocks[n]]
        return (
            len(self._blocks) > 1
            and goes_on_in_lines(lines)
            and not any(map(_is_marked, lines))
            and not OF_ANSWERING.search(self._said(n).lower())
        )

    def _is_in_lines(self, n: int) -> bool:
        """Whether a block is lines without marks that are no sentences, and nothing announces it.

        Verses speak to somebody and ask, but not to whoever answers.
        """
        block = self._blocks[n]
        if not 0 < n < self._last or len(block) < _FEWEST_VERSES:
            return False
        lines = [self._lines[at] for at in block]
        above = self._lines[block[0] - 1]
        is_form = ends_with_colon(above) and not label_of_passages(self._text, above.start)
        if is_form or any(len(line.text) > LONGEST_VERSE or _is_marked(line) for line in lines):
            return False
        sentences = sum(line.text[-1] in ".。" for line in lines)
        return 2 * sentences <= len(lines) and not OF_ANSWERING.search(self._said(n).lower())

    def _comes_again(self, n: int) -> bool:
        """Whether most of a short block stands in the text often, or all that tells."""
        if not self._is_short[n] or self._asking[n] or self._kinds[n] in ("mark", "heading"):
            return False
        first, last = self._lines[self._blocks[n][0]], self._lines[self._blocks[n][-1]]
        edges = [first.start, *sentence_cuts(self._text, first.start, last.end)]
        sentences = [self._text[start:end] for start, end in pairwise(edges)]
        again = [self._count(sentence.strip()) >= _OFTEN for sentence in sentences]
        if not any(again):
            return False
        rest = "".join(s for s, repeated in zip(sentences, again, strict=True) if not repeated)
        if 2 * len(rest) < self._sizes[n]:
            return True
        instructing = instructs(first)
        tells = instructing or addresses(self._said(n))
        return tells and not (addresses(rest) or (instructing and not again[0]))

    def _count(self, sentence: str) -> int:
        """How often a sentence stands in the text; of very short ones and of many nothing."""
        is_new = sentence not in self._again
        if is_new and len(sentence) >= _SHORTEST_AGAIN and len(self._again) < _MOST_COUNTED:
            self._again[sentence] = self._text.count(sentence)
        return self._again[sentence]

    def _asks_inside(self, n: int) -> bool:
        is_said = (
            not self._is_material[n] and self._is_short[n] and self._kinds[n] in ("short", "long")
        )
        return is_said and _ASKS.search(self._said(n)) is not None

    def _is_about_answering(self, n: int) -> bool:
        """Whether a paragraph speaks of two of these: answers, questions, and what is quoted."""
        first = self._lines[self._blocks[n][0]]
        if self._kinds[n] != "long" or not self._is_short[n] or key_mark(first) is not None:
            return False
        said = self._said(n).lower()
        return len({match.lastgroup for match in OF_ANSWERING.finditer(said)}) > 1

    def _speaks(self) -> Iterator[int]:
        """Yield what speaks to whoever answers, from either end up to a paragraph that does not."""
        for order in (range(len(self._blocks)), reversed(range(len(self._blocks)))):
            for n in order:
                if self._is_material[n]:
                    continue
                speaks = self._is_short[n] and addresses(self._said(n))
                if speaks or self._is_about_answering(n):
                    yield n
                elif self._kinds[n] == "long":
                    break

    def _count_marks(self) -> None:
        """How often the marks come back with which blocks begin."""
        self._mark_count: Counter[tuple[str, str]] = Counter()
        self._rules = Counter(self._lines[block[0]].text for block in self._blocks)
        self._marks = [frozenset(_marks(self._lines[block[0]])) for block in self._blocks]
        for marks in self._marks:
            self._mark_count.update(marks)

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

    def _may_be_passage(self, n: int) -> bool:
        """Whether a short block stands amid passages, or is a statement as long as short ones."""
        text = self._lines[self._blocks[n][-1]].text
        is_statement = (
            n > 0
            and not self._marks[n]
            and self._sizes[n] > _SHORTEST_STATEMENT
            and text[-1] in ".。"
        )
        return n in self._amid or is_statement

    def _comes_in_order(self, n: int) -> bool:
        is_one_of_many = self._kinds[n] == "long" and self._shape_count[self._shapes[n]] > 3
        is_titled = self._titled[n] and self._titles > 3
        return is_one_of_many or is_titled or self._pair_count[self._pairs[n]] > 2

    def _ends_passages(self, n: int) -> bool:
        """Whether a statement follows others of its shape, and is about as long as they are."""
        is_like = n > 0 and self._pair_count[self._pairs[n - 1]] > 2
        return (is_like or self._bulk == "long") and (
            self._kinds[n] in ("short", "long")
            and 2 * self._sizes[n] >= self._usual
            and self._may_be_passage(n)
        )

    def _is_at_edge(self, n: int) -> bool:
        return n < _AT_EDGE or self._last - _AT_EDGE < n <= self._last

    def _is_brief(self, n: int) -> bool:
        """Whether a block is a sentence, much shorter than others are."""
        first = self._lines[self._blocks[n][0]]
        is_sentence = self._kinds[n] == "short" and not (_names(first) or _is_marked(first))
        return is_sentence and 2 * self._sizes[n] < self._usual

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
                has_word = name[0] == "number" and any(map(str.isalpha, name[1]))
                if has_word or name[0] in _OF_PASSAGES:
                    like.setdefault(name, []).append(n)
        for same in like.values():
            mine = [n for n in same if own[n] and not self._is_question(n, features[n])]
            if len(same) > 3 and len(mine) < _FEW * len(same):
                for n in mine:
                    own[n] = False

    def _is_question(self, n: int, features: Mapping[str, float]) -> bool:
        is_asked = self._asking[n] and self._ask <= _FEW_ASK
        is_long = self._kinds[n] == "long"
        is_inside = self._inside[n] and not is_long and self._ask_inside <= _FEW_ASK + 1
        return is_asked or is_inside or not _ASKING.isdisjoint(features)

    def features(self, n: int) -> dict[str, float]:
        """Return what speaks for or against a block's being the caller's."""
        if self._plain[n]:
            return {"any": 1.0, "long": 1.0, "pattern": 1.0}
        block, kind, size = self._blocks[n], self._kinds[n], self._sizes[n]
        first = self._lines[block[0]]
        is_marked_again = any(self._mark_count[name] > 2 for name in self._marks[n])
        is_fence_again = kind == "mark" and is_fence(first) and self._rules[first.text] > 2
        is_ruled = self._is_between_rules(n)
        short, asking = self._is_short[n], self._asking[n]
        is_said = kind not in ("mark", "heading")
        addresses = n in self._addressing
        is_material = self._is_material[n]
        told = addresses or (
            short and not is_material and instructs(first) and not self._heads_like_others(n)
        )
        is_between = 0 < n < self._last
        at_end = n >= self._last
        asks_alone = asking and self._ask <= _FEW_ASK
        is_other = kind in ("short", "run") and kind != self._bulk and not is_material
        speaks = told or asking or self._inside[n]
        is_statement = kind == "short" and not speaks and self._may_be_passage(n)
        asks_inside = self._inside[n] and self._ask_inside <= _FEW_ASK
        is_apart = told or (self._is_at_edge(n) and (asks_inside or self._is_brief(n)))
        found: dict[str, float] = {
            "any": True,
            kind: True,
            "other kind": is_other and not is_statement,
            "statement": is_other and is_statement and n not in self._amid,
            "share": size / self._total if is_said and not asking else 0.0,
            "most": 2 * size > self._total and not asking,
            "beside a letter": self._is_letter and not is_material,
            "announced": 2 * size > self._total and self._is_announced(n),
            "heads most": 2 * self._headed[n] > self._total,
            "asks last": (asking or asks_inside) and n == self._last,
            "asks between": (is_between and (asks_alone or asks_inside))
            or (n == 0 and asks_inside and not asking),
            "asking label": short and self._has_asking_label(first),
            "material label": size > _CUE // 2 and label_of_passages(self._text, first.start),
            "instructs": told,
            "addresses": addresses,
            "repeats at all": is_marked_again or is_fence_again or is_ruled or is_material,
            "pattern": is_material
            or (not is_apart and (is_ruled or self._comes_in_order(n)))
            or (not speaks and self._ends_passages(n)),
            "first": n == 0,
            "last": at_end,
            "first short": n == 0 and 2 * size < self._usual,
            "last short": at_end and 2 * size < self._usual,
        }
        return {name: float(value) for name, value in found.items() if value}

    def _is_announced(self, n: int) -> bool:
        """Whether a short block above or below speaks of the text it stands at."""
        above = n > 0 and self._is_short[n - 1] and TEXT_BELOW.search(self._said(n - 1).lower())
        below = n + 1 < len(self._blocks) and self._is_short[n + 1]
        return bool(above or (below and TEXT_ABOVE.search(self._said(n + 1).lower())))

    def _has_asking_label(self, line: Line) -> bool:
        label = line.text[:_LONGEST_LABEL].split("?")[0]
        return label_asks(self._text, line.start) or is_asked(label, "")


_OF_PASSAGES: Final = frozenset({"key", "phrase", "tag", "shape", "data"})
"""Marks that the caller's own words seldom share with passages, unlike bullets and numbers."""
_ASKING: Final = frozenset({"asking label", "asks last"})
_FEW_ASK: Final = 2
"""Blocks that ask in one prompt; where more do, they are quoted."""
_FEW: Final = 0.3
_AT_EDGE: Final = 2
"""Blocks at either end of a prompt among which what the caller says may stand alone."""
_FEWEST_VERSES: Final = 3
_SHORTEST_AGAIN: Final = 20
"""Characters of a sentence that is counted."""
_MOST_COUNTED: Final = 200
"""Sentences of one prompt that are counted."""
_OFTEN: Final = 4
"""A single instruction may be said before the passages, and again behind them and at the end."""
_SHORTEST_STATEMENT: Final = 85
"""Characters; what the caller says in more, and without telling or asking anything, is rare."""
_CUE: Final = 60
"""Characters of a last line that says how to go on, as "Answer:" does, rather than something."""
_LONGEST_LABEL: Final = 60


def _marks(line: Line) -> list[tuple[str, str]]:
    """Return what a line begins with: its marks, and the form of data."""
    found = [(str(mark.kind), mark.name) for mark in line.marks]
    if line.text[0] in _OPENS:
        found.append(("data", _LETTERS.sub("a", _DIGITS.sub("0", line.text[:_BEGINNING]))[:_FORM]))
    return found


def _is_marked(line: Line) -> bool:
    """Whether a line begins with a sign, a number or a label, or is nothing but signs."""
    return any(mark.kind != "shape" for mark in line.marks) or line.text[-1] in _OPEN_ENDS


_OPEN_ENDS: Final = ":：={}[]()<>;|`"
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
