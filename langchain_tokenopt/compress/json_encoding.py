"""Write JSON in fewer tokens and lose nothing: no white space, and like objects as a table.

A table is what pandas calls ``orient="split"``: ``{"columns":["id","n"],"data":[[1,2],[3,4]]}``
for ``[{"id":1,"n":2},{"id":3,"n":4}]``. Columns of nested objects have names with dots, as in
pandas' ``json_normalize``. The result is JSON like any other. It is decoded again and compared with
the original before it is used: same keys in the same order, same strings, numbers digit for digit
as they were written (``1.0`` stays ``1.0``).

Source:
    https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.to_json.html,
    https://pandas.pydata.org/docs/reference/api/pandas.json_normalize.html (2026-11-29).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

__all__ = ["compact_json", "decode_json", "encode_json", "parse_json", "same_json"]

Count = Callable[[str], int]

SMALLEST_JSON: Final = 40
"""Characters; below, the encodings do not differ by a token."""


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


_exact: Final = json.JSONDecoder(
    parse_float=_Number, parse_int=_Number, parse_constant=_constant, object_pairs_hook=_object
)


def parse_json(text: str) -> Any:
    """Parse JSON with numbers as written (as strings of a private type).

    Raises:
        ValueError: If it is no JSON, or ambiguous.
        RecursionError: If it is nested too deeply.
    """
    return _exact.decode(text.strip())


def compact_json(value: Any) -> str:
    """Write parsed JSON without any white space, numbers as they were.

    Example:
        >>> compact_json(parse_json('{ "price": 1.50, "tags": [ "a", "b" ] }'))
        '{"price":1.50,"tags":["a","b"]}'
    """
    return _written(value, tables=False)


def encode_json(text: str, count: Count, *, tables: bool = True) -> str | None:
    """Return the encoding of a JSON text that *count* finds smallest; see the module on *tables*.

    Never larger than compact JSON.

    Returns:
        ``None`` when the text is no JSON, ambiguous, too deep, or cannot be made smaller.

    Example:
        >>> encode_json(json.dumps([{"id": n, "even": n % 2 == 0} for n in range(4)]), len)
        '{"columns":["id","even"],"data":[[0,true],[1,false],[2,true],[3,false]]}'
    """
    if len(text) < SMALLEST_JSON:
        return None
    try:
        value = parse_json(text)
        compact = compact_json(value)
        if not same_json(parse_json(compact), value):
            return None
        best = min((compact, *(_with_tables(value) if tables else ())), key=count)
    except (ValueError, RecursionError):
        return None
    return best if count(best) < count(text) else None


def _with_tables(value: Any) -> list[str]:
    """Return *value* with its lists of like objects as tables, if that reads back as *value*."""
    written = _written(value, tables=True)
    try:
        return [written] if same_json(decode_json(written), value) else []
    except ValueError:
        return []


def decode_json(encoded: str) -> Any:
    """Parse what :func:`encode_json` returns; numbers come back as strings of their digits.

    Raises:
        ValueError: If it is no JSON.

    Example:
        >>> decode_json('{"columns":["id","tax"],"data":[[1,0.20],[2,0.20]]}')
        [{'id': '1', 'tax': '0.20'}, {'id': '2', 'tax': '0.20'}]
    """
    return _rows_again(parse_json(encoded))


def same_json(left: Any, right: Any) -> bool:
    """Say whether two parsed values are the same, in types, key order and the digits of numbers."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same_json(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


_SEPARATOR: Final = "."
_LITERALS: Final = {True: "true", False: "false", None: "null"}


def _written(value: Any, *, tables: bool) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        members = (f"{_quoted(k)}:{_written(v, tables=tables)}" for k, v in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        if tables and (paths := _paths(value)) and _is_worth_a_header(paths, len(value)):
            names = [_SEPARATOR.join(path) for path in paths]
            rows = [[_at(row, path) for path in paths] for row in value]
            return _written({"columns": names, "data": rows}, tables=True)
        return "[" + ",".join([_written(item, tables=tables) for item in value]) + "]"
    return _LITERALS[value]


def _quoted(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(text)
    return written


def _paths(rows: list[Any]) -> list[tuple[str, ...]] | None:
    """Return the paths of the values in *rows*, if all are objects with the same keys in order."""
    if len(rows) < 2 or not all(isinstance(row, dict) and row for row in rows):
        return None
    keys = list(rows[0])
    if any(list(row) != keys for row in rows):
        return None
    paths: list[tuple[str, ...]] = []
    for key in keys:
        inner = _paths([row[key] for row in rows])
        paths += [(key, *path) for path in inner] if inner else [(key,)]
    return paths


def _is_worth_a_header(paths: list[tuple[str, ...]], rows: int) -> bool:
    characters = sum(len(key) + 3 for path in paths for key in path)
    return (rows - 1) * characters > len('{"columns":[],"data":[]}')


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        row = row[key]
    return row


def _rows_again(value: Any) -> Any:
    """Turn tables back into lists of objects."""
    if isinstance(value, list):
        return [_rows_again(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _is_table(value):
        return [_row_again(value["columns"], cells) for cells in value["data"]]
    return {key: _rows_again(item) for key, item in value.items()}


def _is_table(value: dict[str, Any]) -> bool:
    columns, rows = value.get("columns"), value.get("data")
    return (
        len(value) == 2
        and isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(column, str) for column in columns)
        and all(isinstance(row, list) and len(row) == len(columns) for row in rows)
    )


def _row_again(columns: list[str], cells: list[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        *outer, key = column.split(_SEPARATOR)
        inner = row
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ValueError(f"column {column!r} is inside of another column")
        inner[key] = _rows_again(cell)
    return row
