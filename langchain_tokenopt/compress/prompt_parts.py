"""In one long message, tell instructions and the question from the passages it quotes.

Passages are announced: by a heading (``Document [3]``, ``## Background``), a label (``Context:``)
or a tag (``<documents>``). What stands outside is instruction or question. A text that announces
nothing is read by its paragraphs: a first one that instructs, a last one that asks, passages
between.
"""

from __future__ import annotations

import re
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from langchain_tokenopt.compress.examples import Example, find_examples
from langchain_tokenopt.compress.prompt_lines import OPEN_KINDS, is_prose_block
from langchain_tokenopt.compress.prompt_structure import Structure, structure_of
from langchain_tokenopt.compress.protect import is_required, matches_any
from langchain_tokenopt.compress.question import (
    SHORT_PARAGRAPH,
    asked_in,
    asks,
    is_cue,
    paragraph_begins,
    question_of,
    with_last_question,
)
from langchain_tokenopt.compress.quoted_records import Record
from langchain_tokenopt.compress.segments import Kind, Segment, label_asks, segments_of
from langchain_tokenopt.compress.sentence_cuts import sentence_cuts
from langchain_tokenopt.compress.units import Unit, bind_fences, open_fences, units_of, without_head
from langchain_tokenopt.compress.whole_records import (
    add_json_passages,
    json_around,
    whole_records,
)

__all__ = [
    "PromptParts",
    "quoted_material",
    "read_material",
    "read_message",
    "read_passage",
    "read_result",
]

SHORT_MESSAGE = 400
"""Characters. A message without announced passages is kept whole up to this length."""
_SHORT_OUTSIDE = 2_000
"""Characters outside of passages that are kept whole; of more, only what is obligatory."""

