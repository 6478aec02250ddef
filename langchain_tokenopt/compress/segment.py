"""Cut a text into typed segments, and segments into the units that are kept or dropped.

Segments cover the text without gaps or overlaps. So do units, which never cross a segment: a
sentence of prose, an item of a list, a row of a table, a line of a log, a hunk of a diff, a turn of
a conversation, a whole code block or JSON value. Line breaks belong to the unit before them, spaces
to the unit after them, as byte-pair tokenizers see it, so the tokens of units add up.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from langchain_tokenopt.compress.protect import quoted_spans, verbatim_spans

__all__ = ["Kind", "Segment", "Unit", "segments_of", "sentence_ends", "units_of"]

Kind = Literal[
    "prose",
    "heading",
    "label",
    "tag",
    "code",
    "json",
    "table",
    "list",
    "log",
    "diff",
    "turn",
    "example",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of text of one kind, as character offsets."""

    kind: Kind
    start: int
    end: int


@dataclass(slots=True)
class Unit:
    """The smallest piece that is kept or dropped as a whole."""

    start: int
    end: int
    kind: Kind = "prose"
    source: int = 0
    """Which text it stands in."""
    passage: int = 0
    """Which passage it belongs to; units of a passage are ranked together."""
    head: int = -1
    """Index of the unit without which this one makes no sense: a title, a table's header."""
    bound: int = -1
    """Index of the unit together with which this one is kept or dropped: an end tag its start."""
    required: bool = False
    tokens: int = 0
    overhead: int = 0
    """Tokens around the text that are paid with it, such as a message's frame."""


_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(
    r"#{1,6} \S"
    r"|(?:Document|Passage|Doc|Source|Context|Article|Chunk|Result|Search result|Dokument|Quelle"
    r"|Abschnitt|Documento|Pasaje|Fuente|文档|文件|段落|资料)[ #]*\[?\d{1,4}\]?(?=[\s:.(\]）：]|$)"
    r"|\[\d{1,4}\][ (:]?"
    r"|Title: \S|Titel: \S|Título: \S|标题[:：]",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"(?:(?P<passages>context|documents?|passages?|sources?|search results?|text|article|excerpts?"
    r"|transcript|background|kontext|dokumente?|texte?|quellen|contexto|documentos?|texto|fuentes"
    r"|上下文|背景|文档|资料|文章)"
    r"|(?P<ask>question|query|task|instructions?|answer|user question|request|output|response|input"
    r"|frage|aufgabe|anweisung(?:en)?|antwort|pregunta|tarea|instrucci[oó]n(?:es)?|respuesta"
    r"|问题|任务|指令|回答|答案))"
    r" ?[:：]",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[A-Za-z][\w:-]{0,40}(?: [^<>\n]{0,200})?/?>[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+•‣]|\d{1,3}[.)]|[a-z][.)])[ \t]+\S")
_LOG = re.compile(
    r"\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d|\[?\d\d:\d\d:\d\d[.,\] ]"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\[?(?:DEBUG|INFO|WARN|WARNING|ERROR|FATAL|TRACE|CRITICAL)\b[\]: ]"
)
_DIFF = re.compile(r"diff --git |@@ -\d|--- [ab/]|\+\+\+ [ab/]|Index: ")
_CODE = re.compile(
    r"(?:async )?def \w+\s*\(|class \w+[\s(:{]|(?:from [\w.]+ )?import [\w.*{]|@\w[\w.]*(?:\(|$)"
    r"|#include\b|#!/|using [\w:.]+;|package [\w.]+;?$|namespace \w+|func \w*\s*\(|fn \w+|impl\b"
    r"|(?:export |default )?(?:async )?function\b|(?:export )?(?:const|let|var) \w+\s*[=:]"
    r"|(?:public|private|protected|static) [\w<>\[\]]+|(?:if|for|while|switch|try|else|elif"
    r"|except)\b.*[:{]$"
    r"|return\b[^.]*;?$|\w+(?:\.\w+)*\s*[-+*/|&]?=\s*[^=\s].*|\w+(?:\.\w+)*\([^)]*\);?$|[)\]}]+[;,]?$"
    r"|SELECT\b.*\b(?:FROM|$)|CREATE (?:TABLE|INDEX)\b|INSERT INTO\b"
)
_CODE_START = re.compile(
    r"\w+ ?= ?[rbf]?(?:\"\"\"|\'\'\')|(?:async )?def \w+\s*\(.*|class \w+[(:{].*"
    r"|class \w+ ?[:{]|(?:from [\w.]+ )?import [\w.*{][\w.*{}, ]*;?$"
    r"|@\w[\w.]*(?:\(|$)"
    r"|#include\b|#!/|using [\w:.]+;|package [\w.]+;?$|func \w*\s*\(|fn \w+\s*[(<]"
    r"|(?:export |default )?(?:async )?function\b ?\w*\(|(?:export )?(?:const|let|var) \w+\s*=\s"
)
_TURN = re.compile(r"(?P<who>[A-ZÄÖÜÁÉÍÓÚ\u4e00-\u9fff][\w .,'’&()-]{0,60}?)[:：] ?(?=\S)")
_TRIPLE = re.compile(r'"""|\'\'\'')


