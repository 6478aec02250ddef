r"""How the fields of a message are written: as little as a language model reads without a key.

What JSON spends most on, here is said once or not at all: quotes, the keys of records, keys of what
is absent. One word stands behind its name, a text on a line of its own, records are a table::

    to=risk due=2026-12-01 urgent limit.usd=2000000
    goal: Check the exposure of ACME before the close.
     Two trades are unbooked.
    findings(file,line,note):
     a.py|12|No test
     b.py|3|

Whatever continues a field is indented, so no text can pretend to be another field. A text that
would be read as something else (a number, a quotation mark in front, blanks around it) is written
as JSON writes it, and so is what is nested too deeply for this. The first line separates its words
by one blank; ``name`` alone is a true one; dots lead into objects; an empty cell says that the
record has no such field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "NOTHING_KNOWN",
    "KnownTexts",
    "known_texts",
    "read_fields",
    "read_json",
    "read_records",
    "write_fields",
    "write_json",
    "write_records",
]

Tree = dict[str, Any]

_KEY: Final = re.compile(r"[^\W\d][\w-]*")
_PATH: Final = re.compile(r"[^\W\d][\w-]*(?:\.[^\W\d][\w-]*)*")
_FIELD: Final = re.compile(rf"({_PATH.pattern})(\[\]|\([^)\n]+\))?:( |\n|$)(.*)", re.DOTALL)
_LITERAL: Final = re.compile(
    r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|NaN|-?Infinity", re.ASCII
)
_INNER_LINE: Final = re.compile(r"\n(?!\n)")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SECONDS: Final = re.compile(r"(T\d\d:\d\d):00(Z|[+-]\d\d:\d\d)?$")
_INDENTED: Final = "\n "
_LONGEST_WORD: Final = 40
"""Characters; what is longer stands on a line of its own."""


def write_json(value: Any) -> str:
    """Write compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _no_twice(pairs: list[tuple[str, Any]]) -> Tree:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("the same key twice")
    return made


def read_json(text: str) -> Any:
    """Read JSON.

    Raises:
        ValueError: It is none, or an object has the same key twice.
    """
    return json.loads(text, object_pairs_hook=_no_twice)


# --- what the schema says of texts ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KnownTexts:
    """Fields of which the schema says that they hold texts, so that ``12`` needs no quotes there.

    Names are paths with dots; ``[]`` stands behind the name of a list, ``*`` for any key.
    """

    texts: frozenset[str] = frozenset()
    moments: frozenset[str] = frozenset()
    """Those that hold dates with times: ``:00`` seconds are left away."""

    def is_text(self, path: str) -> bool:
        """Say whether a field holds nothing else."""
        return path in self.texts or _any_key(path) in self.texts

    def is_moment(self, path: str) -> bool:
        """Say whether a field holds a date with a time."""
        return path in self.moments or _any_key(path) in self.moments


def _any_key(path: str) -> str:
    return f"{path.rpartition('.')[0]}.*"


NOTHING_KNOWN: Final = KnownTexts()


def known_texts(schema: Mapping[str, Any]) -> KnownTexts:
    """Return which fields of a JSON schema hold texts only.

    Example:
        >>> fields = {"zip": {"type": "string"}, "floor": {"type": "integer"}}
        >>> sorted(known_texts({"properties": fields}).texts)
        ['zip']
    """
    found: dict[str, set[str]] = {}
    _walk(schema, "", schema.get("$defs", {}), (), found)
    texts = {path for path, kinds in found.items() if kinds and kinds <= {"text", "moment"}}
    moments = frozenset(path for path in texts if found[path] == {"moment"})
    return KnownTexts(frozenset(texts), moments)