_PASSAGE_TAG = re.compile(
    r"<(?P<name>(?:search_?)?(?:context|documents?|docs?|passages?|sources?|results?|articles?|texts?"
    r"|transcript|data|e?mails?|files?|content|excerpts?|chunks?|background|knowledge|history|page))\b",
    re.IGNORECASE,
)
_ASK_HEADING = re.compile(
    r"#{1,6} +(?:\d+[.)] *)?(?:your |the )?(?:question|query|task|instructions?|rules?|output"
    r"|format|answer"
    r"|response|request|role|goal|objective|requirements?|constraints?|guidelines?|steps?|important"
    r"|frage|aufgabe|anweisung|regeln|pregunta|tarea|instrucci|reglas|问题|任务|指令|规则|要求)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"[?？][\"'”’)\]]*\s*$"
    r"|^\W*(?:please\b|summari[sz]e|explain|describe|list|write|answer|give|tell|translate|extract|find"
    r"|identify|compare|classify|rewrite|analy[sz]e|generate|create|provide|return|respond|reply"
    r"|determine|decide|choose|name|using|based on|according to|from the|with (?:the|this)"
    r"|given|read|consider|who|what|when|where|why|how|which|is|are|does|do|did|can|should"
    r"|bitte|fasse|erkl[äa]r|beschreib|nenne|schreib|beantworte|wer|was|wann|wo|warum|wie|welche"
    r"|por favor|resume|explica|describe|escribe|responde|qui[ée]n|qu[ée]|cu[áa]ndo|d[óo]nde"
    r"|c[óo]mo"
    r"|请|根据|总结|回答|解释|翻译)",
    re.IGNORECASE,
)
_INSTRUCTS = re.compile(
    r"\byou (?:are|will|must|should)\b|\byour (?:task|job|role|answer)\b|:\s*$|\bdu bist\b"
    r"|\beres\b|你是",
    re.IGNORECASE,
)


@dataclass(slots=True)
class PromptParts:
    """A text cut into units, with what is required and what is asked."""

    units: list[Unit]
    question: str | None = None


def read_passage(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> PromptParts:
    """Read a text that is nothing but a passage: only the caller's *patterns* are required."""
    segments = segments_of(text)
    units = units_of(text, segments)
    if len(segments) > 1:
        _attach_headings(units)
    _require_matches(text, units, patterns)
    return PromptParts(units)


def read_material(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> PromptParts:
    """Read a text about which something is asked elsewhere: being short does not save it."""
    return read_message(text, patterns, keep_short=False)


def read_result(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> PromptParts:
    """Read what a tool found: nothing in it instructs or asks."""
    segments = open_fences(text, segments_of(text))
    structure = structure_of(text, segments)
    if not structure.records:
        return read_passage(text, patterns)
    parts = _read_records(text, segments, structure, patterns)
    for unit in parts.units:
        unit.required = matches_any(unit.within(text), patterns)
    return parts


def read_message(
    text: str, patterns: Sequence[re.Pattern[str]] = (), *, keep_short: bool = True
) -> PromptParts:
    r"""Read a message that may instruct, ask and quote.

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
    structure = Structure() if examples else structure_of(text, opened)
    if structure.records:
        return _read_records(text, opened, structure, patterns)
    units = units_of(text, _around_examples(text, examples) if examples else segments)
    outside = _announced(text, units)
    announced = len(outside) < len(units)
    if not announced:
        if (
            keep_short
            and len(text) <= SHORT_MESSAGE
            and not any(u.kind in ("json", "log") for u in units)
        ):
            for unit in units:
                unit.required = True
            return PromptParts(units, text.strip() or None)
        outside = _by_paragraphs(text, units, may_ask=keep_short)
    if examples:
        outside = _with_input(units, outside, examples[-1].end)
    question = question_of(text, units, outside)
    if not announced and outside and not examples:
        question = _asked_around(text, units, outside) or question
    _require_outside(text, units, outside, patterns)
    _require_matches(text, units, patterns)
    return PromptParts(units, question)


def _with_input(units: list[Unit], outside: Sequence[int], end: int) -> list[int]:
    """Behind the last example stands what the user asks, unless that is long."""
    behind = [at for at, unit in enumerate(units) if unit.start >= end]
    if not behind or units[-1].end - end > _SHORT_OUTSIDE:
        return list(outside)
    for at in behind:
        without_head(units, at)
    return sorted({*outside, *behind})


_MATERIAL = re.compile(
    r"context|document|passage|source|search result|excerpt|extract|article|material|snippet"
    r"|reference|information|knowledge|record|facts?\b|pieces|results?\b|notes\b|text\b|\bkb\b"
    r"|\bfaqs?\b|wiki|corpus|database|catalog|archive|transcript|\bdata\b|library|manual|history"
    r"|kontext|dokument|quelle|textstelle|fundstelle|contexto|fuente|texto|pasaje|contexte|passages"
    r"|контекст|документ|источник|資料|文書|コンテキスト|上下文|文档|资料|背景",
    re.IGNORECASE,
)


def quoted_material(text: str) -> list[Unit] | None:
    """Return the units of a system message that quotes passages for the question to come.

    Returns:
        ``None`` unless the instructions say that they do and the passages instruct nobody: all of
        it then stays.
    """
    segments = open_fences(text, segments_of(text))
    structure = structure_of(text, segments)
    records = structure.records
    if len(records) < _FEWEST_PASSAGES:
        return None
    before = text[max(0, records[0].start - _ANNOUNCED_WITHIN) : records[0].start]
    bodies = [text[r.body : r.tail] for r in records]
    if not _MATERIAL.search(before) or _NO_MATERIAL.search(before[-100:]):
        return None
    if statistics.median(map(len, bodies)) < _SHORTEST_MATERIAL:
        return None
    if sum(1 for body in bodies if _ADDRESSES.search(body)) > 0.3 * len(bodies):
        return None
    return _read_records(text, segments, structure, ()).units


_NO_MATERIAL = re.compile(r"tools?\b|function|example|schema|beispiel|ejemplo", re.IGNORECASE)
_ANNOUNCED_WITHIN = 400
"""Characters before the first passage in which the instructions speak of it."""
_FEWEST_PASSAGES = 2
_SHORTEST_MATERIAL = 150
_ADDRESSES = re.compile(
    r"\b(?:you (?:are|must|should|will|can|may)|your (?:task|answer|job|role)|the user|do not"
    r"|don['’]t|never|du (?:bist|musst)|der nutzer|debes|el usuario)\b|你",
    re.IGNORECASE,
)


def _read_records(
    text: str,
    segments: Sequence[Segment],
    structure: Structure,
    patterns: Sequence[re.Pattern[str]],
    *,
    cut_data: bool = True,
) -> PromptParts:
    """Make units of the passages of a text, and of what stands around them."""
    units: list[Unit] = []
    outside: list[int] = []
    value = json_around(structure.records, segments) if structure.quoted else None
    if value is not None and not (cut_data and structure.is_long):
        stretches = [(0, value.start), (value.end, len(text))]
        outside += _add_outside(text, segments, units, *stretches[0])
        add_json_passages(text, value, structure.records, units)
        outside += _add_outside(text, segments, units, *stretches[1])
    else:
        outside, stretches = _add_passages(text, segments, structure, units)
    bind_fences(text, units)
    leads = bool(stretches) and stretches[0][0] == 0
    question = asked_in([text[a:b] for a, b in stretches], leads=leads)
    _require_outside(text, units, outside, patterns)
    _require_matches(text, units, patterns)
    return PromptParts(units, question)


def _add_passages(
    text: str, segments: Sequence[Segment], structure: Structure, units: list[Unit]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Add the units of all passages; return those outside, and where those stand."""
    outside: list[int] = []
    stretches: list[tuple[int, int]] = []
    records: Sequence[Record] = structure.records
    if not structure.quoted:
        whole = [s for s in segments if s.kind in OPEN_KINDS or not is_prose_block(text, s)]
        records = whole_records(text, records, whole)
    position, opener = 0, -1
    for number, record in enumerate(records, 1):
        if record.start > position:
            begin = _opening(text, segments, position, record.start) if number == 1 else None
            stretches.append((position, record.start if begin is None else begin))
            outside += _add_outside(text, segments, units, *stretches[-1])
            if begin is not None:
                opener = len(units)
                units.append(Unit(begin, record.start, "json", passage=-1, frame=True))
        first = len(units)
        _add_record(text, segments, units, record, number, structure)
        for unit in units[first:]:
            if unit.head < 0 and unit.bound < 0:
                unit.head = opener
        position = record.end
    if opener >= 0 and (found := _CLOSER.match(text, position)):
        end = found.end()
        units.append(Unit(position, end, "json", passage=-1, bound=opener, frame=True))
        position = end
    if position < len(text):
        stretches.append((position, len(text)))
        outside += _add_outside(text, segments, units, position, len(text))
    return outside, stretches


_OPENER = re.compile(r"[\[({][\s\[({]*$")


def _opening(text: str, segments: Sequence[Segment], start: int, end: int) -> int | None:
    """Return where the list or table begins that holds the first record, or ``None``."""
    at = bisect_right(segments, end, key=lambda s: s.end)
    if at < len(segments) and segments[at].kind in ("json", "table"):
        return max(start, segments[at].start) if segments[at].start < end else None
    found = _OPENER.search(text, start, end)
    return found.start() if found else None


_CLOSER = re.compile(r"[\s\])}]*[\])}]")


def _clipped(text: str, segments: Sequence[Segment], start: int, end: int) -> list[Segment]:
    """Return the parts of *segments* between *start* and *end*."""
    made = []
    for segment in segments[bisect_right(segments, start, key=lambda s: s.end) :]:
        if segment.start >= end:
            break
        first, last = max(start, segment.start), min(end, segment.end)
        if segment.start == first and segment.end == last:
            made.append(segment)
        elif segment.kind == "code":
            made += [
                Segment(s.kind, s.start + first, s.end + first)
                for s in segments_of(text[first:last])
            ]
        else:
            keeps = first == segment.start and segment.kind in ("heading", "label", "list")
            keeps = keeps or (segment.kind in _OF_LINES and text[first - 1 : first] in ("", "\n"))
            made.append(Segment(segment.kind if keeps else "prose", first, last))
    return made


_OF_LINES = frozenset({"list", "turn", "log", "table", "data"})
"""Kinds that are cut line by line, so that a part of whole lines is one of them."""


def _add_outside(
    text: str, segments: Sequence[Segment], units: list[Unit], start: int, end: int
) -> list[int]:
    first = len(units)
    added = units_of(
        text,
        [
            Segment("prose", s.start, s.end) if s.kind == "json" else s
            for s in _clipped(text, segments, start, end)
        ],
    )
    _append(units, added)
    return list(range(first, len(units)))


def _append(units: list[Unit], added: Sequence[Unit]) -> None:
    first = len(units)
    for unit in added:
        unit.head = unit.head + first if unit.head >= 0 else -1
        unit.bound = unit.bound + first if unit.bound >= 0 else -1
    units += added


def _add_record(
    text: str,
    segments: Sequence[Segment],
    units: list[Unit],
    record: Record,
    number: int,
    structure: Structure,
) -> None:
    """Add the head, the text and the tail of one passage."""
    first, head = len(units), -1
    if record.body > record.start:
        head = first
        has_title = text[record.start : record.body].strip(RULES)
        units.append(Unit(record.start, record.body, "heading" if has_title else "tag"))
    is_short = record.length <= SHORTEST_CUT and head >= 0 and record.end > record.tail
    if structure.quoted:
        cuts = [record.tail] if not structure.is_long else _quoted_cuts(text, record)
        for start, end in pairwise([record.body, *cuts]):
            units.append(Unit(start, end))
    elif is_short and "<" in text[record.start : record.body]:
        units.append(Unit(record.body, record.tail, "prose", bound=head))
    else:
        _append(units, units_of(text, _clipped(text, segments, record.body, record.tail)))
    if head >= 0:
        _attach_to_head(units, head)
    if record.end > record.tail:
        kind: Kind = "heading" if _has_more(text, record) else "json" if structure.quoted else "tag"
        bound = head if head >= 0 else first
        units.append(Unit(record.tail, record.end, kind, bound=bound, frame=True))
    for unit in units[first:]:
        unit.passage = number


def _quoted_cuts(text: str, record: Record) -> list[int]:
    """Return where the sentences of a quoted text end, never inside an escape."""
    ends = sentence_cuts(text, record.body, record.tail)
    return [end for end in ends if end == record.tail or text[end - 1] != "\\"]


def _attach_to_head(units: list[Unit], head: int) -> None:
    inner = head
    for at in range(head + 1, len(units)):
        unit = units[at]
        if unit.kind == "heading":
            unit.kind = "prose"
        if unit.head < 0 and unit.bound < 0:
            unit.head = inner


SHORTEST_CUT = 400
"""Characters of text between tags, of which less than all is kept only if it has more."""

RULES = "-=*_~#+•—– \t\r\n"


def _has_more(text: str, record: Record) -> bool:
    """Whether the title stands behind the text."""
    before = sum(map(str.isalpha, text[record.start : record.body]))
    return sum(map(str.isalpha, text[record.tail : record.end])) > before


def _outside_code(examples: list[Example], segments: list[Segment]) -> list[Example]:
    """Leave out what a docstring or a fence gives as examples; theirs may hold whole fences."""
    code = [s for s in segments if s.kind in ("code", "json", "diff")]
    if not code or not examples:
        return examples
    return [
        e
        for e in examples
        if not any(
            s.start < e.end and e.start < s.end and not (e.start <= s.start and s.end <= e.end)
            for s in code
        )
    ]


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


def _require_matches(text: str, units: list[Unit], patterns: Sequence[re.Pattern[str]]) -> None:
    if patterns:
        for unit in units:
            if matches_any(unit.within(text), patterns):
                unit.required = True


def _attach_headings(units: list[Unit]) -> None:
    """Make each heading the head of what follows it; a passage per heading."""
    head, passage = -1, 0
    for at, unit in enumerate(units):
        if unit.kind == "heading":
            head, passage = at, passage + 1
        elif unit.head < 0:
            unit.head = head
        unit.passage = passage


def _announced(text: str, units: list[Unit]) -> list[int]:
    """Assign passages that are announced; return the indexes of the units outside of them."""
    outside: list[int] = []
    passage, head, inside = 0, -1, False
    open_tags: list[tuple[str, int, bool]] = []
    for at, unit in enumerate(units):
        piece = unit.within(text)
        if unit.kind == "tag":
            inside, head, passage = _read_tag(piece, at, units, open_tags, inside, passage)
            if inside or unit.bound >= 0:
                unit.passage = passage
            else:
                outside.append(at)
            continue
        if unit.kind == "example":
            passage += 1
            unit.passage, unit.head = passage, -1
            inside, head = False, -1
            continue
        if unit.kind == "heading":
            inside = _ASK_HEADING.match(piece) is None
            passage += 1
            head = at
            unit.head = open_tags[-1][1] if open_tags and open_tags[-1][2] else -1
        elif unit.kind == "label":
            inside = not label_asks(text, unit.start)
            passage += 1
            head = at
        elif inside and unit.head < 0:
            unit.head = head
        if inside:
            unit.passage = passage
        else:
            without_head(units, at)
            outside.append(at)
    return with_last_question(text, units, outside)


def _read_tag(
    piece: str,
    at: int,
    units: list[Unit],
    open_tags: list[tuple[str, int, bool]],
    inside: bool,
    passage: int,
) -> tuple[bool, int, int]:
    """Follow a tag on its own line; return whether we are in a passage, its head and number."""
    name = piece.strip().strip("</>").split()[0].lower() if piece.strip("</> \t\r\n") else ""
    if piece.lstrip().startswith("</"):
        while open_tags:
            opened, index, quotes = open_tags.pop()
            if opened == name:
                if quotes:
                    units[at].bound = index
                    units[at].passage = passage
                break
        outer = open_tags[-1] if open_tags else None
        return bool(outer and outer[2]), outer[1] if outer else -1, passage
    quotes = _PASSAGE_TAG.match(piece.lstrip()) is not None or (
        bool(open_tags) and open_tags[-1][2]
    )
    if quotes and open_tags and open_tags[-1][2]:
        units[at].head = open_tags[-1][1]
    if not piece.rstrip().endswith("/>"):
        open_tags.append((name, at, quotes))
    return quotes, at if quotes else -1, passage + 1


def _paragraphs(text: str, units: list[Unit]) -> list[tuple[int, int]]:
    """Return ranges of units between blank lines."""
    begins = [*paragraph_begins(text, units), len(units)]
    return list(pairwise(begins))


def _asked_around(text: str, units: Sequence[Unit], outside: Sequence[int]) -> str | None:
    """Return what the text before and behind the material asks."""
    inside = [at for at in range(len(units)) if at not in set(outside)]
    first, last = (inside[0], inside[-1] + 1) if inside else (len(units), len(units))
    before = "".join(units[at].within(text) for at in range(first))
    after = "".join(units[at].within(text) for at in range(last, len(units)))
    return asked_in([before, after], leads=True)


def _by_paragraphs(text: str, units: list[Unit], *, may_ask: bool) -> list[int]:
    """Without announcements: first paragraphs may instruct, a last one ask; the rest quote."""
    paragraphs = _paragraphs(text, units)
    for number, (first, end) in enumerate(paragraphs):
        if _has_own_topic(units, first, end):
            for unit in units[first:end]:
                unit.passage = number + 1
    if len(paragraphs) == 1:
        return _sentences_outside(text, units)
    outside: list[int] = []
    for number, (first, end) in enumerate(paragraphs[:-1]):
        opening = text[units[first].start : units[end - 1].end].strip()
        announces = may_ask and opening.endswith((":", "："))
        instructs = number == 0 and (_ASKS.search(opening) or _INSTRUCTS.search(opening))
        if len(opening) > SHORT_PARAGRAPH or not (announces or instructs):
            break
        outside += range(first, end)
    first, end = paragraphs[-1]
    closing = text[units[first].start : units[end - 1].end].strip()
    if len(closing) <= SHORT_PARAGRAPH and (_ASKS.search(closing) or (may_ask and is_cue(closing))):
        outside += range(first, end)
    return outside


def _has_own_topic(units: list[Unit], first: int, end: int) -> bool:
    """Blocks such as code and JSON are ranked on their own; paragraphs of one page together."""
    return any(unit.kind in ("code", "json", "diff", "table") for unit in units[first:end])


def _sentences_outside(text: str, units: list[Unit]) -> list[int]:
    """One paragraph: its first sentence may instruct, its last one ask."""
    outside = []
    first = units[0].within(text).strip()
    last = units[-1].within(text).strip()
    if len(units) > 1 and len(first) <= SHORT_PARAGRAPH and _INSTRUCTS.search(first):
        outside.append(0)
    if asks(last) and len(last) <= SHORT_PARAGRAPH:
        outside.append(len(units) - 1)
    return outside


_FENCE_MARK = re.compile(r"\s*(?:`{3,}|~{3,})[^\n]*\s*")


def _require_outside(
    text: str,
    units: list[Unit],
    outside: list[int],
    patterns: Sequence[re.Pattern[str]],
) -> None:
    """Mark what must be kept: all of a short outside, the obligatory part of a long one."""
    size = sum(units[at].end - units[at].start for at in outside)
    quotes = {
        at
        for at in outside
        if units[at].kind in ("code", "json", "data", "table", "log", "diff")
        and not _FENCE_MARK.fullmatch(units[at].within(text))
    }
    for at in outside:
        piece = units[at].within(text)
        if at not in quotes and (
            size <= _SHORT_OUTSIDE
            or is_required(piece, patterns)
            or asks(piece)
            or units[at].kind == "label"
        ):
            units[at].required = True
        units[at].passage = -1
