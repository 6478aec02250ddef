"""In one long message, tell instructions and the question from the passages it quotes.

Passages are announced: by a heading (``Document [3]``, ``## Background``), a label (``Context:``)
or
a tag (``<documents>``). What stands outside is instruction or question. A text that announces
nothing is read by its paragraphs: a first one that instructs, a last one that asks, passages
between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_tokenopt.compress.examples import Example, find_examples
from langchain_tokenopt.compress.protect import is_required, matches_any
from langchain_tokenopt.compress.segment import (
    Segment,
    Unit,
    label_asks,
    segments_of,
    units_of,
)

__all__ = ["Reading", "read_material", "read_message", "read_passage"]

SHORT_MESSAGE = 400
"""Characters. A message without announced passages is kept whole up to this length."""
_SHORT_PARAGRAPH = 700
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
_COMMAND = re.compile(
    r"^\W*(?:do not|don['’]t|never|always|only|must|ensure|make sure|be sure|avoid|remember"
    r"|note that"
    r"|important|niemals|immer|nunca|siempre|必须|务必|禁止|不要|切勿)|\byou (?:must|may|should"
    r"|shall"
    r"|cannot)\b",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Reading:
    """A text cut into units, with what is required, and what is asked."""

    units: list[Unit]
    question: str | None = None
    has_passages: bool = True


def read_passage(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> Reading:
    """Read a text that is nothing but a passage: only the caller's *patterns* are required."""
    segments = segments_of(text)
    units = units_of(text, segments)
    if len(segments) > 1:
        _attach_headings(units)
    _require_matches(text, units, patterns)
    return Reading(units)