def _walk(
    node: Mapping[str, Any],
    path: str,
    defined: Mapping[str, Any],
    inside: tuple[str, ...],
    found: dict[str, set[str]],
) -> None:
    """Note of what kinds a field may be; ``other`` for whatever is no text."""
    name = node.get("$ref", "").removeprefix("#/$defs/")
    if name:
        if name not in inside and name in defined:
            _walk(defined[name], path, defined, (*inside, name), found)
        return
    for several in ("anyOf", "oneOf", "allOf"):
        for option in node.get(several, ()):
            _walk(option, path, defined, inside, found)
    kind = node.get("type")
    values = [*node.get("enum", ()), *([node["const"]] if "const" in node else [])]
    if kind == "string" or (values and all(isinstance(value, str) for value in values)):
        found.setdefault(path, set()).add("moment" if node.get("format") == "date-time" else "text")
    elif kind != "null" and not {"anyOf", "oneOf", "allOf"} & node.keys():
        found.setdefault(path, set()).add("other")
    for key, field in node.get("properties", {}).items():
        _walk(field, f"{path}.{key}" if path else key, defined, inside, found)
    if isinstance(node.get("additionalProperties"), Mapping):
        _walk(node["additionalProperties"], f"{path}.*", defined, inside, found)
    if isinstance(node.get("items"), Mapping):
        _walk(node["items"], f"{path}[]", defined, inside, found)


# --- writing -------------------------------------------------------------------------------------


def write_fields(tree: Tree, known: KnownTexts = NOTHING_KNOWN) -> str:
    r"""Write the fields of an object.

    Raises:
        ValueError: A key is no name, so that only JSON can hold it.

    Example:
        >>> write_fields({"to": "risk", "urgent": True, "goal": "Look at it.", "tags": ["a", "b"]})
        'to=risk urgent tags=["a","b"]\ngoal: Look at it.'
    """
    words, lines = [], []
    leaves = _flat(tree)
    if leaves is None:
        raise ValueError("a key is no name")
    for path, value in leaves.items():
        word = _word(path, value, known)
        if word is not None:
            words.append(word)
        else:
            lines.append(_line(path, value, known))
    return "\n".join([" ".join(words), *lines])


def _flat(tree: Any) -> Tree | None:
    """Return the values of an object and of those inside of it by their paths."""
    if not isinstance(tree, dict) or not all(map(_KEY.fullmatch, tree)):
        return None
    leaves: Tree = {}
    for key, value in tree.items():
        inner = _flat(value) if value else None
        if inner is None:
            leaves[key] = value
        else:
            leaves.update({f"{key}.{path}": leaf for path, leaf in inner.items()})
    return leaves


def _word(path: str, value: Any, known: KnownTexts) -> str | None:
    """Return a field that is one word; ``None`` where it is more."""
    if value is True:
        return path
    if isinstance(value, str):
        value = _short(path, value, known)
        written = value if _is_plain(value, path, known) else write_json(value)
    else:
        written = write_json(value)
    if len(written) > _LONGEST_WORD or any(map(str.isspace, written)):
        return None
    return f"{path}={written}"


def _line(path: str, value: Any, known: KnownTexts) -> str:
    if isinstance(value, str):
        text = value if _is_plain(value, path, known) else write_json(value)
        return f"{path}: {_INNER_LINE.sub(_INDENTED, text)}"
    if isinstance(value, list):
        table = write_records(value, known, f"{path}[].")
        if table is not None:
            return path + table
        if value and not any(isinstance(item, list | dict) for item in value):
            rows = [_cell(item, f"{path}[]", known, bars=True) for item in value]
            return "\n ".join([f"{path}[]:", *rows])
    return f"{path}: {write_json(value)}"


def write_records(
    records: list[Any], known: KnownTexts = NOTHING_KNOWN, prefix: str = ""
) -> str | None:
    r"""Write objects as a table; ``None`` if they make none.

    Example:
        >>> write_records([{"file": "a.py", "line": 12}, {"file": "b.py"}])
        '(file,line):\n a.py|12\n b.py|'
    """
    flat = [_flat(record) for record in records]
    columns = list(dict.fromkeys(path for leaves in flat if leaves for path in leaves))
    rows = [
        "|".join(
            ""
            if column not in leaves
            else _cell(leaves[column], f"{prefix}{column}", known, bars=False)
            for column in columns
        )
        for leaves in flat
        if leaves
    ]
    if not rows or len(rows) < len(records) or not all(rows):
        return None
    return "\n ".join([f"({','.join(columns)}):", *rows])


def _cell(value: Any, path: str, known: KnownTexts, *, bars: bool) -> str:
    if not isinstance(value, str):
        return write_json(value)
    value = _short(path, value, known)
    plain = _is_plain(value, path, known) and "\n" not in value and (bars or "|" not in value)
    return value if plain else write_json(value)


