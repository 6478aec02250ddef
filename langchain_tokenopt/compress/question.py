"""Which part of a message asks, and what it asks."""

from __future__ import annotations

from typing import Final

from langchain_tokenopt.compress.segments import label_asks
from langchain_tokenopt.compress.units import Unit, without_head

__all__ = ["SHORT_PARAGRAPH", "asks", "question_of", "with_last_question"]

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