def read_material(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> Reading:
    """Read a text about which something is asked elsewhere: being short does not save it."""
    return read_message(text, patterns, keep_short=False)


def read_message(
    text: str, patterns: Sequence[re.Pattern[str]] = (), *, keep_short: bool = True
) -> Reading:
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
            return Reading(units, text.strip() or None, has_passages=False)
        outside = _by_paragraphs(text, units)
    question = _question(text, units, outside)
    _require_outside(text, units, outside, patterns, announced=announced)
    _require_matches(text, units, patterns)
    return Reading(units, question)


def _outside_code(examples: list[Example], segments: list[Segment]) -> list[Example]:
    """Leave out what a docstring or a fence gives as examples."""
    code = [s for s in segments if s.kind in ("code", "json", "diff")]
    if not code or not examples:
        return examples
    return [e for e in examples if not any(s.start < e.end and e.start < s.end for s in code)]


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
            if matches_any(text[unit.start : unit.end], patterns):
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
        piece = text[unit.start : unit.end]
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
            unit.head = -1 if unit.kind != "table" else unit.head
            outside.append(at)
    return _with_last_question(text, units, outside)


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


def _with_last_question(text: str, units: list[Unit], outside: list[int]) -> list[int]:
    """Behind the last passage a question may follow without any label."""
    last = len(units) - 1
    if len(outside) == len(units) or last in outside:
        return outside
    first = _last_paragraph(text, units)
    paragraph = text[units[first].start : units[last].end]
    if (
        first > 0
        and len(paragraph) <= _SHORT_PARAGRAPH
        and paragraph.rstrip().endswith(("?", "？"))
    ):
        for at in range(first, last + 1):
            if units[at].kind == "heading":
                return outside
        for at in range(first, last + 1):
            units[at].head = -1
        return [*outside, *range(first, last + 1)]
    return outside


def _last_paragraph(text: str, units: list[Unit]) -> int:
    """Return the index of the unit that begins the last paragraph."""
    for at in range(len(units) - 1, 0, -1):
        gap = text[units[at - 1].start : units[at - 1].end]
        if len(gap) - len(gap.rstrip()) and gap[len(gap.rstrip()) :].count("\n") > 1:
            return at
    return 0


def _paragraphs(text: str, units: list[Unit]) -> list[tuple[int, int]]:
    """Return ranges of units between blank lines."""
    ranges, first = [], 0
    for at, unit in enumerate(units):
        tail = text[unit.start : unit.end]
        if at + 1 == len(units) or tail[len(tail.rstrip()) :].count("\n") > 1 or not tail.strip():
            ranges.append((first, at + 1))
            first = at + 1
    return ranges


def _by_paragraphs(text: str, units: list[Unit]) -> list[int]:
    """Without announcements: a first paragraph may instruct, a last one ask; the rest quote."""
    paragraphs = _paragraphs(text, units)
    for number, (first, end) in enumerate(paragraphs):
        if _has_own_topic(units, first, end):
            for unit in units[first:end]:
                unit.passage = number + 1
    if len(paragraphs) == 1:
        return _sentences_outside(text, units)
    outside: list[int] = []
    first, end = paragraphs[0]
    opening = text[units[first].start : units[end - 1].end].strip()
    if len(opening) <= _SHORT_PARAGRAPH and (_ASKS.search(opening) or _INSTRUCTS.search(opening)):
        outside += range(first, end)
    first, end = paragraphs[-1]
    closing = text[units[first].start : units[end - 1].end].strip()
    if len(closing) <= _SHORT_PARAGRAPH and _ASKS.search(closing):
        outside += range(first, end)
    return outside


def _has_own_topic(units: list[Unit], first: int, end: int) -> bool:
    """Blocks such as code and JSON are ranked on their own; paragraphs of one page together."""
    return any(unit.kind in ("code", "json", "diff", "table") for unit in units[first:end])


def _sentences_outside(text: str, units: list[Unit]) -> list[int]:
    """One paragraph: its first sentence may instruct, its last one ask."""
    outside = []
    first = text[units[0].start : units[0].end].strip()
    last = text[units[-1].start : units[-1].end].strip()
    if len(units) > 1 and len(first) <= _SHORT_PARAGRAPH and _INSTRUCTS.search(first):
        outside.append(0)
    if last.endswith(("?", "？")) and len(last) <= _SHORT_PARAGRAPH:
        outside.append(len(units) - 1)
    return outside


def _question(text: str, units: list[Unit], outside: list[int]) -> str | None:
    """What is asked: behind the last label that asks, else the last question, else all outside."""
    asked: list[str] = []
    for at in outside:
        if units[at].kind == "label" and label_asks(text, units[at].start):
            label = text[units[at].start : units[at].end].strip().rstrip(":： ").lower()
            behind = _behind(text, units, outside, at)
            if behind and label in _QUESTION_LABELS:
                return behind
            if behind:
                asked.append(behind)
    questions = [
        piece
        for at in outside
        if (piece := text[units[at].start : units[at].end].strip()).endswith(("?", "？"))
    ]
    if questions:
        return questions[-1]
    if asked:
        return asked[-1]
    everything = " ".join(text[units[at].start : units[at].end].strip() for at in outside)
    return everything[-_SHORT_OUTSIDE:] or None


_QUESTION_LABELS = frozenset(
    {"question", "user question", "query", "request", "frage", "pregunta", "问题"}
)


def _behind(text: str, units: list[Unit], outside: list[int], label: int) -> str:
    """Return the text between a label and the next label or the end of what is outside."""
    end, free = label + 1, set(outside)
    while end < len(units) and units[end].kind not in ("label", "heading", "tag") and end in free:
        end += 1
    return text[units[label].end : units[end - 1].end].strip()


def _require_outside(
    text: str,
    units: list[Unit],
    outside: list[int],
    patterns: Sequence[re.Pattern[str]],
    *,
    announced: bool,
) -> None:
    """Mark what must be kept: all of a short outside, the obligatory part of a long one."""
    size = sum(units[at].end - units[at].start for at in outside)
    quotes = {at for at in outside if units[at].kind in ("code", "json", "table", "log", "diff")}
    for at in outside:
        piece = text[units[at].start : units[at].end]
        if at not in quotes and (
            size <= _SHORT_OUTSIDE
            or is_required(piece, patterns)
            or piece.rstrip().endswith(("?", "？"))
            or units[at].kind == "label"
        ):
            units[at].required = True
        units[at].passage = -1
    if not announced:
        for unit in units:
            if unit.kind in ("prose", "list") and _COMMAND.search(
                text[unit.start : unit.end].lstrip()
            ):
                unit.required = True