def segments_of(text: str) -> list[Segment]:
    r"""Return the typed segments of *text*, in order and without gaps.

    An unclosed fence is code to the end of the text. What looks like JSON but cannot be parsed is
    prose like any other.

    Example:
        >>> [s.kind for s in segments_of('Totals:\n| a | b |\n|---|---|\n| 1 | 2 |\nSo be it.')]
        ['prose', 'table', 'prose']
    """
    if not text:
        return []
    if "\n" not in text and text[0] not in "{[<#|" and not _CODE_START.match(text):
        return [Segment("prose", 0, len(text))]
    return _merged(_Lines(text).classified())


def _merged(parts: Iterator[Segment]) -> list[Segment]:
    """Join neighbours of the same kind, except headings, tags, code blocks and JSON values."""
    found: list[Segment] = []
    for part in parts:
        last = found[-1] if found else None
        if (
            last
            and last.kind == part.kind
            and part.kind in ("prose", "table", "list", "log", "turn")
        ):
            found[-1] = Segment(part.kind, last.start, part.end)
        else:
            found.append(part)
    return found


class _Lines:
    """The lines of a text, classified one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines(keepends=True)
        self.starts: list[int] = []
        position = 0
        for line in self.lines:
            self.starts.append(position)
            position += len(line)
        self.starts.append(position)
        self.is_transcript = self._is_transcript()
        self.patience = 2 * len(text) + 1_000
        """Characters that failing JSON parses may still read: keeps the whole linear."""

    def classified(self) -> Iterator[Segment]:
        row = 0
        while row < len(self.lines):
            kind, end = self._classify(row)
            yield Segment(kind, self.starts[row], self.starts[end])
            row = end

    def _classify(self, row: int) -> tuple[Kind, int]:
        """Return the kind of the segment that begins at *row*, and the row after its end."""
        line = self.lines[row]
        body = line.lstrip(" \t")
        if not body.strip():
            return "prose", self._blank_end(row)
        first = body[0]
        if first in "`~" and (fence := _FENCE.match(line)):
            return "code", self._fence_end(row, fence.group(1))
        if first in "{[" and (end := self._json_end(row, len(line) - len(body))):
            return "json", end
        if first == "|" and body.rstrip().endswith("|"):
            return "table", row + 1
        if first == "<" and _TAG.match(body.rstrip()):
            return "tag", row + 1
        if _DIFF.match(line):
            return "diff", self._diff_end(row)
        if _CODE_START.match(line.rstrip()):
            return "code", self._code_end(row)
        if _LOG.match(line):
            return "log", row + 1
        if _HEADING.match(line):
            return "heading", row + 1
        if _LABEL.match(line):
            return "label", row + 1
        if _ITEM.match(line):
            return "list", self._item_end(row)
        if self.is_transcript and _TURN.match(line):
            return "turn", self._turn_end(row)
        return "prose", row + 1

    def _blank_end(self, row: int) -> int:
        while row < len(self.lines) and self.lines[row].isspace():
            row += 1
        return row

    def _is_transcript(self) -> bool:
        """A conversation: speakers come back, and most lines are somebody's."""
        if len(self.lines) < 4:
            return False
        speakers = [m.group("who") for line in self.lines if (m := _TURN.match(line))]
        filled = sum(1 for line in self.lines if not line.isspace())
        return (
            len(speakers) >= 4
            and len(speakers) * 3 >= filled
            and len(set(speakers)) * 2 <= len(speakers)
        )

    def _fence_end(self, row: int, fence: str) -> int:
        for end in range(row + 1, len(self.lines)):
            line = self.lines[end].strip()
            if line.startswith(fence) and not line.strip(fence[0]):
                return end + 1
        return len(self.lines)

    def _json_end(self, row: int, indent: int) -> int | None:
        if self.patience <= 0:
            return None
        start = self.starts[row] + indent
        end = json_end(self.text, start)
        if end < 0:
            self.patience += end
            return None
        last = bisect_right(self.starts, end - 1) - 1
        rest = self.text[end : self.starts[last + 1]]
        return None if rest.strip() else last + 1

    def _diff_end(self, row: int) -> int:
        """A hunk, or the lines that name the files."""
        in_hunk = self.lines[row].startswith("@@")
        end = row + 1
        while end < len(self.lines):
            line = self.lines[end]
            if line.startswith("@@") or line.startswith("diff --git"):
                break
            if in_hunk and line[0] not in " +-\\\r\n":
                break
            if not in_hunk and not (
                _DIFF.match(line)
                or line.startswith(("index ", "new ", "deleted ", "similarity ", "rename "))
            ):
                break
            end += 1
        return end

    def _code_end(self, row: int) -> int:
        """Code runs on over indented and blank lines, code-like lines, and open triple quotes."""
        quote, end, filled = "", row, row + 1
        while end < len(self.lines):
            line = self.lines[end]
            if not quote and end > row and not self._goes_on(line):
                break
            for match in _TRIPLE.finditer(line):
                quote = "" if quote == match.group() else quote or match.group()
            end += 1
            if line.strip():
                filled = end
        return len(self.lines) if end == len(self.lines) else max(filled, row + 1)

    @staticmethod
    def _goes_on(line: str) -> bool:
        body = line.rstrip()
        return (
            not body
            or body[0] in " \t#}])"
            or body.startswith(("//", "/*", " *"))
            or _CODE.match(body) is not None
        )

    def _item_end(self, row: int) -> int:
        end = row + 1
        while (
            end < len(self.lines)
            and self.lines[end][:2] in ("  ", "\t")
            and self.lines[end].strip()
            and not _ITEM.match(self.lines[end])
        ):
            end += 1
        return end

    def _turn_end(self, row: int) -> int:
        end = row + 1
        while (
            end < len(self.lines)
            and not _TURN.match(self.lines[end])
            and not _LABEL.match(self.lines[end])
            and self.lines[end].strip()
        ):
            end += 1
        return end


