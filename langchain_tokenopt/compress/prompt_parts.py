"""In one long message, tell instructions and the question from what it quotes.

It quotes passages, which come back; few-shot examples; or one page. What stands outside instructs
or asks.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from itertools import pairwise

from langchain_tokenopt.compress.addressing import addresses
from langchain_tokenopt.compress.blocks import bind_marks
from langchain_tokenopt.compress.examples import Example, find_examples, holds_pairs
from langchain_tokenopt.compress.frame import Frame, frame_of, without_edge_sentences
from langchain_tokenopt.compress.passage_units import (
    PromptParts,
    attach_headings,
    page_parts,
    passage_parts,
    require_matches,
    require_outside,
)
from langchain_tokenopt.compress.prompt_lines import LONG_LINE, lines_of
from langchain_tokenopt.compress.prompt_structure import Structure, structure_of
from langchain_tokenopt.compress.question import asked_in, asks, is_about
from langchain_tokenopt.compress.quoted_records import Record
from langchain_tokenopt.compress.segments import Segment, label_asks, segments_of
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts
from langchain_tokenopt.compress.units import Unit, open_fences, units_of, without_head

__all__ = [
    "PromptParts",
    "is_material",
    "quoted_material",
    "read_material",
    "read_message",
    "read_passage",
    "read_result",
]

SHORT_MESSAGE = 400
"""Characters. A message without announced passages is kept whole up to this length."""


def read_passage(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> PromptParts:
    """Read a text that is nothing but a passage: only the caller's *patterns* are required."""
    segments = segments_of(text)
    units = units_of(text, segments)
    if len(segments) > 1:
        attach_headings(units)
    bind_marks(text, units)
    require_matches(text, units, patterns)
    return PromptParts(units)


def read_material(
    text: str, patterns: Sequence[re.Pattern[str]] = (), *, cut_data: bool = True
) -> PromptParts:
    """Read a text about which something is asked elsewhere: being short does not save it.

    It may be a prompt all the same; where neither its first line nor its last asks, it is none.
    """
    lines = text.strip().splitlines() or [""]
    is_open = lines[-1].rstrip()[-1:] in _OPEN_ENDS and find_examples(text)
    if is_open or any(asks(line) or label_asks(line, 0) for line in (lines[0], lines[-1])):
        return read_message(text, patterns, keep_short=False, cut_data=cut_data)
    return read_result(text, patterns, cut_data=cut_data)


_OPEN_ENDS = frozenset(":：>→⇒➜=|")
"""Signs behind which the last of several examples is to be filled in."""


def read_result(
    text: str, patterns: Sequence[re.Pattern[str]] = (), *, cut_data: bool = True
) -> PromptParts:
    """Read what a tool found: nothing in it instructs or asks."""
    segments = open_fences(text, segments_of(text))
    material = [(0, len(text))]
    structure = structure_of(text, segments, lines_of(text, segments), material)
    if not _are_passages(structure, len(text)):
        return read_passage(text, patterns)
    return passage_parts(
        text, segments, structure, patterns, material, cut_data=cut_data, may_ask=False
    )


def _are_passages(structure: Structure, size: int) -> bool:
    """Say whether a text is passages under titles, not a page in which something comes back."""
    records = structure.records
    if len(records) < _FEWEST_PASSAGES or records[-1].end - records[0].start < _MOSTLY * size:
        return False
    is_titled = max(record.body - record.start for record in records) <= _LONGEST_HEAD
    return (is_titled or structure.quoted) and statistics.median(
        record.length for record in records
    ) >= _SHORTEST_MATERIAL


_MOSTLY = 0.9
_LONGEST_HEAD = 100
"""Characters. What stands above a passage and is longer is text of a page, not a title."""


def read_message(
    text: str,
    patterns: Sequence[re.Pattern[str]] = (),
    *,
    keep_short: bool = True,
    cut_data: bool = True,
) -> PromptParts:
    r"""Read a message that may instruct, ask and quote.

    Args:
        text: The message.
        patterns: Units in which one of them matches are kept.
        keep_short: Whether a short message that announces no passages is kept whole.
        cut_data: Whether long texts in JSON and other data may lose sentences.

    Example:
        >>> text = "Use only this.\n\nContext: Tea is hot. Ice is cold.\n\nQuestion: Is ice hot?"
        >>> reading = read_message(text)
        >>> reading.question
        'Is ice hot?'
        >>> [text[u.start : u.end].strip() for u in reading.units if not u.required]
        ['Context:', 'Tea is hot.', 'Ice is cold.']
    """
    segments = segments_of(text)
    examples = _outside_code(find_examples(text), segments)
    opened = open_fences(text, segments)
    lines = lines_of(text, opened)
    frame = frame_of(text, lines)
    structure = Structure()
    if not holds_pairs(text):
        structure = structure_of(text, opened, lines, frame.material)
    shown = sum(example.end - example.start for example in examples)
    if _outweigh(text, structure, examples, shown):
        return passage_parts(text, opened, structure, patterns, frame.material, cut_data=cut_data)
    if examples:
        return _example_parts(text, examples, patterns)
    frame = without_edge_sentences(text, frame)
    is_short = keep_short and len(text) <= SHORT_MESSAGE
    if is_short and not (frame.is_announced or _holds_page(text, frame)):
        units = units_of(text, segments)
        if not _is_material(units):
            for unit in units:
                unit.required = True
            return PromptParts(units, text.strip() or None)
    around = (text[: frame.start], text[frame.end :])
    if not (keep_short or frame.is_announced or any(map(asks, around))):
        frame = Frame([(0, len(text))])  # something else asks
    return page_parts(text, segments, frame, patterns)


