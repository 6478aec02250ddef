"""Calls as they recur: with where each argument came from in place of what it was.

An agent that reads a customer's orders one by one makes a call never seen before each time, and
does the same as always: it takes the next entry of a list that an earlier call has returned. So an
argument is described by where its value stands in the results and arguments of the conversation so
far, and only where it stands nowhere by itself.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["END", "CallMemory", "canonical", "is_shape", "name_alone"]

_MOST_SOURCES: Final = 64
_MOST_VALUES: Final = 256
_LONGEST_VALUE: Final = 100
_LONGEST_RESULT: Final = 50_000
"""Characters of a result beyond which it is not read: that would take a millisecond."""
_DEEPEST: Final = 8
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z_ -]{0,40}")
"""Keys of an object that name a field; others, with digits in them, are values."""

END: Final = '["",null]'
"""What comes after the last call of a conversation."""

Scalar = str | int | float


def canonical(value: Any) -> str | None:
    """Return *value* as JSON, equal for equal values; ``None`` for what JSON would change.

    Example:
        >>> canonical({"b": 1, "a": [True]}), canonical({1: "one"}), canonical(object())
        ('{"a":[true],"b":1}', None, None)
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text if json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError):
        return None


def name_alone(shape: str) -> str:
    """Return a shape without its arguments: what may be known of somebody else's call.

    Example:
        >>> name_alone('["order",{"id":["is","A1"]}]')
        '["order",null]'
    """
    return canonical([json.loads(shape)[0], None]) or ""


def is_shape(text: str) -> bool:
    """Return whether *text* is a shape that :meth:`CallMemory.shape` returns.

    Example:
        >>> is_shape('["order",{"id":["is","A1"]}]'), is_shape(END), is_shape("nonsense")
        (True, True, False)
    """
    try:
        shape = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if canonical(shape) != text or not isinstance(shape, list) or len(shape) != 2:
        return False
    name, described = shape
    return isinstance(name, str) and (
        described is None
        or (isinstance(described, dict) and all(map(_is_described, described.values())))
    )


def _is_described(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and (value[0] == "is" or (value[0] == "from" and isinstance(value[1], str)))
    )


class CallMemory:
    """The values that stood in one conversation's results and arguments, and which were used.

    Example:
        >>> memory = CallMemory()
        >>> memory.add_result("orders", '{"ids": ["A1", "B2", "C3"]}')
        >>> shape = memory.shape("order", {"id": "A1"})
        >>> shape
        '["order",{"id":["from","orders.ids[]"]}]'
        >>> memory.add_call("order", {"id": "A1"})
        >>> memory.call(shape)
        ('order', {'id': 'B2'})
    """

    def __init__(self) -> None:
        self._sources: OrderedDict[str, list[Scalar]] = OrderedDict()
        """Where values stood, the latest last."""
        self._used: dict[str, set[Scalar]] = {}
        """What each argument of each tool was given."""

    def add_result(self, name: str, result: Any) -> None:
        """Take in what the tool *name* has returned."""
        if isinstance(result, str) and len(result) <= _LONGEST_RESULT and result[:1] in ("{", "["):
            try:
                result = json.loads(result)
            except (ValueError, RecursionError):
                return
        if isinstance(result, dict | list):
            found: dict[str, list[Scalar]] = {}
            for count, (path, value) in enumerate(_scalars(name, result, 0)):
                if count >= _MOST_VALUES:
                    break
                found.setdefault(path, []).append(value)
            for path, values in found.items():
                self._set(path, values)

    def add_call(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Take in that the tool *name* was called with *arguments*."""
        for argument, value in arguments.items():
            if _is_scalar(value):
                self._set(f"{name}({argument})", [value])
                used = self._used.setdefault(f"{name}({argument})", set())
                if len(used) < _MOST_VALUES:
                    used.add(value)

    def shape(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Return what recurs of a call."""
        described = {
            argument: self._described(f"{name}({argument})", value)
            for argument, value in arguments.items()
        }
        return canonical([name, described]) or canonical([name, None]) or ""

    def call(self, shape: str) -> tuple[str, dict[str, Any]] | None:
        """Return the call that would have this shape now; ``None`` where there is none."""
        try:
            name, described = json.loads(shape)
        except (ValueError, RecursionError):
            return None
        if described is None:
            return None
        arguments = {}
        for argument, (how, what) in described.items():
            value = what if how == "is" else self._next(f"{name}({argument})", what)
            if value is None and how != "is":
                return None
            arguments[argument] = value
        return name, arguments

    def place(self, shape: str) -> str:
        """Say whether the lists from which a call was taken have more: what decides what follows.

        Returns:
            ``"..."`` where there is more, ``"."`` where that was the last, else nothing.
        """
        name, described = json.loads(shape)
        slots = [
            (f"{name}({argument})", what)
            for argument, (how, what) in (described or {}).items()
            if how == "from" and len(self._sources.get(what, ())) > 1
        ]
        if not slots:
            return ""
        return "..." if all(self._next(*slot) is not None for slot in slots) else "."

    def _described(self, slot: str, value: Any) -> list[Any]:
        if _is_scalar(value):
            for path in reversed(self._sources):
                following = self._next(slot, path)
                if following == value and type(following) is type(value):
                    return ["from", path]
        return ["is", value]

    def _next(self, slot: str, path: str) -> Scalar | None:
        """Return the value that stands first at *path* among those not used yet."""
        values = self._sources.get(path, [])
        used = self._used.get(slot, ())
        unused = (value for value in values if value not in used)
        return next(unused, values[0] if len(values) == 1 else None)

    def _set(self, path: str, values: list[Scalar]) -> None:
        self._sources[path] = values
        self._sources.move_to_end(path)
        if len(self._sources) > _MOST_SOURCES:
            self._sources.popitem(last=False)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    return not isinstance(value, str) or 0 < len(value) <= _LONGEST_VALUE


def _scalars(path: str, value: Any, depth: int) -> Iterator[tuple[str, Scalar]]:
    """Yield the single values in *value* and where they stand, lists without their numbers."""
    if _is_scalar(value):
        yield path, value
    elif depth > _DEEPEST:
        return
    elif isinstance(value, list):
        for each in value:
            yield from _scalars(f"{path}[]", each, depth + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(key, str) and _FIELD.fullmatch(key):
                yield from _scalars(f"{path}.{key}", each, depth + 1)
            elif _is_scalar(key):
                yield f"{path}{{}}", key
                yield from _scalars(f"{path}{{}}[]", each, depth + 1)
