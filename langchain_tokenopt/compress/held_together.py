"""What must not be torn, whatever a text was taken for: what opens on one line and closes below.

Lines that go on, here-documents, strings and brackets over several lines, blocks between words of a
shell or a makefile, statements of SQL, titles with their rules. Units that share such a stretch are
kept or dropped together, so a wrong reading of a text costs room rather than what it says.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from langchain_tokenopt.compress.bare_code import is_running_text, statement_end
from langchain_tokenopt.compress.unit import Unit

__all__ = ["held_units"]

LONGEST_HELD: Final = 2_000
"""Characters; of what is longer between brackets, lines may go, but not what opens or closes it."""

Span = tuple[int, int]


def held_units(text: str, units: Sequence[Unit]) -> Iterator[tuple[int, int, bool]]:
    """Yield the first and the last unit that share a stretch, and whether it must stay whole.

    Args:
        text: What the units are parts of.
        units: In their order, without gaps.
    """
    if "\n" not in text:
        return
    text = text.replace("\r\n", " \n")  # the same length
    starts = [unit.start for unit in units]
    for start, end, whole in _stretches(text):
        first = bisect_right(starts, start) - 1
        last = bisect_left(starts, end) - 1
        if 0 <= first < last and not any(u.kind == "json" for u in units[first : last + 1]):
            yield first, last, whole


def _stretches(text: str) -> Iterator[tuple[int, int, bool]]:
    tails = "\n".join([*(line[-_LONGEST_TAIL:] for line in text.split("\n")[:-1]), ""])

    def ends_line(*marks: str) -> bool:
        return any(f"{mark}\n" in tails or f"{mark} \n" in tails for mark in marks)

    whole: list[Span] = []
    if ends_line("\\"):
        whole += _found(_CONTINUED, text)
    if ends_line("&&", "|"):
        whole += _found(_PIPED, text)
    if "<<" in text:
        whole += _documents(text)
    if '"""' in text or "'''" in text:
        for start, end in _found(_TRIPLE, text):
            if _CELL.search(text, start, end):
                continue
            is_delimiter = text[start + 3] == "\n" and is_running_text(text[start:end])
            yield start, end, not is_delimiter
    if "'" in text or '"' in text:
        whole += _strings(text)
    if ends_line('"'):
        whole += _found(_QUOTED, text)
    if any(word in text for word in _CLOSING_WORDS):
        whole += _worded(text)
    if "\n\t" in text:
        whole += _found(_RECIPE, text)
    if ends_line(";"):
        whole += _statements(text)
    if ends_line(*(3 * mark for mark in "=-~^")):
        whole += _titles(text)
    if "````" in text or "~~~~" in text:
        whole += _found(_LONG_FENCE, text)
    if "/*" in text or "<!--" in text:
        whole += _remarks(text)
    if "{{" in text:
        whole += _found(_TEMPLATE, text)
    if "::" in text:
        whole += _found(_LITERAL, text)
    if "\n@" in text or " @" in text or "#" in text:
        whole += _found(_LEADS, text)
    if "\n--" in text:
        whole += _found(_PARTS, text)
    if "\n(" in text or text[:1] == "(":
        whole += _forms(text)
    for start, end in whole:
        yield start, end, True
    if _OPENS_LINE.search(text):
        for start, end in _brackets(text):
            yield start, end, end - start <= LONGEST_HELD


_LONGEST_TAIL: Final = 4
"""Characters at the end of a line that are asked about: three, and a blank."""