def _outweigh(text: str, structure: Structure, examples: Sequence[Example], shown: int) -> bool:
    """Whether passages are what is quoted, rather than few-shot examples of so many characters.

    An agent's steps and the answers of a FAQ look like examples, but what they are taken for is
    asked before the first, or has another label than they have.
    """
    if not structure.records:
        return False
    size = sum(record.length for record in structure.records)
    if not examples or size > 2 * shown:
        return True
    first = min(structure.records[0].start, examples[0].start)
    is_asked = any(map(asks, text[:first].splitlines()))
    label = text[examples[0].start : examples[0].end].strip().split("\n", 1)[0]
    label = label[: label.find(":") + 1]
    goes_on = not label or text[-1:] in _OPEN_ENDS or label in text[examples[-1].end :]
    return 2 * size > shown and structure.is_prose and (is_asked or not goes_on)


def _holds_page(text: str, frame: Frame) -> bool:
    """Whether most of a message is one text of several sentences, apart from what is asked."""
    size = frame.end - frame.start
    if frame.is_empty or len(frame.material) > 1 or 2 * size < len(text):
        return False
    return len(sentence_cuts(text, frame.start, frame.end)) >= _FEWEST_OF_PAGE


_FEWEST_OF_PAGE = 5
"""Sentences; of fewer, a short message is something that its author says."""
_MANY_ROWS = 10


def _is_material(units: Sequence[Unit]) -> bool:
    """Data, records, and so many names or rows are material, however short they are."""
    kinds = [unit.kind for unit in units]
    return (
        "json" in kinds or "log" in kinds or kinds.count("table") + kinds.count("list") > _MANY_ROWS
    )


def _example_parts(
    text: str, examples: Sequence[Example], patterns: Sequence[re.Pattern[str]]
) -> PromptParts:
    """Each few-shot example is one unit; what stands around them instructs or asks."""
    units = units_of(text, _around_examples(text, examples))
    bind_marks(text, units)
    outside = [at for at, unit in enumerate(units) if unit.kind != "example"]
    for at, unit in enumerate(units):
        unit.passage = at + 1
    for at in outside:
        without_head(units, at)
    _bind_rest(units, examples[-1])
    outside = [at for at in outside if units[at].head < 0 or units[at].start > examples[-1].rest]
    stretches = [text[: examples[0].start], text[examples[-1].end :]]
    question = asked_in(stretches, leads=True)
    require_outside(text, units, outside, patterns)
    require_matches(text, units, patterns)
    return PromptParts(units, question)


def _bind_rest(units: list[Unit], last: Example) -> None:
    """What may be more of the last output stays with its example, unless it is short."""
    if last.rest - last.end < _SHORTEST_REST:
        return
    at = next((at for at, unit in enumerate(units) if unit.end == last.end), -1)
    for unit in units[at + 1 :]:
        if unit.end <= last.rest and unit.head < 0:
            unit.head = at
            if last.rest - last.end <= _LONGEST_REST and unit.bound < 0:
                unit.bound = at  # without it an output would be torn


_LONGEST_REST = 400
_SHORTEST_REST = 40
"""Characters; less is an instruction rather than a paragraph."""
_MATERIAL = re.compile(
    r"context|document|passage|source|search result|excerpt|extract|article|material|snippet"
    r"|reference|information|knowledge|record|facts?\b|pieces|results?\b|notes\b|text\b|\bkb\b"
    r"|\bfaqs?\b|wiki|corpus|database|catalog|archive|transcript|\bdata\b|library|manual|history"
    r"|fragment|kontext|dokument|quelle|textstelle|fundstelle|auszug|auszüge|ausschnitt|abschnitt"
    r"|artikel|contexto|fuente|texto|pasaje|contexte|extrait|extracto|trecho|fonte|contesto|estratt"
    r"|brano|brani|bronnen|контекст|документ|источник|отрыв|фрагмент|материал|資料|文書|コンテキスト"
    r"|抜粋|記事|上下文|文档|资料|背景|片段|摘录|材料|문서|자료|문맥|السياق|المستندات|النصوص",
    re.IGNORECASE,
)


