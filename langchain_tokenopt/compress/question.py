"""Which part of a message asks, and what it asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_tokenopt.compress.segments import label_asks
from langchain_tokenopt.compress.units import Unit, without_head

__all__ = ["SHORT_PARAGRAPH", "asked_in", "asks", "question_of", "with_last_question"]

SHORT_PARAGRAPH: Final = 700
"""Characters up to which a paragraph may be a question or an instruction."""
LONGEST_QUESTION: Final = 2_000
"""Characters; of a longer task without a question mark, the end says what to do."""


def asks(text: str) -> bool:
    """Say whether *text* ends in a question mark."""
    return text.rstrip().endswith(("?", "？"))


def question_of(text: str, units: list[Unit], outside: list[int]) -> str | None:
    """What is asked: behind the last label that asks, else the last question, else all outside."""
    asked: list[str] = []
    for at in outside:
        if units[at].kind == "label" and label_asks(text, units[at].start):
            label = units[at].within(text).strip().rstrip(":： ").lower()
            behind = _behind(text, units, outside, at)
            if behind and label in _QUESTION_LABELS:
                return behind
            if behind:
                asked.append(behind)
    questions = [units[at].within(text).strip() for at in outside if asks(units[at].within(text))]
    if questions:
        return questions[-1]
    if asked:
        return asked[-1]
    everything = " ".join(units[at].within(text).strip() for at in outside)
    return everything[-LONGEST_QUESTION:] or None


_QUESTION_LABELS = frozenset(
    {"question", "user question", "query", "request", "frage", "pregunta", "问题"}
)


def _behind(text: str, units: list[Unit], outside: list[int], label: int) -> str:
    """Return the text between a label and the next label or the end of what is outside."""
    end, free = label + 1, set(outside)
    while end < len(units) and units[end].kind not in ("label", "heading", "tag") and end in free:
        end += 1
    return text[units[label].end : units[end - 1].end].strip()


def with_last_question(text: str, units: list[Unit], outside: list[int]) -> list[int]:
    """Behind the last passage a question may follow without any label."""
    last = len(units) - 1
    if len(outside) == len(units) or last in outside:
        return outside
    first = _last_paragraph(text, units)
    paragraph = text[units[first].start : units[last].end]
    if first == 0 or len(paragraph) > SHORT_PARAGRAPH or not asks(paragraph):
        return outside
    if any(unit.kind == "heading" for unit in units[first:]):
        return outside
    for at in range(first, last + 1):
        without_head(units, at)
    return [*outside, *range(first, last + 1)]


def _last_paragraph(text: str, units: list[Unit]) -> int:
    """Return the index of the unit that begins the last paragraph."""
    for at in range(len(units) - 1, 0, -1):
        gap = units[at - 1].within(text)
        if len(gap) - len(gap.rstrip()) and gap[len(gap.rstrip()) :].count("\n") > 1:
            return at
    return 0


# --- around passages -----------------------------------------------------------------------------

_LABELLED: Final = re.compile(
    r"(?:<(?P<tag>[A-Za-z][\w:.-]{0,40})[^<>\n]{0,200}>\s*(?P<inside>[^<>]{1,2000})</)"
    r"|(?P<key>\W{0,4}[^\W\d_][^:：\n]{0,60})[:：][ \t*]*(?P<value>[^\n]*)"
    r"|(?P<heading>#{1,6} [^\n]{1,60})\n\s*(?P<below>[^\n#]+)",
)
_ASKING_LABEL: Final = re.compile(
    r"question|query|request|\bq\b|frage|anfrage|pregunta|consulta|domanda|pergunta|vraag|requête"
    r"|вопрос|запрос|質問|问题|問題|질문|سؤال|प्रश्न|pytanie|otázka|soru",
    re.IGNORECASE,
)


def asked_in(stretches: Sequence[str], leads: bool) -> str | None:
    """Return what the text around passages asks.

    Args:
        stretches: What stands before, between and behind the passages.
        leads: Whether the first of them stands before the passages.
    """
    before = stretches[0] if stretches and leads else ""
    after = "\n".join(stretches[1:] if leads else stretches)
    labelled = [*_labelled(before), *_labelled(after)]
    asking = [value for key, value in labelled if _ASKING_LABEL.search(key)]
    if asking:
        return asking[-1]
    sentences = [line.strip() for part in (before, after) for line in part.split("\n")]
    marked = [line for line in sentences if line.endswith(_QUESTION_MARKS)]
    if marked:
        found = marked[-1]
        values = [v for _, v in _labelled(found)]
        return values[-1] if values and values[-1] else _last_sentence(found)
    for part in (after, before):
        values = [value for _, value in _labelled(part)]
        loose = [
            line
            for raw in part.split("\n")
            if any(map(str.isalpha, line := raw.strip()))
            and line[0] not in "<`"
            and not _LABELLED.match(line)
        ]
        if values or loose:
            return " ".join([*loose[-1:], *values[-1:]])[-LONGEST_QUESTION:]
    return None


_QUESTION_MARKS: Final = ("?", "？", "؟", ";", "՞")


def _labelled(part: str) -> list[tuple[str, str]]:
    found = []
    for match in _LABELLED.finditer(part):
        key = match["tag"] or match["key"] or match["heading"]
        value = (match["inside"] or match["value"] or match["below"] or "").strip()
        if any(map(str.isalnum, value)):
            found.append((key, value))
    return found


def _last_sentence(line: str) -> str:
    cut = max(line.rfind(mark, 0, -1) for mark in (". ", "! ", "? ", "。", "！", "？"))
    return line[cut + 1 :].strip()