_decoder = json.JSONDecoder()


def json_end(text: str, start: int) -> int:
    """Return where the JSON array or object that begins at *start* ends.

    Returns:
        A negative number when there is none: minus the characters that were read in vain. Empty
        and tiny values (``[1]``, ``{}``), which prose also contains, count as none.
    """
    if not _JSON_BEGINS.match(text, start):
        return -1
    try:
        if len(text) - start > _GLANCE:
            # The error's line number is counted from the beginning of the text: keep that short.
            _decoder.raw_decode(text[start : start + _GLANCE])
        value, end = _decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if error.doc is text or error.pos < _GLANCE - 100:
            return -max(1, error.pos if error.doc is text else 1)
        return _whole_json_end(text, start)
    except RecursionError:
        return -max(1, len(text) - start)
    return _json_or_less(value, end)


def _whole_json_end(text: str, start: int) -> int:
    """Parse JSON that is longer than a glance."""
    try:
        value, end = _decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        return -max(1, error.pos)
    except RecursionError:
        return -max(1, len(text) - start)
    return _json_or_less(value, end)


_GLANCE = 2_000
_JSON_BEGINS = re.compile(r"\{\s*[\"}]|\[\s*[\[{\"\d\-tfn\]]")


def _json_or_less(value: Any, end: int) -> int:
    if isinstance(value, dict) or (isinstance(value, list) and len(value) > 1):
        return end if value else -1
    return end if isinstance(value, list) and value and isinstance(value[0], dict | list) else -1


# --- sentences -----------------------------------------------------------------------------------

