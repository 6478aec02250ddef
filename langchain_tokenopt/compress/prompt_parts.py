"""In one long message, tell instructions and the question from the passages it quotes.

Passages are announced: by a heading (``Document [3]``, ``## Background``), a label (``Context:``)
or a tag (``<documents>``). What stands outside is instruction or question. A text that announces
nothing is read by its paragraphs: a first one that instructs, a last one that asks, passages
between.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from itertools import pairwise

from langchain_tokenopt.compress.blocks import bind_marks
from langchain_tokenopt.compress.examples import Example, find_examples, holds_pairs
from langchain_tokenopt.compress.passage_units import (
    SHORT_OUTSIDE,
    PromptParts,
    passage_parts,
    require_matches,
    require_outside,
)
from langchain_tokenopt.compress.prompt_structure import Structure, structure_of
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
from langchain_tokenopt.compress.segments import Segment, label_asks, segments_of
from langchain_tokenopt.compress.units import Unit, open_fences, units_of, without_head

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
    r"^\W*(?:please\b|summari[sz]e|explain|describe|list|write|answer|give|tell|translate|extract|find"
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


def read_passage(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> PromptParts:
    """Read a text that is nothing but a passage: only the caller's *patterns* are required."""
    segments = segments_of(text)
    units = units_of(text, segments)
    if len(segments) > 1:
        _attach_headings(units)
    bind_marks(text, units)
    require_matches(text, units, patterns)
    return PromptParts(units)


def read_material(
    text: str, patterns: Sequence[re.Pattern[str]] = (), *, cut_data: bool = True
) -> PromptParts:
    """Read a text about which something is asked elsewhere: being short does not save it.

    It may be a prompt all the same; where it neither asks nor instructs, it is a passage or many.
    """
    lines = text.strip().splitlines() or [""]
    opening = _FIRST_PARAGRAPH.match(text)
    instructs = opening is not None and _INSTRUCTS.search(opening.group()) is not None
    if instructs or any(asks(line) or label_asks(line, 0) for line in (lines[0], lines[-1])):
        return read_message(text, patterns, keep_short=False, cut_data=cut_data)
    return read_result(text, patterns, cut_data=cut_data)


def read_result(
    text: str, patterns: Sequence[re.Pattern[str]] = (), *, cut_data: bool = True
) -> PromptParts:
    """Read what a tool found: nothing in it instructs or asks."""
    segments = open_fences(text, segments_of(text))
    structure = structure_of(text, segments)
    if not _are_passages(structure.records, len(text)):
        return read_passage(text, patterns)
    return passage_parts(text, segments, structure, patterns, cut_data=cut_data, may_ask=False)


def _are_passages(records: Sequence[Record], size: int) -> bool:
    """Say whether a text is passages under titles, not a page in which something comes back."""
    if len(records) < _FEWEST_PASSAGES or records[-1].end - records[0].start < _MOSTLY * size:
        return False
    return (
        max(record.body - record.start for record in records) <= _LONGEST_HEAD
        and statistics.median(record.length for record in records) >= _SHORTEST_MATERIAL
    )


_FIRST_PARAGRAPH = re.compile(r"\s*(?:\S[^\n]*\n?){1,8}(?=\s*\n|\Z)")
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
    structure = Structure() if holds_pairs(text) else structure_of(text, opened)
    shown = sum(example.end - example.start for example in examples)
    if structure.records and sum(r.length for r in structure.records) > 2 * shown:
        return passage_parts(text, opened, structure, patterns, cut_data=cut_data)
    units = units_of(text, _around_examples(text, examples) if examples else segments)
    outside = _announced(text, units)
    announced = len(outside) < len(units)
    bind_marks(text, units)
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
        _bind_rest(units, examples[-1])
    question = question_of(text, units, outside)
    if not announced and outside and not examples:
        question = _asked_around(text, units, outside) or question
    require_outside(text, units, outside, patterns)
    require_matches(text, units, patterns)
    return PromptParts(units, question)


def _with_input(units: list[Unit], outside: Sequence[int], end: int) -> list[int]:
    """Behind the last example stands what the user asks, unless that is long."""
    behind = [at for at, unit in enumerate(units) if unit.start >= end]
    if not behind or units[-1].end - end > SHORT_OUTSIDE:
        return list(outside)
    for at in behind:
        without_head(units, at)
    return sorted({*outside, *behind})


def _bind_rest(units: list[Unit], last: Example) -> None:
    """What may be more of the last output stays with its example, unless it is short."""
    if last.rest - last.end < _SHORTEST_REST:
        return
    at = next((at for at, unit in enumerate(units) if unit.end == last.end), -1)
    for unit in units[at + 1 :]:
        if unit.end <= last.rest and unit.head < 0:
            unit.head = at


_SHORTEST_REST = 40
"""Characters; less is an instruction rather than a paragraph."""
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
    after = text[records[-1].end :][:_ANNOUNCED_WITHIN]
    bodies = [text[r.body : r.tail] for r in records]
    if not _MATERIAL.search(f"{before}\n{after}") or _NO_MATERIAL.search(before[-100:]):
        return None
    if statistics.median(map(len, bodies)) < _SHORTEST_MATERIAL:
        return None
    if sum(1 for body in bodies if _ADDRESSES.search(body)) > 0.3 * len(bodies):
        return None
    return passage_parts(text, segments, structure, ()).units


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
        instructs = number == 0 and (
            asks(opening) or _ASKS.search(opening) or _INSTRUCTS.search(opening)
        )
        if len(opening) > SHORT_PARAGRAPH or not (announces or instructs):
            break
        outside += range(first, end)
    first, end = paragraphs[-1]
    closing = text[units[first].start : units[end - 1].end].strip()
    if len(closing) <= SHORT_PARAGRAPH and (
        asks(closing) or _ASKS.search(closing) or (may_ask and is_cue(closing))
    ):
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