def _found(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    return (match.span() for match in pattern.finditer(text))


_CONTINUED: Final = re.compile(
    r"^[^\n]*(?<!\\)\\[ \t]*\r?\n(?:(?:[ \t]*#[^\n]*|[^\n]*(?<!\\)\\[ \t]*\r?)\n)*[^\n]*$",
    re.MULTILINE,
)
_PIPED: Final = re.compile(r"^[^|\n]*(?:&&|\|\||(?<=[\w)\"'] )\|)[ \t]*\n[^\n]*$", re.MULTILINE)
_CELL: Final = re.compile(r"(?<!\")\"\"(?!\")|,\"\"\"|\"\"\",")
"""Quotation marks as tables with commas double them."""
_TRIPLE: Final = re.compile(r"(\"\"\"|''')[\s\S]*?\1")
_RECIPE: Final = re.compile(
    r"^[^\s#:=][^=\n:]*::?(?![=\w])[^\n]*\n(?:\t[^\n]*(?:\n|\Z))+", re.MULTILINE
)

_LONG_FENCE: Final = re.compile(
    r"^(?P<mark>`{4,}|~{4,})\w[^\n]*\n[\s\S]{0,4000}?^(?P=mark)[ \t]*$", re.MULTILINE
)
"""A fence around others."""


def _remarks(text: str) -> Iterator[Span]:
    """Remarks over several lines; where nothing closes one, nothing closes those behind it."""
    for opener, closer in (("/*", "*/"), ("<!--", "-->")):
        start = text.find(opener)
        while start >= 0 and (end := text.find(closer, start + len(opener))) >= 0:
            yield start, end + len(closer)
            start = text.find(opener, end)


_TEMPLATE: Final = re.compile(r"^[ \t]*\{\{(?:[^{}]|\{\{[^{}]*\}\})*\}\}", re.MULTILINE)
_LITERAL: Final = re.compile(
    r"^(?:[^\n]*::|\.\. [\w-]+::[^\n]*)[ \t]*\n(?:[ \t]*\n)*(?P<margin>[ \t]+)\S[^\n]*"
    r"(?:(?:\n[ \t]*)*\n(?P=margin)[^\n]*)*",
    re.MULTILINE,
)
_LEADS: Final = re.compile(
    r"^[ \t]*(?:@[\w.-]+(?:[ \t]+@[\w.-]+)*|#[:,.|~][^\n]*)[ \t\r]*\n(?:[ \t]*[@#][^\n]*\n)*[^\n]+",
    re.MULTILINE,
)
"""Tags of a test or function, and what a catalogue of messages notes above each."""
_QUOTED: Final = re.compile(
    r"^(?:#[^\n]*\n)*[a-z]\w*(?:\[\d+\])? \"[^\n]*\"[ \t]*\n"
    r"(?:(?:[a-z]\w*(?:\[\d+\])? )?\"[^\n]*\"[ \t]*(?:\n|\Z))+",
    re.MULTILINE,
)
"""Names with strings that go on over several lines."""
_PARTS: Final = re.compile(
    r"^--(?P<mark>[^\s-][^\s]{0,69})[ \t\r]*\n[\s\S]{0,20000}?^--(?P=mark)--[ \t\r]*$", re.MULTILINE
)
"""The parts of a letter."""
_FORM: Final = re.compile(r"^\((?=[\w'`(-])", re.MULTILINE)
_IN_FORM: Final = re.compile(r"\"(?:\\.|[^\"\\])*\"|;[^\n]*|[()]")


def _forms(text: str) -> Iterator[Span]:
    """What stands in parentheses from the first column on, over several lines."""
    behind = 0
    for found in _FORM.finditer(text):
        if found.start() < behind:
            continue
        depth = 0
        for token in _IN_FORM.finditer(text, found.start(), found.start() + _LONGEST_FORM):
            depth += (token.group() == "(") - (token.group() == ")")
            if depth == 0:
                behind = token.end()
                yield found.start(), behind
                break


_LONGEST_FORM: Final = 4_000


# --- here-documents and strings ------------------------------------------------------------------

_HERE: Final = re.compile(r"<<(?P<deep>[-~]?)[ \t]*(?P<mark>[\"']?)(?P<name>[A-Za-z_]\w*)(?P=mark)")


def _documents(text: str) -> Iterator[Span]:
    behind = 0
    open_names: set[str] = set()
    for found in _HERE.finditer(text):
        if found.start() < behind or found["name"] in open_names:
            continue
        margin = r"[ \t]*" if found["deep"] else ""
        closing = re.compile(rf"^{margin}{found['name']}[ \t\r]*$", re.MULTILINE)
        if end := closing.search(text, found.end()):
            behind = end.end()
            yield text.rfind("\n", 0, found.start()) + 1, behind
        else:
            open_names.add(found["name"])


_LAST_QUOTE: Final = re.compile(r"[\"'](?<![^\s=(][\"'])(?=\S)[^\n\"']*$", re.MULTILINE)
_BEHIND_QUOTE: Final = re.compile(r"[\s;,)|&}\]]|\Z")
_LONGEST_STRING: Final = 2_000


def _strings(text: str) -> Iterator[Span]:
    """Strings that open behind a blank, a bracket or a sign, and go on over the end of the line."""
    behind = 0
    for found in _LAST_QUOTE.finditer(text):
        start = found.start()
        if start < behind:
            continue
        end = text.find(text[start], found.end(), start + _LONGEST_STRING)
        if end >= 0 and _BEHIND_QUOTE.match(text, end + 1):
            behind = end + 1
            yield text.rfind("\n", 0, start) + 1, behind


# --- blocks between words ------------------------------------------------------------------------

_CLOSING_WORDS: Final = ("fi\n", "done", "esac", "endif", "endef")
_WORDS: Final = re.compile(
    r"^[ \t]*(?:(?P<opens>(?:(?P<if>if)|(?P<case>case)|for|while|until|select)\b"
    r"[^\n]*(?:\b(?:then|do|in)|\n[ \t]*(?:then|do))[ \t]*(?:#[^\n]*)?\r?$"
    r"|(?P<make>ifn?(?:eq|def)\b)|(?P<define>define\b)|#[ \t]*(?P<macro>if(?:n?def)?\b))"
    r"|#?[ \t]*(?P<closes>fi|done|esac|endif|endef)\b)",
    re.MULTILINE,
)
_CLOSES: Final = {"if": "fi", "case": "esac", "make": "endif", "define": "endef", "macro": "endif"}


def _worded(text: str) -> Iterator[Span]:
    opened: list[tuple[str, int]] = []
    for found in _WORDS.finditer(text):
        if found["opens"]:
            kind = next((name for name in _CLOSES if found[name]), "")
            opened.append((_CLOSES.get(kind, "done"), found.start()))
            continue
        names = [name for name, _ in opened]
        if found["closes"] in names:
            at = len(names) - 1 - names[::-1].index(found["closes"])
            yield opened[at][1], found.end()
            del opened[at:]


# --- SQL -----------------------------------------------------------------------------------------

_STATEMENT: Final = re.compile(
    r"^(?:INSERT INTO|REPLACE INTO|CREATE|ALTER TABLE|UPDATE|DELETE FROM|DROP|SELECT"
    r"|WITH \w+ AS)\b",
    re.MULTILINE | re.IGNORECASE,
)


def _statements(text: str) -> Iterator[Span]:
    behind = 0
    for found in _STATEMENT.finditer(text):
        if found.start() >= behind and (end := statement_end(text, found.start())):
            behind = end
            if end - found.start() <= LONGEST_HELD:
                yield found.start(), end


# --- titles --------------------------------------------------------------------------------------

_RULED: Final = re.compile(
    r"^(?:(?P<over>[=\-~^])(?P=over){2,}[ \t\r]*\n)?(?P<title>[^\s|+=][^\n]*)\n"
    r"(?P<under>[=\-~^])(?P=under){2,}[ \t\r]*$",
    re.MULTILINE,
)


def _titles(text: str) -> Iterator[Span]:
    for found in _RULED.finditer(text):
        rule = found.end() - found.end("title") - 1
        title = len(found["title"].strip())
        if abs(rule - title) <= 2 or (found["over"] and title <= rule <= title + 6):
            yield found.span()


# --- brackets ------------------------------------------------------------------------------------

_OPENS_LINE: Final = re.compile(r"[{(\[][ \t]*(?:(?://|#|--|/\*)[^\n]*)?\r?\n")
_PAIRS: Final = {"{": "}", "(": ")", "[": "]"}


def _brackets(text: str) -> Iterator[Span]:
    """What opens at the end of a line, until the first line that is not deeper, which closes it."""
    opened: list[tuple[int, str, int]] = []
    at = 0
    for line in text.splitlines(keepends=True):
        body = line.lstrip(" \t")
        if body.strip():
            indent = len(line) - len(body)
            begin = at
            while opened and indent <= opened[-1][0]:
                above, closer, start = opened.pop()
                if indent == above and body[0] == closer:
                    begin = start
                    yield start, at + len(line.rstrip())
            if found := _OPENS_LINE.search(line if line.endswith("\n") else f"{line}\n"):
                opened.append((indent, _PAIRS[found.group()[0]], begin))
        at += len(line)
