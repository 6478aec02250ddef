"""Which part of a message asks, and what it asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from langchain_tokenopt.compress.query_terms import EMPTY_WORDS
from langchain_tokenopt.text.sentences import sentence_ends

__all__ = [
    "LONGEST_CUE",
    "LONGEST_QUESTION",
    "SHORT_OUTSIDE",
    "SHORT_PARAGRAPH",
    "asked_in",
    "asks",
    "asks_something",
    "is_about",
    "is_asked",
]

SHORT_PARAGRAPH: Final = 700
"""Characters up to which a paragraph may be a question or an instruction."""
SHORT_OUTSIDE: Final = 2_000
"""Characters outside of passages that are kept whole; of more, only what is obligatory."""
LONGEST_QUESTION: Final = 2_000
"""Characters; of a longer task without a question mark, the end says what to do."""


def asks_something(text: str | None) -> bool:
    """Say whether *text* looks like a question or a search, rather than like a page."""
    return bool(text) and (asks(text or "") or len(text or "") <= _LONGEST_SEARCH)


_LONGEST_SEARCH: Final = 150
"""Characters."""


def asks(text: str) -> bool:
    """Say whether *text* ends in a question mark."""
    return text.rstrip(_BEHIND_MARKS).endswith(_QUESTION_MARKS)


_QUESTION_MARKS: Final = ("?", "？", "؟", "\u037e", "՞", "፧", "꘏", "⁇", "⁈")
_BEHIND_MARKS: Final = " \t\r\n*_`~\"'”’“»«)]"


def is_asked(head: str, body: str) -> bool:
    """Say whether a paragraph is a question, by its last sign or by what is written above it.

    Example:
        >>> is_asked("## Query", "capital of Peru"), is_asked("## Peru", "Its capital is Lima.")
        (True, False)
    """
    return asks(body) or bool(_ASKING_LABEL.search(head))


LONGEST_CUE: Final = 300
"""Characters."""


# --- around passages -----------------------------------------------------------------------------

_LABELLED: Final = re.compile(
    r"(?:<(?P<tag>[A-Za-z][\w:.-]{0,40})[^<>\n]{0,200}>\s*(?P<inside>[^<>]{1,2000})</)"
    r"|(?P<key>\W{0,4}[^\W\d_][^:：\n]{0,60}+)[:：][ \t*]*(?P<value>[^\n]*)"
    r"|(?P<heading>#{1,6} [^\n]{1,60})\n\s*(?P<below>[^\n#]+)",
)
_ASKING_LABEL: Final = re.compile(
    r"question|query|request|\bq\b|frage|anfrage|pregunta|consulta|domanda|pergunta|vraag|requête"
    r"|вопрос|запрос|質問|问题|問題|질문|سؤال|प्रश्न|pytanie|otázka|soru",
    re.IGNORECASE,
)


def asked_in(stretches: Sequence[str], leads: bool, material: str = "") -> str | None:
    """Return what the text around passages asks.

    Args:
        stretches: What stands before, between and behind the passages.
        leads: Whether the first of them stands before the passages.
        material: The passages. What asks about them shares words with them.

    Example:
        >>> asked_in(["Read these.", "Using the texts above, tell me who won"], leads=True)
        'who won'
    """
    before = stretches[0] if stretches and leads else ""
    after = "\n".join(stretches[1:] if leads else stretches)
    told = _Words(material)
    for part in (before, after):
        several = _listed_questions(part)
        if several and _shared(several, told)[0] >= _MOSTLY:
            return several
    best: str | None = None
    most, line = -1.0, ""
    for candidate in _candidates(before, after):
        asked = _without_request(candidate)
        share, words = _shared(asked, told)
        if most > 1 and asks(best or "") and not asks(candidate) and candidate not in line:
            continue  # what states elsewhere is no question beside one about the passages
        if share >= _MOSTLY and words > 1:
            return _with_sentences_before(candidate, asked, f"{before}\n{after}", told)
        if asked and share + asks(candidate) > most:  # one word is no sign: "Answer in one line."
            best, most = asked, share + asks(candidate)
            line = _line_of(best, f"{before}\n{after}")
    return best if best is None or asks(best) else _on_its_line(best, f"{before}\n{after}")


_LISTED: Final = re.compile(r"\s*(?:[-*•]|\(?\w{1,3}[.)])\s+(?P<asked>\S.*)")


def _listed_questions(part: str) -> str | None:
    """Return the items of a list of questions, as one."""
    found = [_LISTED.fullmatch(line) for line in part.split("\n") if asks(line)]
    listed = [item["asked"].strip() for item in found if item]
    return " ".join(listed)[-LONGEST_QUESTION:] if len(listed) > 1 else None


def _on_its_line(asked: str, text: str) -> str:
    """Of an order that is not clearly about the passages all that its line says is looked for."""
    line = _line_of(asked, text)
    is_labelled = _LABELLED.match(line) is not None
    return asked if is_labelled or len(line) > LONGEST_CUE else _without_request(line.strip())


def _line_of(asked: str, text: str) -> str:
    return next((line for line in text.split("\n") if asked in line), asked)


def is_about(question: str | None, material: str) -> bool:
    """Say whether a question has most of its telling words in common with the *material*.

    Example:
        >>> is_about("Who won?", "Ann won."), is_about("Be brief.", "Ann won.")
        (True, False)
    """
    return question is not None and _shared(question, _Words(material))[0] >= _MOSTLY


class _Words:
    """The words of passages; few are ever asked for."""

    def __init__(self, material: str) -> None:
        self._text = f" {material[:_ENOUGH_MATERIAL].lower()} "

    def has(self, word: str) -> bool:
        """Say whether *word* stands there as a whole."""
        text, at = self._text, -1
        while word and (at := text.find(word, at + 1)) > 0:
            if not (_WORD.match(text[at - 1]) or _WORD.match(text[at + len(word)])):
                return True
        return False


_ENOUGH_MATERIAL: Final = 200_000
"""Characters of passages in which words of a question are looked for."""
_MOSTLY: Final = 0.5
"""Share of its telling words that a question about passages has in common with them."""


def _shared(asked: str, told: _Words) -> tuple[float, int]:
    """Return the share of the telling words of *asked* that the passages have, and how many."""
    words = {word.lower() for word in _WORD.findall(asked)} - EMPTY_WORDS - _REQUESTS
    words -= _AROUND_REQUESTS
    shared = sum(told.has(word) or told.has(word.rstrip("s")) for word in words)
    return shared / len(words) if words else 0.0, shared


def _with_sentences_before(candidate: str, asked: str, text: str, told: _Words) -> str:
    """A question may refer to the sentences before it on its line: "It rains. Why is that?"."""
    at = text.rfind(candidate)
    line = text[text.rfind("\n", 0, max(at, 0)) + 1 : max(at, 0)]
    kept: list[str] = []
    for sentence in reversed(_sentences(line)):
        if sentence.endswith((":", "：")) or _labelled(sentence):
            break
        if _shared(_without_request(sentence), told)[0] < _MOSTLY:
            break
        kept.insert(0, sentence)
    return " ".join([*kept, asked])[-LONGEST_QUESTION:]


def _candidates(before: str, after: str) -> Iterator[str]:
    """Yield what may be the question, the likeliest first."""
    labelled = [*_labelled(before), *_labelled(after)]
    yield from (value for key, value in reversed(labelled) if _ASKING_LABEL.search(key))
    for found in _QUOTED.finditer(before + "\n" + after):
        yield found["asked"]
    lines = [line.strip() for part in (after, before) for line in reversed(part.split("\n"))]
    for line in lines:
        if asks(line):
            sentence = _sentences(line)[-1]
            yield next(reversed(_told_behind_labels(sentence)), sentence)
    for line in lines:
        for found in _WITHIN.finditer(line):
            yield found.group().strip()
    for part in (after, before):
        loose = [
            line
            for raw in part.split("\n")
            if any(map(str.isalpha, line := raw.strip()))
            and line[0] not in "<`"
            and not _LABELLED.match(line)
        ]
        values = _told_behind_labels(part)
        for text in (*reversed(loose), *reversed(values)):
            yield from reversed(_sentences(text))
        yield " ".join(loose)[-LONGEST_QUESTION:]


def _told_behind_labels(part: str) -> list[str]:
    return [
        value if value.count(" ") >= _FEWEST_SPACES else f"{key} {value}"
        for key, value in _labelled(part)
    ]


_FEWEST_SPACES: Final = 2
"""Of what is shorter the label is part: "Oslo: how much?"."""


def _sentences(text: str) -> list[str]:
    edges = [0, *sentence_ends(text, small_letters=True)]
    pieces = [text[start:end].strip() for start, end in pairwise(edges)]
    return [piece for piece in pieces if piece]


_QUOTED: Final = re.compile(
    r"(?:question|query|request|search|asked|frage|pregunta)[^\n\"“„«‘'`]{0,20}"
    r"[\"“„«‘'`](?P<asked>[^\n\"”“»’`]{8,400}?)[\"”“»’'`](?=\W|$)",
    re.IGNORECASE,
)
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
_MATERIAL_WORDS: Final = _words(
    """
    above below following passages passage documents document context text texts sources notes
    articles information results obigen texten dokumente quellen auszüge auszügen documentos textos
    fuentes textes
    """
)
_WORD: Final = re.compile(r"[\w'’]+")


def _without_request(question: str) -> str:
    """Leave out words that only ask for an answer: they would be searched for in the passages."""
    words = [(found.group().lower(), found.span()) for found in _WORD.finditer(question)]
    first = _requests([word for word, _ in words])
    behind = [word for word, _ in reversed(words[first:])]
    last = len(words) - _requests(behind)
    if last < len(words) and not _MATERIAL_WORDS & {*behind[: len(words) - last]}:
        last = len(words)  # "who is the character based on"
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


def _labelled(part: str) -> list[tuple[str, str]]:
    found = []
    for match in _LABELLED.finditer(part):
        key = match["tag"] or match["key"] or match["heading"]
        value = (match["inside"] or match["value"] or match["below"] or "").strip()
        if any(map(str.isalnum, value)):
            found.append((key, value))
    return found
