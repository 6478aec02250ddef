"""Say the same in fewer tokens: JSON, repeated lines, white space, repeated sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from langchain_tokenopt.compress.json_encoding import Count, encode_json
from langchain_tokenopt.compress.protect import verbatim_spans
from langchain_tokenopt.compress.segments import segments_of
from langchain_tokenopt.compress.units import Unit

__all__ = ["collapse_repeats", "duplicate_units", "lossless", "may_shrink", "squeeze_prose"]

_SPACES = re.compile(r"[ \t\u00a0]{2,}|[ \t]+(?=\r?\n)|(?:\r?\n[ \t]*){3,}")


def squeeze_prose(text: str) -> str:
    """Shorten runs of spaces and blank lines; leave indentation and verbatim spans alone.

    Example:
        >>> squeeze_prose('Wait   here.  He said "a   b".')
        'Wait here. He said "a   b".'
    """
    if not _SPACES.search(text):
        return text
    spans = verbatim_spans(text)

    def shorter(match: re.Match[str]) -> str:
        start, end = match.span()
        if any(a < end and start < b for a, b in spans):
            return match.group()
        if "\n" in match.group():
            return "\n\n"
        at_line_start = start == 0 or text[start - 1] == "\n"
        if end < len(text) and text[end] in "\r\n":
            return ""
        return match.group() if at_line_start else " "

    return _SPACES.sub(shorter, text)


def collapse_repeats(text: str) -> str:
    r"""Write identical log lines that follow each other once, with their number.

    Example:
        >>> collapse_repeats("INFO: up\nERROR: no disk\nERROR: no disk\nERROR: no disk\n")
        'INFO: up\nERROR: no disk [3 times]\n'
    """
    lines = text.splitlines(keepends=True)
    made: list[str] = []
    at = 0
    while at < len(lines):
        end = at + 1
        line = lines[at].rstrip("\r\n")
        while end < len(lines) and lines[end].rstrip("\r\n") == line:
            end += 1
        if end - at > 1 and len(line) > _SHORTEST_REPEAT:
            made.append(f"{line} [{end - at} times]{lines[end - 1][len(line) :]}")
        else:
            made += lines[at:end]
        at = end
    return "".join(made)


_SHORTEST_REPEAT = 8
"""Characters; a shorter line is not worth its count."""


def may_shrink(text: str, *, prose: bool = True) -> bool:
    """Say quickly whether :func:`lossless` could find anything in *text*."""
    if text.lstrip()[:1] in ("{", "[") or "\n{" in text or "\n[" in text:
        return True
    if prose and ("  " in text or " \n" in text or "\n\n\n" in text or "\t" in text):
        return True
    lines = text.splitlines()
    return any(a == b and len(a) > _SHORTEST_REPEAT for a, b in itertools.pairwise(lines))


def lossless(text: str, count: Count, *, prose: bool = True) -> str:
    r"""Apply what fits each segment of *text*: JSON, logs, prose. Code is never touched.

    Args:
        text: Any text.
        count: Decides which encoding is smallest.
        prose: Whether white space in prose is shortened too.

    Example:
        >>> lossless('Result:\n{ "items": [ { "id": 1, "n": 2.50 }, { "id": 2, "n": 3 } ] }', len)
        'Result:\n{"items":[{"id":1,"n":2.50},{"id":2,"n":3}]}'
    """
    whole = encode_json(text, count) if text.lstrip()[:1] in ("{", "[") else None
    if whole is not None:
        return whole
    pieces = []
    for segment in segments_of(text):
        piece = text[segment.start : segment.end]
        if segment.kind == "json":
            encoded = encode_json(piece, count)
            piece = piece if encoded is None else encoded + piece[len(piece.rstrip()) :]
        elif segment.kind == "log":
            piece = collapse_repeats(piece)
        elif prose and segment.kind == "prose":
            piece = squeeze_prose(piece)
        pieces.append(piece)
    return "".join(pieces)


SHORTEST_DUPLICATE = 12
"""Characters; shorter sentences are repeated on purpose."""


def duplicate_units(texts: Sequence[str], units: Sequence[Unit]) -> list[int]:
    """Return the units whose sentence, item, row or block has been said before, word for word.

    Near-duplicate passages are so reduced to the sentences in which they differ. Nothing is lost:
    the first occurrence stays.
    """
    seen: set[str] = set()
    found = []
    for at, unit in enumerate(units):
        if unit.end - unit.start < SHORTEST_DUPLICATE or unit.kind in ("tag", "heading", "label"):
            continue
        key = texts[unit.source][unit.start : unit.end].strip()
        if key in seen and not unit.required:
            found.append(at)
        seen.add(key)
    return found
