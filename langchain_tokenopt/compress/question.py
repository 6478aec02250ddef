"""Which part of a message asks, and what it asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from langchain_tokenopt.compress.segments import label_asks
from langchain_tokenopt.compress.units import Unit, without_head

__all__ = [
    "SHORT_PARAGRAPH",
    "asked_in",
    "asks",
    "is_cue",
    "paragraph_begins",
    "question_of",
    "with_last_question",
]

SHORT_PARAGRAPH: Final = 700
"""Characters up to which a paragraph may be a question or an instruction."""
LONGEST_QUESTION: Final = 2_000
"""Characters; of a longer task without a question mark, the end says what to do."""


def asks(text: str) -> bool:
    """Say whether *text* ends in a question mark."""
    return text.rstrip().endswith(("?", "？"))


def is_cue(paragraph: str) -> bool:
    r"""Say whether a last paragraph is to be continued: it ends in a colon, or in no sentence.

    Example:
        >>> is_cue("Key: a7\nValue:"), is_cue("The capital is"), is_cue("It rained.")
        (True, True, False)
    """
    end = paragraph.rstrip()
    return len(end) <= LONGEST_CUE and (end.endswith((":", "：")) or end[-1:].isalnum())


LONGEST_CUE: Final = 300
"""Characters."""


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
    first = paragraph_begins(text, units)[-1]
    paragraph = text[units[first].start : units[last].end]
    if first == 0 or not (
        is_cue(paragraph) or (asks(paragraph) and len(paragraph) <= SHORT_PARAGRAPH)
    ):
        return outside
    if any(unit.kind == "heading" for unit in units[first:]):
        return outside
    for at in range(first, last + 1):
        without_head(units, at)
    return [*outside, *range(first, last + 1)]


def paragraph_begins(text: str, units: Sequence[Unit]) -> list[int]:
    """Return the indexes of the units with which paragraphs begin."""
    begins, ahead = [0], 0
    blanks = [found.span() for found in _BLANK_LINE.finditer(text)]
    for at, unit in enumerate(units[1:], 1):
        while ahead < len(blanks) and blanks[ahead][1] < unit.start:
            ahead += 1
        if ahead < len(blanks) and blanks[ahead][0] < unit.start:
            begins.append(at)
    return begins


_BLANK_LINE: Final = re.compile(r"\n[ \t\r]*\n\s*")


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

    Example:
        >>> asked_in(["Read these.", "Using the texts above, tell me who won"], leads=True)
        'who won'
    """
    before = stretches[0] if stretches and leads else ""
    after = "\n".join(stretches[1:] if leads else stretches)
    found = _asked(before, after)
    return _without_request(found) if found else None


def _asked(before: str, after: str) -> str | None:
    labelled = [*_labelled(before), *_labelled(after)]
    asking = [value for key, value in labelled if _ASKING_LABEL.search(key)]
    if asking:
        return asking[-1]
    sentences = [line.strip() for part in (before, after) for line in part.split("\n")]
    marked = [line for line in sentences if line.endswith(_QUESTION_MARKS)]
    if marked:
        values = [value for _, value in _labelled(marked[-1])]
        return values[-1] if values and values[-1] else _last_sentence(marked[-1])
    within = [found.group() for line in sentences for found in _WITHIN.finditer(line)]
    if within:
        return within[-1].strip()
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


_WITHIN: Final = re.compile(r"[^.!?。！？\n:：]{8,400}[?？؟]")
"""A question that more is said behind, as "Who came first? Answer in one word."."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REQUESTS: Final = _words(
    """
    please tell find answer reply respond using based according given say know read write explain
    bitte sag sage nenne finde beantworte anhand antworte dime di responde usando según encuentra
    dis réponds trouve selon
    """
)
_AROUND_REQUESTS: Final = _words(
    """
    the these those this above below following provided retrieved passages passage documents
    document context text texts sources notes articles information results search only with from
    on to of out me us i want would like you can could my now and in for question query it use need
    der die das den dem obigen folgenden texte texten dokumente quellen auszüge auszügen mir heraus
    nur mit aus von zu frage los las el la documentos textos fuentes por favor me pregunta con
    les des textes documents la question moi
    """
)
_WORD: Final = re.compile(r"[\w'’]+")


def _without_request(question: str) -> str:
    """Leave out words that only ask for an answer: they would be searched for in the passages."""
    words = [(found.group().lower(), found.span()) for found in _WORD.finditer(question)]
    first = _requests(word for word, _ in words)
    last = len(words) - _requests(word for word, _ in reversed(words[first:]))
    if first >= last:
        return question
    end = len(question) if last == len(words) else words[last - 1][1][1]
    return question[words[first][1][0] if first else 0 : end]


def _requests(words: Iterable[str]) -> int:
    """Return how many words are about asking, if any of them asks."""
    count, asks_for = 0, False
    for word in words:
        if word not in _REQUESTS and word not in _AROUND_REQUESTS:
            break
        count += 1
        asks_for = asks_for or word in _REQUESTS
    return count if asks_for else 0


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