_END = re.compile(
    r"[.!?…。！？\n](?:"
    r"(?<=[.!?…])[.!?…]*[\"'”’)\]»*_]*(?:[ \t]*[\r\n]+|(?=[ \t]+[\"'“‘„«(\[¿¡*_]*[^\W_a-z]))"
    r"|(?<=[。！？])[。！？]*[”』」）]*[ \t]*[\r\n]*"
    r"|(?<=\n)[ \t]*\r?\n\s*"
    r")"
)
"""Begins with one class of characters, by which the scanner of ``re`` skips everything else."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS = _words(
    """
    Mr Mrs Ms Dr St Jr Sr vs No Nr Prof Gen Col Lt Sgt Capt Rev Hon Inc Ltd Co Corp approx Jan Feb
    Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Fig Vol pp ca cf bzw usw Abs Art Bd Hr Fr Sra Dra Ud
    Uds e.g i.e z.B d.h u.a U.S U.K E.U
    """
)


def _abbreviates(text: str, start: int, dot: int) -> bool:
    """Say whether the full stop at *dot* ends an abbreviation, initial or ordinal (3. Mai)."""
    word = text[text.rfind(" ", max(start, dot - 8), dot) + 1 : dot].lstrip("([\"“„'")
    if word.isdigit() and len(word) < 3:
        before = text[max(start, dot - 16) : dot].split()
        return len(before) < 2 or before[-2].lower() in _BEFORE_ORDINALS
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isupper())


_BEFORE_ORDINALS = frozenset(
    ["am", "der", "dem", "den", "des", "die", "das", "vom", "zum", "im", "seit"]
)
"""German writes "am 3. Mai" where English sentences end in "at 3." as well."""

LONGEST_SENTENCE = 700
"""Characters. What is longer is no sentence (an endless line, a list in disguise) and is cut at
line breaks, then clauses, then words, then anywhere."""
_PIECE = 300
_BREAKS = (re.compile(r"[\r\n]+"), re.compile(r"[;；，、,:]\s*"), re.compile(r"(?=[ \t\u3000])"))


def sentence_ends(text: str, start: int, end: int) -> list[int]:
    """Return where each sentence of ``text[start:end]`` ends; the last one is *end*.

    No sentence ends inside a quotation, a placeholder or inline code.

    Example:
        >>> text = "Dr. Who paid 3.5 EUR. It rained."
        >>> sentence_ends(text, 0, len(text))
        [21, 32]
    """
    ends = []
    for match in _END.finditer(text, start, end):
        at, cut = match.span()
        if text[at] != "." or text[cut - 1] == "\n" or not _abbreviates(text, start, at):
            ends.append(cut)
    if not ends or ends[-1] != end:
        ends.append(end)
    if len(ends) > 1:
        ends = _outside_quotations(text, start, end, ends)
    if len(ends) > 1 and not text[ends[-2] : end].strip():
        ends.pop(-2)
    if end - start > LONGEST_SENTENCE:
        ends = list(_cut_long(text, start, ends))
    return ends


def _outside_quotations(text: str, start: int, end: int, ends: list[int]) -> list[int]:
    """Leave out the ends that fall into a quotation, a placeholder or code."""
    spans = quoted_spans(text, start, end)
    if not spans:
        return ends
    starts = [first for first, _ in spans]
    free = []
    for cut in ends:
        at = bisect_right(starts, cut - 1) - 1
        if cut == end or at < 0 or spans[at][1] <= cut:
            free.append(cut)
    return free


def _cut_long(text: str, start: int, ends: list[int]) -> Iterator[int]:
    for end in ends:
        if end - start > LONGEST_SENTENCE:
            yield from _pieces(text, start, end)
        yield end
        start = end


def _pieces(text: str, start: int, end: int) -> Iterator[int]:
    """Yield cuts some 300 characters apart, at the best kind of break there is in reach."""
    spans = [(a + start, b + start) for a, b in verbatim_spans(text[start:end])]
    starts = [a for a, _ in spans]
    position = start
    while end - position > LONGEST_SENTENCE:
        cut = _best_break(text, position + _PIECE // 2, position + 2 * _PIECE)
        at = bisect_right(starts, cut - 1) - 1
        if at >= 0 and spans[at][0] < cut < spans[at][1]:
            cut = spans[at][1]
        if cut >= end:
            return
        yield cut
        position = cut


def _best_break(text: str, earliest: int, latest: int) -> int:
    for pattern in _BREAKS:
        found = pattern.search(text, earliest, latest)
        if found and found.end() > earliest:
            return found.end()
    return earliest + _PIECE // 2


# --- units ---------------------------------------------------------------------------------------


def units_of(text: str, segments: list[Segment] | None = None) -> list[Unit]:
    r"""Cut *text* into units; they cover it without gaps.

    Example:
        >>> text = "It rained. We stayed.\n- tea\n- cake\n"
        >>> [text[u.start:u.end] for u in units_of(text)]
        ['It rained.', ' We stayed.\n', '- tea\n', '- cake\n']
    """
    units: list[Unit] = []
    for segment in segments_of(text) if segments is None else segments:
        kind, start = segment.kind, segment.start
        if units and text[start : segment.end].isspace():
            units[-1].end = segment.end
        elif kind == "prose":
            for end in sentence_ends(text, start, segment.end):
                units.append(Unit(start, end))
                start = end
        elif kind == "table":
            _table_units(text, segment, units)
        elif kind == "label":
            _split_unit(text, segment, _label_end(text, segment), units)
        elif kind == "heading":
            _split_unit(text, segment, _heading_end(text, segment), units)
        elif kind in ("list", "log", "turn"):
            for end in _line_ends(text, segment):
                units.append(Unit(start, end, kind))
                start = end
        else:
            units.append(Unit(start, segment.end, kind))
    return units


def _split_unit(text: str, segment: Segment, cut: int, units: list[Unit]) -> None:
    """The heading or label, then the sentences that stand behind it on the same line."""
    if not text[cut : segment.end].strip():
        cut = segment.end
    head = len(units)
    units.append(Unit(segment.start, cut, segment.kind))
    if cut < segment.end:
        for end in sentence_ends(text, cut, segment.end):
            units.append(Unit(cut, end, head=head))
            cut = end


def _label_end(text: str, segment: Segment) -> int:
    found = _LABEL.match(text, segment.start, segment.end)
    return found.end() if found else segment.end


_NUMBERED = re.compile(
    r"(?:[^\W\d_]+ )?(?:[^\W\d_]+[ #]*)?\[?\d{1,4}\]?"
    r"(?: ?\([^()\n]{0,200}(?:\([^()\n]{0,100}\)[^()\n]{0,200})?\)| ?[:.：])?"
)
LONGEST_TITLE = 140
"""Characters; what stands behind a number on a longer line is text rather than a title."""


def _heading_end(text: str, segment: Segment) -> int:
    """Return where a heading ends when text follows it on the same line."""
    if segment.end - segment.start <= LONGEST_TITLE and text[segment.start] == "#":
        return segment.end
    found = _NUMBERED.match(text, segment.start, segment.end)
    if found is None:
        return segment.end
    has_title = text[found.end() - 1] == ")"
    return found.end() if has_title or segment.end - segment.start > LONGEST_TITLE else segment.end


def label_asks(text: str, position: int) -> bool:
    """Say whether the label at *position* announces a question or task rather than passages."""
    found = _LABEL.match(text, position)
    return found is not None and found.group("ask") is not None


def _line_ends(text: str, segment: Segment) -> Iterator[int]:
    """Yield the end of each item, log line or turn, with the lines that continue it."""
    begins = {"list": _ITEM, "log": _LOG, "turn": _TURN}[segment.kind]
    position = segment.start
    for line in text[segment.start : segment.end].splitlines(keepends=True):
        if position > segment.start and begins.match(line):
            yield position
        position += len(line)
    yield segment.end


def _table_units(text: str, segment: Segment, units: list[Unit]) -> None:
    """A unit per row; the header with its rule is the head of the rows."""
    rows = text[segment.start : segment.end].splitlines(keepends=True)
    has_rule = len(rows) > 1 and not rows[1].strip("|:- \t\r\n")
    header = 2 if has_rule else 0
    position, head = segment.start, -1
    if header:
        head = len(units)
        units.append(Unit(position, position + len(rows[0]) + len(rows[1]), "table"))
        position = units[-1].end
    for row in rows[header:]:
        units.append(Unit(position, position + len(row), "table", head=head))
        position += len(row)