def _short(path: str, text: str, known: KnownTexts) -> str:
    return _SECONDS.sub(r"\1\2", text) if known.is_moment(path) else text


def _is_plain(text: str, path: str, known: KnownTexts) -> bool:
    """Say whether a text can be written as it is, and is read as that text."""
    if not text or text[0] in '"[{' or text != text.strip() or _CONTROL.search(text):
        return False
    return text != "null" if known.is_text(path) else _LITERAL.fullmatch(text) is None


# --- reading -------------------------------------------------------------------------------------


def read_fields(written: str, known: KnownTexts = NOTHING_KNOWN) -> Tree:
    r"""Read what :func:`write_fields` returns.

    Raises:
        ValueError: It was not written by that.

    Example:
        >>> read_fields('to=risk urgent\ngoal: Look at it.\n Twice.\ntags[]:\n a b')
        {'to': 'risk', 'urgent': True, 'goal': 'Look at it.\nTwice.', 'tags': ['a b']}
    """
    tree: Tree = {}
    words, *lines = written.split("\n")
    for word in words.split(" ") if words else ():
        path, equals, text = word.partition("=")
        _put(tree, path, _value(text, path, known) if equals else True)
    for field in _fields(lines):
        match = _FIELD.fullmatch(field)
        if match is None:
            raise ValueError(f"no field: {field[:40]!r}")
        path, shape, gap, text = match.groups()
        if shape is None and gap == " ":
            _put(tree, path, _value(_unindented(text), path, known))
        elif shape == "[]" and gap == "\n":
            rows = _rows(text)
            _put(tree, path, [_value(row, f"{path}[]", known) for row in rows])
        else:
            _put(tree, path, read_records(field[len(path) :], known, f"{path}[]."))
    return tree


def read_records(written: str, known: KnownTexts = NOTHING_KNOWN, prefix: str = "") -> list[Tree]:
    """Read what :func:`write_records` returns.

    Raises:
        ValueError: It was not written by that.
    """
    head, end, table = written.partition("):\n")
    if not (end and head.startswith("(")):
        raise ValueError("no table")
    columns = head[1:].split(",")
    records = []
    for row in _rows(table):
        cells = list(_cells(row))
        if len(cells) != len(columns):
            raise ValueError(f"{len(cells)} cells under {len(columns)} columns")
        record: Tree = {}
        for column, cell in zip(columns, cells, strict=True):
            if cell:
                _put(record, column, _value(cell, f"{prefix}{column}", known))
        records.append(record)
    return records


def _fields(lines: list[str]) -> Iterator[str]:
    """Join each field with the lines that continue it."""
    field: list[str] = []
    for line in lines:
        if line and not line.startswith(" "):
            if field:
                yield "\n".join(field)
            field = [line]
        elif field:
            field.append(line)
        else:
            raise ValueError("a line that continues nothing")
    if field:
        yield "\n".join(field)


def _unindented(text: str) -> str:
    first, *others = text.split("\n")
    return "\n".join([first, *(line[1:] for line in others)])


def _rows(table: str) -> list[str]:
    rows = table.split("\n")
    if not all(row.startswith(" ") for row in rows):
        raise ValueError("a row is not indented")
    return [row[1:] for row in rows]


_decoder: Final = json.JSONDecoder(object_pairs_hook=_no_twice)


def _cells(row: str) -> Iterator[str]:
    at = 0
    while True:
        end = _decoder.raw_decode(row, at)[1] if row[at : at + 1] in ('"', "[", "{") else -1
        if end < 0:
            end = row.find("|", at)
            end = len(row) if end < 0 else end
        yield row[at:end]
        if end == len(row):
            return
        if row[end] != "|":
            raise ValueError("something stands behind a quoted cell")
        at = end + 1


def _value(text: str, path: str, known: KnownTexts) -> Any:
    if text[:1] in ('"', "[", "{"):
        return read_json(text)
    if not text:
        raise ValueError(f"{path} has no value")
    if text != "null" if known.is_text(path) else _LITERAL.fullmatch(text) is None:
        return text
    return read_json(text)


def _put(tree: Tree, path: str, value: Any) -> None:
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"no name: {path[:40]!r}")
    *outer, key = path.split(".")
    for name in outer:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ValueError(f"{path} is inside of a value")
    if key in tree:
        raise ValueError(f"{path} twice")
    tree[key] = value
