"""What must not be torn, whatever a text was taken for: what opens on one line and closes below.

Lines that go on, here-documents, strings and brackets over several lines, blocks between words of a
shell or a makefile, statements of SQL, titles with their rules. Units that share such a stretch are
kept or dropped together, so a wrong reading of a text costs room rather than what it says. What is
too long to be kept holds nothing: a guard around a header, a licence above it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from langchain_tokenopt.compress.bare_code import is_running_text, statement_end
from langchain_tokenopt.compress.indented_blocks import indented_blocks
from langchain_tokenopt.compress.unit import Unit

__all__ = ["held_units"]

LONGEST_HELD: Final = 2_000
"""Characters; of what is longer, lines may go, but not what opens or closes it."""
LONGEST_ENDS: Final = 200
"""Characters of what opens and closes that other lines may cost: dearer ends are no binding."""

LONGEST_REMARK: Final = 400
"""Characters; of a longer one, such as a licence above a file, lines may be kept by themselves."""

Span = tuple[int, int]


def held_units(text: str, units: Sequence[Unit]) -> Iterator[tuple[int, int, bool]]:
    """Yield the first and the last unit that share a stretch, and whether it must stay whole.

    Stretches that share a unit are one, as long as that is short enough to be kept. The ends of
    others are named if they are short, and are left alone if not: whatever stands between them
    could not be kept, either.

    Args:
        text: What the units are parts of.
        units: In their order, without gaps.
    """
    if "\n" not in text:
        return
    whole, loose = _by_units(text.replace("\r\n", " \n"), units)  # the same length
    groups = _Groups(units)
    for first, last in sorted(whole, key=lambda span: units[span[1]].end - units[span[0]].start):
        if not groups.hold(first, last):
            loose.add((first, last))
    yield from groups.found()
    for first, last in sorted(loose):
        if groups.tie(first, last):
            yield first, last, False


def _by_units(text: str, units: Sequence[Unit]) -> tuple[set[Span], set[Span]]:
    """Return the first and last units of stretches that must stay whole, and of others."""
    starts = [unit.start for unit in units]
    values = [0, *accumulate(unit.kind == "json" for unit in units)]
    whole: set[Span] = set()
    loose: set[Span] = set()
    for start, end, is_whole in _stretches(text):
        first = bisect_right(starts, start) - 1
        last = bisect_left(starts, end) - 1
        if not 0 <= first < last:  # within one, or beside those that were found
            continue
        opens_one = "\n" not in units[first].within(text).strip()
        closes = text[end - 1] in _CLOSERS or (units[last].kind == "code" and opens_one)
        is_known = closes and units[last].bound == first  # members may go
        if not is_known and values[first] == values[last + 1]:
            (whole if is_whole else loose).add((first, last))
    return whole, loose


_CLOSERS: Final = "})];"


class _Groups:
    """Which neighbours are one, and what keeping the ends of a longer stretch costs."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._around = [(at, at) for at in range(len(units))]
        self._tied: dict[int, int] = {}
        self._lengths: dict[int, int] = {}

    def hold(self, first: int, last: int) -> bool:
        """Make one of all units from *first* to *last*, unless that is too long."""
        low, high = self._around[first][0], self._around[last][1]
        if self._length(low, high) > LONGEST_HELD:
            return False
        self._around[low : high + 1] = [(low, high)] * (high + 1 - low)
        return True

    def found(self) -> Iterator[tuple[int, int, bool]]:
        """Yield the groups of several units."""
        return ((low, high, True) for low, high in sorted(set(self._around)) if low < high)

    def tie(self, first: int, last: int) -> bool:
        """Let groups be kept together with what is tied to them, unless that is too long."""
        one, other = self._tie_of(first), self._tie_of(last)
        if one == other:
            return True
        length = self._lengths[one] + self._lengths[other]
        if length > LONGEST_ENDS:
            return False
        self._tied[other], self._lengths[one] = one, length
        return True

    def _tie_of(self, at: int) -> int:
        low, high = self._around[at]
        while low in self._tied:
            low = self._tied[low]
        self._lengths.setdefault(low, self._length(low, high))
        return low

    def _length(self, first: int, last: int) -> int:
        return self._units[last].end - self._units[first].start


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
    if _OPENS_REMARK.search(text):
        for start, end in _remarks(text):
            yield start, end, end - start <= LONGEST_REMARK
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
    whole += ((block.start, block.end) for block in indented_blocks(text))
    for start, end in whole:
        yield start, end, True


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
    r"^[^\s#:=][^=\n:]*::?(?![=\w])[^\n]*\n(?:\t(?!(?:at|from) )[^\n]*(?:\n|\Z))+", re.MULTILINE
)

_LONG_FENCE: Final = re.compile(
    r"^(?P<mark>`{4,}|~{4,})\w[^\n]*\n[\s\S]{0,4000}?^(?P=mark)[ \t]*$", re.MULTILINE
)
"""A fence around others."""


_OPENS_REMARK: Final = re.compile(r"/\*|<!--|^[ \t]*(?:<#|\{-|\(\*|--\[\[|=begin\b)", re.MULTILINE)
_CLOSES_REMARK: Final = {
    "/*": "*/", "<!--": "-->", "<#": "#>", "{-": "-}", "(*": "*)", "--[[": "]]", "=begin": "=end",
}  # fmt: skip


def _remarks(text: str) -> Iterator[Span]:
    """Remarks over several lines; where nothing closes one, nothing closes those behind it."""
    open_ones: set[str] = set()
    behind = 0
    for found in _OPENS_REMARK.finditer(text):
        opener = found.group().lstrip(" \t")
        if found.start() < behind or opener in open_ones:
            continue
        closer = _CLOSES_REMARK[opener]
        end = text.find(closer, found.end())
        if end < 0:
            open_ones.add(opener)
            continue
        behind = end + len(closer)
        yield found.start(), behind


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
