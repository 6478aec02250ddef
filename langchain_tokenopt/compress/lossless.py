"""Say the same in fewer tokens: exact JSON encodings, repeated lines, white space, duplicates.

Every JSON encoding is decoded again and compared with the original before it is used: same keys in
the same order, same strings, numbers digit for digit as they were written (``1.0`` stays ``1.0``).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from langchain_tokenopt.compress.protect import verbatim_spans
from langchain_tokenopt.compress.segment import Unit, segments_of

__all__ = [
    "collapse_repeats",
    "compact_json",
    "decode_json",
    "duplicate_units",
    "encode_json",
    "lossless",
    "may_shrink",
    "squeeze_prose",
]

Count = Callable[[str], int]


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


class _AmbiguousJsonError(ValueError):
    """An object has the same key twice: re-writing it would change what parsers see."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _AmbiguousJsonError("the same key twice")
    return made


def _constant(name: str) -> Any:
    raise _AmbiguousJsonError(f"{name} is no JSON")


_exact = json.JSONDecoder(
    parse_float=_Number, parse_int=_Number, parse_constant=_constant, object_pairs_hook=_object
)


def parse_json(text: str) -> Any:
    """Parse JSON with numbers as written (as strings of a private type).

    Raises:
        ValueError: If it is no JSON, or ambiguous.
        RecursionError: If it is nested too deeply.
    """
    return _exact.decode(text.strip())


# --- writing -------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(text)
    return written


def compact_json(value: Any) -> str:
    """Write parsed JSON without any white space, numbers as they were.

    Example:
        >>> compact_json(parse_json('{ "price": 1.50, "tags": [ "a", "b" ] }'))
        '{"price":1.50,"tags":["a","b"]}'
    """
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(k)}:{compact_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact_json, value)) + "]"
    return _LITERALS[value]


_LITERALS: Final = {True: "true", False: "false", None: "null"}
_BARE_KEY = re.compile(r"[\w$@.-](?:[\w $@.-]*[\w$@.-])?")
_BARE = re.compile(
    r"[^\s,|\[\]{}\"\x00-\x1f\ud800-\udfff](?:[^,|\]}\r\n\x00-\x1f\ud800-\udfff]*[^\s,|\]}\x00-\x1f\ud800-\udfff])?"
)
"""Strings that need no quotes: nothing in them reads as punctuation."""
_WORDS: Final = frozenset({"true", "false", "null"})


def _bare(text: str) -> str:
    """Write a string without quotes where it cannot be taken for a number or a literal."""
    if _BARE.fullmatch(text) and text not in _WORDS and not _NUMERAL.fullmatch(text):
        return text
    return _quoted(text)


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _quoted(text)


_NUMERAL = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


