"""Cut a text into typed segments: prose, code, JSON, tables, lists, logs, turns and so on.

Segments cover the text without gaps or overlaps.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "ITEM",
    "LABEL",
    "LOG",
    "TURN",
    "Kind",
    "Segment",
    "json_end",
    "label_asks",
    "segments_of",
]

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


_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(
    r"#{1,6} \S"
    r"|(?:Document|Passage|Doc|Source|Context|Article|Chunk|Result|Search result|Dokument|Quelle"
    r"|Abschnitt|Documento|Pasaje|Fuente|文档|文件|段落|资料)[ #]*\[?\d{1,4}\]?(?=[\s:.(\]）：]|$)"
    r"|\[\d{1,4}\][ (:]?"
    r"|Title: \S|Titel: \S|Título: \S|标题[:：]",
    re.IGNORECASE,
)
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
_TAG = re.compile(r"</?[A-Za-z][\w:-]{0,40}(?: [^<>\n]{0,200})?/?>[ \t]*$")
ITEM = re.compile(r"[ \t]*(?:[-*+•‣]|\d{1,3}[.)]|[a-z][.)])[ \t]+\S")
LOG = re.compile(
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
TURN = re.compile(r"(?P<who>[A-ZÄÖÜÁÉÍÓÚ\u4e00-\u9fff][\w .,'’&()-]{0,60}?)[:：] ?(?=\S)")
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
        if LOG.match(line):
            return "log", row + 1
        if _HEADING.match(line):
            return "heading", row + 1
        if LABEL.match(line):
            return "label", row + 1
        if ITEM.match(line):
            return "list", self._item_end(row)
        if self.is_transcript and TURN.match(line):
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
        speakers = [m.group("who") for line in self.lines if (m := TURN.match(line))]
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
            and not ITEM.match(self.lines[end])
        ):
            end += 1
        return end

    def _turn_end(self, row: int) -> int:
        end = row + 1
        while (
            end < len(self.lines)
            and not TURN.match(self.lines[end])
            and not LABEL.match(self.lines[end])
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
        if error.doc is text:
            return -max(1, error.pos)
        # A string that goes on behind the glance is reported where it begins.
        if error.pos < _GLANCE - 100 and not error.msg.startswith("Unterminated string"):
            return -1
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


def label_asks(text: str, position: int) -> bool:
    """Say whether the label at *position* announces a question or task rather than passages."""
    found = LABEL.match(text, position)
    return found is not None and found.group("ask") is not None
