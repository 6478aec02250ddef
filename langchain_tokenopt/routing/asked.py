"""What a request asks, and what it asks about: material, whose words are not the user's.

How a prompt is divided is read by ``compress/frame.py``, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokenopt.compress.frame import Span, frame_of, without_edge_sentences
from langchain_tokenopt.compress.prompt_lines import lines_of
from langchain_tokenopt.compress.segments import Segment, segments_of
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.routing.marks import is_complaint, is_thanks
from langchain_tokenopt.text.scripts import UNSPACED

__all__ = ["MOST_SENT_BACK", "WORD", "asked_and_material", "asked_text"]

WORD: Final = re.compile(rf"[{UNSPACED}]|[^\W\d_]+(?:['’][^\W\d_]+)*")
MOST_SENT_BACK: Final = 3
_MOST_READ: Final = 4_500
"""Characters that are read, from both ends."""
_FOLLOW_UP: Final = 4
"""Words; with fewer a question is about what was asked before it, which is read as well."""
_LONG: Final = 1_000
"""Characters up to which paragraphs and lists are the user's own, unless they are marked."""
_MATERIAL_KINDS: Final = frozenset({"code", "json", "data", "log", "diff", "example", "table"})
"""Of segments: nobody asks in these."""
_ITEM: Final = re.compile(r"\s*(?:[-*•]|\(?(?:\d{1,2}|[A-Za-z])[.)])[ \t]+[^\W\d_]")
_TAGGED: Final = re.compile(
    r"<([A-Za-z][\w:.-]*)[^<>]{0,200}>[^\0]{20,}?</\1>|^</?[\w:.-]+>$", re.M
)
_LETTER: Final = re.compile(
    r"^(?:-{2,} ?(?:original|ursprüngliche|forwarded|weitergeleitete|message|mensaje)\b.*"
    r"|(?:from|von|de|da|van) ?: .+\n(?:(?:to|an|sent|gesendet|date|datum|subject|betreff|à|para|a|"
    r"aan|envoyé|enviado|objet|asunto) ?: .+\n?)+|"
    r"(?:on|am|le|el) .{4,120} (?:wrote|schrieb|a écrit|escribió) ?:$)(?:\n\w{2,9}: .+)*",
    re.M | re.I,
)
"""Where an earlier mail begins that stands below a reply."""
_QUOTED: Final = re.compile(
    r"\"[^\"\n]{40,}\"|[“„][^“”\n]{40,}[“”]|«[^«»\n]{40,}»|[「『][^「」『』\n]{20,}[」』]|^>.*",
    re.M,
)


def asked_text(messages: Sequence[BaseMessage]) -> str:
    """Return what is asked: the user's last message, and the one before where it only follows up.

    What it is asked about is left out.

    Example:
        >>> asked_text([HumanMessage("Who won?"), HumanMessage("And why?")]).splitlines()
        ['Who won?', 'And why?']
    """
    return asked_and_material(messages)[0]


def asked_and_material(messages: Sequence[BaseMessage]) -> tuple[str, str]:
    """Return what is asked, and what it is asked about."""
    sent: Sequence[BaseMessage] = [m for m in messages if isinstance(m, HumanMessage)]
    sent = sent or messages[-1:]
    if not sent:
        return "", ""
    asked, material = _apart(text_of(sent[-1]))
    for before in sent[-2 : -2 - MOST_SENT_BACK : -1]:
        follows = len(WORD.findall(asked[:200])) < _FOLLOW_UP and not is_thanks(asked)
        if not follows and not is_complaint(asked[:500]):
            break
        asked_before, about = _apart(text_of(before))
        asked, material = f"{asked_before}\n{asked}", f"{about}\n{material}"
    return asked, material


@lru_cache(maxsize=32)
def _apart(text: str) -> tuple[str, str]:
    """Divide a message; one that is all material is asked as it is."""
    text = _both_ends(text)
    spans = _material_in(text) if "\n" in text.strip() else []
    spans = _joined([*spans, *(found.span() for found in _QUOTED.finditer(text))])
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    parts = [text[start:end] for start, end in pairwise(edges)]
    asked = "\n".join(part.strip() for part in parts[::2] if part.strip())
    if not WORD.search(asked):
        return text, ""
    return (asked if spans else text), "\n".join(parts[1::2])


def _material_in(text: str) -> list[Span]:
    """Return what is marked as material, and of the rest what is long: users write paragraphs."""
    segments = segments_of(text)
    frame = frame_of(text, lines_of(text, segments))
    if frame.is_empty:
        frame = without_edge_sentences(text, frame)
    marked = [found.span() for found in _TAGGED.finditer(text)]
    marked += [(s.start, s.end) for s in segments if _is_material(s, text)]
    sent = _LETTER.search(text)
    if sent is not None:
        behind = [(s, e) for s, e in frame.material if s >= sent.start()]
        marked += [sent.span(), *behind]
    return [*(span for span in frame.material if span[1] - span[0] > _LONG), *marked]


def _is_material(segment: Segment, text: str) -> bool:
    """Whether it is data, code or a log; a numbered list of tasks is none."""
    return segment.kind in _MATERIAL_KINDS and not _ITEM.match(text, segment.start)


def _joined(spans: Sequence[Span]) -> list[Span]:
    made: list[Span] = []
    for start, end in sorted(spans):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        elif end > start:
            made.append((start, end))
    return made


def _both_ends(text: str) -> str:
    """Cut at the ends of lines, where there are some."""
    if len(text) <= _MOST_READ:
        return text
    first, last = text[: _MOST_READ // 3], text[-2 * _MOST_READ // 3 :]
    return "\n".join((first.rpartition("\n")[0] or first, last.partition("\n")[2] or last))