def quoted_material(text: str, asked: str = "") -> PromptParts:
    """Read a system message that quotes what the question to come is about.

    Args:
        text: The message.
        asked: The message of the user that asks.

    Returns:
        No units unless the passages, or the one page that is most of it, instruct nobody and are
        announced: all of it then stays.
    """
    segments = open_fences(text, segments_of(text))
    lines = lines_of(text, segments)
    frame = frame_of(text, lines)
    structure = structure_of(text, segments, lines, frame.material)
    parts, records = PromptParts([]), structure.records
    if len(records) >= _FEWEST_PASSAGES:
        around = _around(text, records[0].start, records[-1].end)
        bodies = [text[r.body : r.tail] for r in records]
        if around and (is_material(around, bodies) or _is_asked_about(text, records, asked)):
            parts = passage_parts(text, segments, structure, (), frame.material)
    if not parts.units and _quotes_page(text, frame, asked):
        parts = page_parts(text, segments, frame, ())
    for unit in parts.units:
        unit.required |= unit.passage < 0 and not unit.frame
    return parts


def _is_asked_about(text: str, records: Sequence[Record], asked: str) -> bool:
    """Whether passages that something announces are most of a message, and are asked about."""
    body = text[records[0].start : records[-1].end]
    above = text[: records[0].body].rstrip().rpartition("\n")[2]
    is_announced = above[:1] in "#<" or above[-1:] in ":："
    return (
        bool(above and is_announced)
        and 2 * len(body) > len(text)
        and statistics.median(record.length for record in records) >= LONG_LINE
        and is_about(asked, body)
        and _instructs_nobody(text, records[0].start, records[-1].end)
    )


def _instructs_nobody(text: str, start: int, end: int) -> bool:
    edges = [start, *sentence_cuts(text, start, end)]
    told = [addresses(text[a:b]) for a, b in pairwise(edges)]
    return sum(told) <= _FEW_ADDRESSED * len(told)


def _around(text: str, start: int, end: int) -> str:
    """Return what may announce material between two offsets; nothing where that is none."""
    before = text[max(0, start - _ANNOUNCED_WITHIN) : start]
    after = text[end : end + _ANNOUNCED_WITHIN]
    return "" if _NO_MATERIAL.search(before[-100:]) else f"{before}\n{after}"


def _quotes_page(text: str, frame: Frame, asked: str) -> bool:
    """Whether a page is most of a system message, and it or a question speaks of that."""
    start, end = frame.start, frame.end
    body = text[start:end]
    around = _around(text, start, end)
    if not (frame.is_announced and around and 2 * len(body) > len(text) > LONG_LINE):
        return False
    if len(body.split("\n", 1)[0]) < LONG_LINE:
        return False  # a list may be one of rules
    if not (_MATERIAL.search(around) or is_about(asked, body)):
        return False
    return _instructs_nobody(text, start, end)


_FEW_ADDRESSED = 0.1
"""Share of the sentences of a page that may speak to whoever answers, as a quoted rule does."""


def is_material(around: str, bodies: Sequence[str]) -> bool:
    """Say whether passages of a system message are announced *around*, and instruct nobody."""
    if not _MATERIAL.search(around) or statistics.median(map(len, bodies)) < _SHORTEST_MATERIAL:
        return False
    return sum(map(addresses, bodies)) <= 0.3 * len(bodies)


_NO_MATERIAL = re.compile(r"tools?\b|function|example|schema|beispiel|ejemplo", re.IGNORECASE)
_ANNOUNCED_WITHIN = 400
"""Characters before the first passage in which the instructions speak of it."""
_FEWEST_PASSAGES = 2
_SHORTEST_MATERIAL = 100


def _outside_code(examples: list[Example], segments: list[Segment]) -> list[Example]:
    """Leave out all where they stand in a docstring or fence; theirs may hold whole fences."""
    if not examples:
        return examples
    first = examples[0].start
    inside = any(s.kind in ("code", "json", "diff") and s.start < first < s.end for s in segments)
    return [] if inside else examples


def _around_examples(text: str, examples: Sequence[Example]) -> list[Segment]:
    """Cut the text into segments, each few-shot example being one."""
    segments: list[Segment] = []
    position = 0
    for start, end in [*((e.start, e.end) for e in examples), (len(text), len(text))]:
        segments += [
            Segment(s.kind, s.start + position, s.end + position)
            for s in segments_of(text[position:start])
        ]
        if end > start:
            segments.append(Segment("example", start, end))
        position = end
    return segments
