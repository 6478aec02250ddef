"""What a budget leaves alone in a prompt: what the caller asks, and how it is to be answered.

The compressor reads instructions, questions and passages from a prompt's structure, and can be
wrong. A call that is made smaller without anybody having asked for it must not lose its question,
so here stands a second, simpler reading: what frames the material. Only what neither reading keeps
may go. One reading is not enough: of 431 runs of 100 random graphs (``tests/judge/delivery.py``),
86 lose a question, a role or a rule with the compressor's alone, and none with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from langchain_core.messages import BaseMessage, HumanMessage

from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.text.sentences import sentences_of

__all__ = ["frame_of", "holds_all", "lines_within"]

_TAGGED: Final = re.compile(
    r"<(?P<name>[A-Za-z_][\w.-]*)\b[^<>\n]*>(?P<body>.*?)</(?P=name)>", re.S
)
_HEADING: Final = re.compile(r"^#{1,6} .*$", re.MULTILINE)
_PARAGRAPHS: Final = re.compile(r"\n[ \t]*\n")
_QUOTES: Final = 150
"""Characters from which on a tag holds material, rather than a value or an instruction."""
_SHORT: Final = 500
"""Characters up to which the end of a prompt is taken for instructions."""
_LABEL: Final = 80
"""Characters of the longest line that announces what stands behind it."""
_OFTEN: Final = 3
"""Times that only material says the same: a notice below each page, a line of each record."""
_ASKS: Final = re.compile(
    r"[?？¿;؟]|\b(?:you|your|du|dein\w*|sie|ihr\w*|vous|votre|tu|ton|usted|tú|você|voi|tuo|jij|je"
    r"|act|write|answer|use|keep|name|list|give|return|reply|respond|do not|don't|never|always|must"
    r"|schreib\w*|nenne\w*|antworte\w*|écri\w+|répond\w+|escrib\w+|respond\w+|scriv\w+)\b|你|您|请",
    re.IGNORECASE,
)
"""Asks, or speaks to the reader."""


def frame_of(messages: Sequence[BaseMessage]) -> list[str]:
    r"""Return the sentences of user messages that frame their material.

    Outside of tags that hold material that is all of a message, and so it is of a short message
    that announces none. Otherwise it is its first paragraph, and the last one where that is short
    and asks or speaks to the reader; under headings, the last section.

    Example:
        >>> text = "You are a clerk. Be brief.\n\nnotes:\nTea is hot.\n\nIce is cold."
        >>> frame_of([HumanMessage(text)])
        ['You are a clerk.', 'Be brief.']
    """
    users = [message for message in messages if isinstance(message, HumanMessage)]
    found: list[str] = []
    for message in users:
        is_last = message is users[-1]
        for part in _framing(text_of(message), is_last=is_last):
            found += [line.strip() for line in _sentences(part) if line.strip()]
    everything = "\n".join(text for m in users if _size(text := text_of(m)) > 2 * _SHORT)
    return [
        line
        for line in dict.fromkeys(found)
        if everything.count(line) < _OFTEN or _ASKS.search(line)
    ]


def holds_all(frame: Sequence[str], messages: Sequence[BaseMessage]) -> bool:
    """Whether every sentence of a frame still stands in *messages*."""
    text = "\n".join(text_of(message) for message in messages)
    return all(line in text for line in frame)


def lines_within(frame: Sequence[str], messages: Sequence[BaseMessage]) -> tuple[str, ...]:
    """Return the sentences of a frame that stand in *messages*: turns may be gone."""
    text = "\n".join(text_of(message) for message in messages)
    return tuple(line for line in frame if line in text)


def _sentences(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from sentences_of(line)


def _framing(text: str, *, is_last: bool) -> Iterator[str]:
    outside, quoted = _without_tags(text)
    if quoted:
        yield outside
        return
    parts = [part for part in _PARAGRAPHS.split(text.strip()) if part.strip()]
    if not parts:
        return
    if _size(text) <= 2 * _SHORT and not _HEADING.search(text) and not any(map(_announces, parts)):
        yield text
        return
    first, last = parts[0], parts[-1]
    if not _announces(first):
        yield first if _size(first) <= 2 * _SHORT else _edges(first)
    if not is_last or len(parts) == 1:
        return
    headings = [found.start() for found in _HEADING.finditer(text)]
    section = text[headings[-1] :] if headings else last
    if _size(section) <= _SHORT and (_ASKS.search(section) or not _ASKS.search(first)):
        yield section
    elif _size(last) <= _SHORT and (_ASKS.search(last) or not _ASKS.search(first)):
        yield last


def _without_tags(text: str) -> tuple[str, bool]:
    """Return the text without what stands in tags, and whether that was any material."""
    quoted = [len(found["body"]) >= _QUOTES for found in _TAGGED.finditer(text)]
    return (_TAGGED.sub("\n", text), True) if any(quoted) else (text, False)


def _size(text: str) -> int:
    """Return the length of a text, in letters of an alphabet: others say more with one."""
    return len(text) + 2 * sum(letter > "\u2e80" for letter in text)


def _announces(paragraph: str) -> bool:
    """Whether a paragraph begins with a line that says what follows it."""
    line = paragraph.strip().split("\n", 1)[0].strip()
    return len(line) <= _LABEL and line.endswith((":", "："))


def _edges(paragraph: str) -> str:
    """Return the first and the last sentence of a long paragraph, as far as they ask."""
    return "\n".join(s for s in _ends(paragraph) if _ASKS.search(s))


def _ends(paragraph: str) -> tuple[str, str]:
    """Return the first and the last sentence of a paragraph."""
    sentences = [line for line in _sentences(paragraph) if line.strip()]
    return sentences[0], sentences[-1]
