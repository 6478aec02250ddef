"""Cut a text into typed segments: prose, code, JSON, tables, lists, logs, turns and so on.

Segments cover the text without gaps or overlaps.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from langchain_tokenopt.compress.bare_code import begins_as_code, code_end
from langchain_tokenopt.compress.blocks import blocks_of, is_rule_below
from langchain_tokenopt.compress.json_units import JSON_BEGINS, JsonFinder, may_hold_json
from langchain_tokenopt.compress.lines_under import ITEM
from langchain_tokenopt.compress.markup import MOST_LINES, markup_end
from langchain_tokenopt.compress.outlines import (
    data_end,
    is_yaml,
    item_end,
    lines_end,
    may_be_yaml,
    tree_end,
    yaml_end,
)
from langchain_tokenopt.compress.python_units import parsed_python
from langchain_tokenopt.compress.records import RecordFinder
from langchain_tokenopt.compress.speech import (
    TURN,
    cues_end,
    is_transcript,
    letter_head_end,
    turn_end,
)
from langchain_tokenopt.compress.tables import table_end
from langchain_tokenopt.compress.unit import Kind

__all__ = ["LABEL", "Kind", "Segment", "is_prose", "label_asks", "label_of_passages", "segments_of"]


class Segment(NamedTuple):
    """A stretch of text of one kind, as character offsets."""

    kind: Kind
    start: int
    end: int


_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_INLINE_FENCE = re.compile(r"(?<=[^`])(`{3,})[\w+-]*[ \t\r]*$")
_HEADING = re.compile(
    r"#{1,6} \S"
    r"|(?:Document|Passage|Doc|Source|Context|Article|Chunk|Result|Search result|Dokument|Quelle"
    r"|Abschnitt|Documento|Pasaje|Fuente|文档|文件|段落|资料)[ #]*\[?\d{1,4}\]?(?=[\s:.(\]）：]|$)"
    r"|\[\d{1,4}\][ (:]?"
    r"|Title: \S|Titel: \S|Título: \S|标题[:：]",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(?P<name>\[|\w+(?: \w+)?[ #]*\[?)\d{1,4}\]?[ :.)）：]+\S")
_LONGEST_ITEM = 120
"""Characters of a line."""
_FARTHEST = 3
"""Blank lines between two of them."""
LABEL = re.compile(
    r"(?:(?P<passages>context|documents?|passages?|sources?|search results?|text|article|excerpts?"
    r"|transcript|background|kontext|dokumente?|texte?|quellen|contexto|documentos?|texto|fuentes"
    r"|上下文|背景|文档|资料|文章)"
    r"|(?P<ask>question|query|task|instructions?|answer|user question|request|output|response|input"
    r"|frage|aufgabe|anweisung(?:en)?|antwort|pregunta|tarea|instrucci[oó]n(?:es)?|respuesta"
    r"|问题|任务|指令|回答|答案))"
    r" ?[:：]",
    re.IGNORECASE,
)
_HEADING_OR_LABEL = re.compile(f"{_HEADING.pattern}|{LABEL.pattern}", re.IGNORECASE)
_SIGN = re.compile(r"[#\d:：]")
_REACH = 40
"""Characters within which a heading or label has such a sign."""
_TAG = re.compile(r"</?[A-Za-z][\w:-]{0,40}(?: [^<>\n]{0,200})?/?>[ \t]*$")
_DIFF = re.compile(r"diff --git |@@ -\d|--- [ab/]|\+\+\+ [ab/]|Index: ")
_HUNK = re.compile(r"@@ -\d+(?:,(?P<old>\d+))? \+\d+(?:,(?P<new>\d+))? @@")


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
    if is_prose(text):
        return [Segment("prose", 0, len(text))]
    return list(_segments_of(text) if len(text) <= _LONGEST_KNOWN else _segmented(text))


def _segmented(text: str) -> list[Segment]:
    if begins_as_code(text) and parsed_python(text) is not None:
        return [Segment("code", 0, len(text))]
    if is_yaml(text):
        return [Segment("data", 0, len(text))]
    return _merged(_Lines(text).classified())


_LONGEST_KNOWN = 1_000_000
_segments_of = lru_cache(maxsize=4)(_segmented)
"""One text is read by several readers, each right after the other."""


def is_prose(text: str) -> bool:
    """Say quickly of most single paragraphs that they are nothing but prose."""
    return "\n" not in text and not _MAY_BE_MORE.match(text) and not may_hold_json(text)


_MAY_BE_MORE = re.compile(r"\s*(?:[<#|\-*+\[{`~]|\w{1,20} ?[(:=]|(?:import|from|def|class)\b)")


def _merged(parts: Iterator[Segment]) -> list[Segment]:
    """Join neighbours of prose and of a chat."""
    found: list[Segment] = []
    for part in parts:
        last = found[-1] if found else None
        if last and last.kind == part.kind and part.kind in ("prose", "turn"):
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
        self.blocks = blocks_of(text, self.starts)
        self.openers = sorted(self.blocks)
        self.is_transcript = is_transcript(self.lines)
        self.records = RecordFinder(self.lines)
        self.json = JsonFinder(text)
        self.patience = 4 * len(self.lines) + MOST_LINES
        """Lines that may still be read in vain for the end of an element."""
        self.tries = 50
        """Lines at which YAML may still be looked for."""
        self.wrapped_until = 0
        """Rows of a paragraph that is known to be running text."""
        self.openings = [match.start() for match in JSON_BEGINS.finditer(text)]

    def classified(self) -> Iterator[Segment]:
        row = 0
        while row < len(self.lines):
            kind, end = self._classify(row)
            start, stop = self.starts[row], self.starts[end]
            found = self._json_in(start, stop) if kind in _MAY_HOLD_JSON else None
            if found and not self._begins_records(row):
                begin, close = found
                if self.text[start:begin].strip():
                    yield Segment(kind, start, begin)
                else:
                    begin = start
                row = bisect_left(self.starts, close)
                rest = self.text[close : self.starts[row]]
                if not re.search(r"\w", rest):
                    close = self.starts[row]
                yield Segment("json", begin, close)
                if close < self.starts[row]:
                    yield Segment("prose", close, self.starts[row])
                continue
            yield Segment(kind, start, stop)
            row = end

    def _begins_records(self, row: int) -> bool:
        return self.records.is_sure(row) or self.records.is_head(row)

    def _holds_records(self, row: int) -> bool:
        """Say whether a tag on a line of its own stands around a log or subtitles."""
        row = self._blank_end(row + 1)
        return row < len(self.lines) and (
            self.records.is_sure(row) or cues_end(self.lines, row) > row
        )

    def _json_in(self, start: int, stop: int) -> tuple[int, int] | None:
        """Return begin and end of the first JSON there that is long, or ends its line."""
        for at in range(bisect_left(self.openings, start), len(self.openings)):
            begin = self.openings[at]
            if begin >= stop:
                return None
            end = self.json.end(begin)
            if end is None:
                continue
            alone = not self.text[start:begin].strip() and not self.text[end:stop].strip()
            is_long = end - begin > LONGEST_INLINE or _SENTENCES.search(self.text, begin, end)
            if alone or is_long or "\n" in self.text[begin:end]:
                return begin, end
        return None

    def _classify(self, row: int) -> tuple[Kind, int]:
        """Return the kind of the segment that begins at *row*, and the row after its end."""
        line = self.lines[row]
        body = line.lstrip(" \t")
        if not body.strip():
            return "prose", self._blank_end(row)
        first = body[0]
        if first in "`~" and (fence := _FENCE.match(line)) and not self._is_rule(row):
            return "code", self._fence_end(row, fence.group(1))
        if line.rstrip("\r\n")[-20:].find("```") >= 0 and (found := _INLINE_FENCE.search(line)):
            end = self._fence_end(row, found.group(1))
            if self.lines[end - 1].strip() == found.group(1):
                return "code", end
        if row in self.blocks:
            return "block", self.blocks[row]
        if first in "{[" and self.json.end(self.starts[row] + len(line) - len(body)):
            return "prose", row + 1
        if first == "<" and not self._holds_records(row):
            end, read = markup_end(self.lines, row, min(self.patience, MOST_LINES))
            if end > row:
                return "data", end
            self.patience -= read
        if first == "<" and _TAG.match(body.rstrip()):
            return "tag", row + 1
        if _DIFF.match(line) or self._names_files(row):
            return "diff", self._diff_end(row)
        has_sign = _SIGN.search(line, 0, _REACH) is not None
        if has_sign and first != "#" and _HEADING.match(line):
            return ("list" if self._stands_for_itself(row) else "heading"), row + 1
        if (end := letter_head_end(self.lines, row)) > row:
            return "heading", end
        if (end := cues_end(self.lines, row)) > row:
            return "log", end
        if (end := self._yaml_end(row)) > row:
            return "data", end
        if self._begins_records(row) and (end := self.records.end(row)) > row:
            is_speech = self._is_turn(line) and self.records.holds_speech(row)
            return "turn" if is_speech else "log", end
        if self.openings and self._announces_json(row):
            return "prose", row + 1
        for kind, find in _BLOCKS:
            end = find(self.lines, row)
            if end > row:
                return kind, end
        if (end := self.records.end(row)) > row:
            return "log", end
        if has_sign and _HEADING.match(line):
            return "heading", row + 1
        if has_sign and LABEL.match(line):
            return "label", row + 1
        if ITEM.match(line) and not self._is_turn(line):
            return "list", item_end(self.lines, row)
        if self._is_turn(line):
            return "turn", turn_end(self.lines, row, LABEL)
        if row < self.wrapped_until:
            return "prose", row + 1
        end, alone = lines_end(self.lines, row, _is_other, self._next_block(row))
        if alone:
            return "list", end
        self.wrapped_until = end
        return "prose", row + 1

    def _stands_for_itself(self, row: int) -> bool:
        """Whether a short numbered line has nothing below it, but its like: "[3] Tea is hot."."""
        number = _NUMBERED.match(self.lines[row])
        if number is None or len(self.lines[row]) > _LONGEST_ITEM:
            return False
        behind = self._blank_end(row + 1)
        if self._is_numbered(behind, number["name"]):
            return True
        ends = behind > row + 1 or behind == len(self.lines)
        before = row - 1
        while before > max(0, row - _FARTHEST) and self.lines[before].isspace():
            before -= 1
        return ends and self._is_numbered(before, number["name"])

    def _is_numbered(self, row: int, name: str) -> bool:
        found = _NUMBERED.match(self.lines[row]) if 0 <= row < len(self.lines) else None
        return found is not None and found["name"] == name

    def _yaml_end(self, row: int) -> int:
        if self.tries <= 0 or not may_be_yaml(self.lines[row]):
            return row
        if self.openings and self._announces_json(row):
            return row
        self.tries -= 1
        return yaml_end(self.lines, row)

    def _next_block(self, row: int) -> int:
        at = bisect_left(self.openers, row)
        return self.openers[at] if at < len(self.openers) else len(self.lines)

    def _announces_json(self, row: int) -> bool:
        """Say whether JSON begins behind words of this line and goes on over others."""
        at = bisect_left(self.openings, self.starts[row])
        if at == len(self.openings) or self.openings[at] >= self.starts[row + 1]:
            return False
        begin = self.openings[at]
        if re.search(r"[=(]", self.text[self.starts[row] : begin]):
            return False
        end = self.json.end(begin)
        return end is not None and end > self.starts[row + 1]

    def _is_turn(self, line: str) -> bool:
        return self.is_transcript and TURN.match(line) is not None

    def _blank_end(self, row: int) -> int:
        while row < len(self.lines) and self.lines[row].isspace():
            row += 1
        return row

    def _fence_end(self, row: int, fence: str) -> int:
        for end in range(row + 1, len(self.lines)):
            line = self.lines[end].strip()
            if line.startswith(fence) and not line.strip(fence[0]):
                return end + 1
        return len(self.lines)

    def _is_rule(self, row: int) -> bool:
        return is_rule_below(self.text, self.starts[row])

    def _names_files(self, row: int) -> bool:
        after = self.lines[row + 1] if row + 1 < len(self.lines) else ""
        return self.lines[row].startswith("--- ") and after.startswith("+++ ")

    def _diff_end(self, row: int) -> int:
        """A hunk, or the lines that name the files."""
        if hunk := _HUNK.match(self.lines[row]):
            return self._hunk_end(row, int(hunk["old"] or 1), int(hunk["new"] or 1))
        end = row + 1
        while end < len(self.lines) and not self.lines[end].startswith(("@@", "diff --git")):
            line = self.lines[end]
            if not (
                _DIFF.match(line)
                or self._names_files(end)
                or self._names_files(end - 1)
                or line.startswith(("index ", "new ", "deleted ", "similarity ", "rename "))
            ):
                break
            end += 1
        return end

    def _hunk_end(self, row: int, old: int, new: int) -> int:
        """As many lines of either side as the first line says."""
        end = row + 1
        while end < len(self.lines) and (old > 0 or new > 0):
            first = self.lines[end][0]
            if first not in " +-\\\r\n":
                break
            old -= first in " -\r\n"
            new -= first in " +\r\n"
            end += 1
        while end < len(self.lines) and self.lines[end][0] == "\\":
            end += 1
        return end


_BLOCKS: tuple[tuple[Kind, Callable[[Sequence[str], int], int]], ...] = (
    ("data", tree_end),
    ("code", code_end),
    ("table", table_end),
    ("data", data_end),
)
"""What is recognised by several lines, in the order in which it is asked for."""
_MAY_HOLD_JSON = frozenset({"prose", "heading", "label", "list", "turn", "tag"})
LONGEST_INLINE = 400
"""Characters. Shorter JSON within a line is part of its sentence, unless it holds several."""
_SENTENCES = re.compile(r"[.!?]\s|[。！？।؟]")


def _is_other(line: str) -> bool:
    """Say whether a line begins something else than what it stands in."""
    first = line.lstrip()[:1]
    return (
        first in "`~#|<"
        or _DIFF.match(line) is not None
        or (_SIGN.search(line, 0, _REACH) is not None and _HEADING_OR_LABEL.match(line) is not None)
        or ITEM.match(line) is not None
    )


def label_asks(text: str, position: int) -> bool:
    """Say whether the label at *position* announces a question or task rather than passages."""
    found = LABEL.match(text, position)
    return found is not None and found.group("ask") is not None


def label_of_passages(text: str, position: int) -> bool:
    """Say whether the label at *position* announces passages, as "Context:" does."""
    found = LABEL.match(text, position)
    return found is not None and found.group("passages") is not None