class _Writer:
    """Writes JSON without needless quotes, and lists of like objects as tables.

    A table is a line of keys and a line per row, in brackets; keys of nested objects stand in
    braces: ``[id,price{net,gross}`` then ``1,5,6`` then ``2,7,8]``. A key whose value is the same
    in
    all rows is written once: ``currency=EUR``.
    """

    def __init__(self, *, tables: bool, hoist: bool) -> None:
        self.tables = tables
        self.hoist = hoist

    def write(self, value: Any) -> str:
        if isinstance(value, _Number):
            return str(value)
        if isinstance(value, str):
            return _bare(value)
        if isinstance(value, dict):
            return "{" + ",".join(f"{_key(k)}:{self.write(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            schema = _schema(value) if self.tables and len(value) > 1 else None
            if schema:
                return self._table(value, schema)
            return "[" + ",".join(map(self.write, value)) + "]"
        return _LITERALS[value]

    def _table(self, rows: list[Any], schema: _Schema) -> str:
        constants = _constants(rows, schema) if self.hoist and len(rows) > 2 else {}
        header = self._header(schema, constants, ())
        lines = [header, *(",".join(self._cells(row, schema, constants, ())) for row in rows)]
        return "[" + "\n".join(lines) + "]"

    def _header(self, schema: _Schema, constants: dict[Any, Any], path: tuple[str, ...]) -> str:
        parts = []
        for key, inner in schema.items():
            here = (*path, key)
            if inner is not None:
                parts.append(f"{_key(key)}{{{self._header(inner, constants, here)}}}")
            elif here in constants:
                parts.append(f"{_key(key)}={self.write(constants[here])}")
            else:
                parts.append(_key(key))
        return ",".join(parts)

    def _cells(
        self, row: Any, schema: _Schema, constants: dict[Any, Any], path: tuple[str, ...]
    ) -> Iterator[str]:
        for key, inner in schema.items():
            here = (*path, key)
            if inner is not None:
                yield from self._cells(row[key], inner, constants, here)
            elif here not in constants:
                yield self.write(row[key])


_Schema = dict[str, Any]
"""Key to ``None``, or to the schema of an object that every row has there."""


def _schema(rows: list[Any]) -> _Schema | None:
    """Return what all rows have in common, when all are objects with the same keys in one order."""
    if not all(isinstance(row, dict) and row for row in rows):
        return None
    keys = list(rows[0])
    if any(list(row) != keys for row in rows):
        return None
    return {key: _schema([row[key] for row in rows]) for key in keys}


def _constants(rows: list[Any], schema: _Schema) -> dict[tuple[str, ...], Any]:
    """Return the leaves that are the same in all rows; never all of them."""
    found: dict[tuple[str, ...], Any] = {}
    leaves = list(_leaves(schema, ()))
    for path in leaves:
        first = _at(rows[0], path)
        if all(same_json(_at(row, path), first) for row in rows[1:]):
            found[path] = first
    if len(found) == len(leaves):
        found.popitem()
    return found


def _leaves(schema: _Schema, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, inner in schema.items():
        if inner is None:
            yield (*path, key)
        else:
            yield from _leaves(inner, (*path, key))


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        row = row[key]
    return row


def same_json(left: Any, right: Any) -> bool:
    """Say whether two parsed values are the same, in types, key order and the digits of numbers."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same_json(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


# --- reading -------------------------------------------------------------------------------------


class _Reader:
    """Reads what :class:`_Writer` writes, and plain JSON as well."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def whole(self) -> Any:
        value = self.value()
        if self.at != len(self.text):
            raise ValueError(f"unexpected {self.text[self.at]!r} at {self.at}")
        return value

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> None:
        if not self.text.startswith(expected, self.at):
            raise ValueError(f"expected {expected!r} at {self.at}, got {self.peek()!r}")
        self.at += len(expected)

    def value(self) -> Any:
        first = self.peek()
        if first == "{":
            return self.object()
        if first == "[":
            return self.array()
        if first == '"':
            return self.string()
        return self.word()

    def string(self) -> str:
        value, self.at = _exact.raw_decode(self.text, self.at)
        if not isinstance(value, str):
            raise ValueError(f"expected a string at {self.at}")
        return value

    def word(self) -> Any:
        end = _WORD_END.search(self.text, self.at)
        stop = end.start() if end else len(self.text)
        word = self.text[self.at : stop]
        self.at = stop
        if word in _WORDS:
            return json.loads(word)
        if _NUMERAL.fullmatch(word):
            return _Number(word)
        if not word:
            raise ValueError(f"expected a value at {self.at}")
        return word

    def key(self) -> str:
        if self.peek() == '"':
            return self.string()
        found = _KEY_END.search(self.text, self.at)
        stop = found.start() if found else len(self.text)
        key = self.text[self.at : stop]
        self.at = stop
        return key

    def object(self) -> dict[str, Any]:
        self.take("{")
        made: dict[str, Any] = {}
        while self.peek() != "}":
            if made:
                self.take(",")
            key = self.key()
            self.take(":")
            made[key] = self.value()
        self.take("}")
        return made

    def array(self) -> list[Any]:
        table = self.table()
        if table is not None:
            return table
        self.take("[")
        made: list[Any] = []
        while self.peek() != "]":
            if made:
                self.take(",")
            made.append(self.value())
        self.take("]")
        return made

    def table(self) -> list[Any] | None:
        """Read a table; go back and return ``None`` when the list is none."""
        start = self.at
        try:
            self.take("[")
            columns = self.columns("\n")
        except ValueError:
            self.at = start
            return None
        rows = []
        while self.peek() == "\n":
            self.at += 1
            rows.append(self.row(columns, [True]))
        self.take("]")
        return rows

    def columns(self, stops: str) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        while True:
            key = self.key()
            after = self.peek()
            if after == "{":
                self.at += 1
                inner = self.columns("}")
                self.take("}")
                found.append((key, inner))
            elif after == "=":
                self.at += 1
                found.append((key, _Constant(self.value())))
            else:
                found.append((key, None))
            if self.peek() != ",":
                break
            self.at += 1
        if not self.peek() or self.peek() not in stops:
            raise ValueError(f"no table at {self.at}")
        return found

    def row(self, columns: list[tuple[str, Any]], first: list[bool]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, inner in columns:
            if isinstance(inner, _Constant):
                made[key] = inner.value
            elif inner is not None:
                made[key] = self.row(inner, first)
            else:
                if not first[0]:
                    self.take(",")
                first[0] = False
                made[key] = self.value()
        return made


class _Constant:
    """The value of a hoisted column."""

    def __init__(self, value: Any) -> None:
        self.value = value


_WORD_END = re.compile(r"[,|\]}\n]")
_KEY_END = re.compile(r"[,:={}|\]\n\[\"]")


def decode_json(encoded: str) -> Any:
    r"""Read an encoding of :func:`encode_json`; numbers come back as strings of their digits.

    Raises:
        ValueError: If it is none.

    Example:
        >>> decode_json("[id,tax=0.20\n1\n2]")
        [{'id': '1', 'tax': '0.20'}, {'id': '2', 'tax': '0.20'}]
    """
    return _Reader(encoded).whole()


_WRITERS = (
    _Writer(tables=True, hoist=True),
    _Writer(tables=True, hoist=False),
    _Writer(tables=False, hoist=False),
)
SMALLEST_JSON = 40
"""Characters; below, the encodings do not differ by a token."""


def encode_json(text: str, count: Count) -> str | None:
    r"""Return the encoding of a JSON text that *count* finds smallest.

    Never larger than compact JSON. Every candidate is decoded again first.

    Returns:
        ``None`` when the text is no JSON, ambiguous, too deep, or cannot be made smaller.

    Example:
        >>> encode_json('[{"id": 1, "ok": true}, {"id": 2, "ok": false}]', len)
        '[id,ok\n1,true\n2,false]'
    """
    if len(text) < SMALLEST_JSON:
        return None
    try:
        value = parse_json(text)
        candidates = [compact_json(value), *_checked(value)]
    except (ValueError, RecursionError):
        return None
    best = min(candidates, key=count)
    return best if count(best) < count(text) else None


def _checked(value: Any) -> Iterator[str]:
    seen = set()
    for writer in _WRITERS:
        written = writer.write(value)
        if written in seen:
            continue
        seen.add(written)
        try:
            back = decode_json(written)
        except ValueError:  # an unforeseen string that reads as punctuation
            continue
        if same_json(back, value):
            yield written


# --- text ----------------------------------------------------------------------------------------

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
        'Result:\n{items:[id,n\n1,2.50\n2,3]}'
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
