"""In one long message, tell instructions and the question from the passages it quotes.

Passages are announced: by a heading (``Document [3]``, ``## Background``), a label (``Context:``)
or a tag (``<documents>``). What stands outside is instruction or question. A text that announces
nothing is read by its paragraphs: a first one that instructs, a last one that asks, passages
between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_tokenopt.compress.examples import Example, find_examples
from langchain_tokenopt.compress.protect import is_required, matches_any
from langchain_tokenopt.compress.question import (
    SHORT_PARAGRAPH,
    asks,
    question_of,
    with_last_question,
)
from langchain_tokenopt.compress.segments import Segment, label_asks, segments_of
from langchain_tokenopt.compress.units import Unit, units_of, without_head

__all__ = ["PromptParts", "read_material", "read_message", "read_passage"]

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
_COMMAND = re.compile(
    r"^\W*(?:do not|don['’]t|never|always|only|must|ensure|make sure|be sure|avoid|remember"
    r"|note that"
    r"|important|niemals|immer|nunca|siempre|必须|务必|禁止|不要|切勿)|\byou (?:must|may|should"
    r"|shall"
    r"|cannot)\b",
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
        outside = _by_paragraphs(text, units)
    question = question_of(text, units, outside)
    _require_outside(text, units, outside, patterns, announced=announced)
    _require_matches(text, units, patterns)
    return PromptParts(units, question)


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
    ranges, first = [], 0
    for at, unit in enumerate(units):
        tail = unit.within(text)
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
    if len(opening) <= SHORT_PARAGRAPH and (_ASKS.search(opening) or _INSTRUCTS.search(opening)):
        outside += range(first, end)
    first, end = paragraphs[-1]
    closing = text[units[first].start : units[end - 1].end].strip()
    if len(closing) <= SHORT_PARAGRAPH and _ASKS.search(closing):
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
        piece = units[at].within(text)
        if at not in quotes and (
            size <= _SHORT_OUTSIDE
            or is_required(piece, patterns)
            or asks(piece)
            or units[at].kind == "label"
        ):
            units[at].required = True
        units[at].passage = -1
    if not announced:
        for unit in units:
            if unit.kind in ("prose", "list") and _COMMAND.search(unit.within(text).lstrip()):
                unit.required = True
