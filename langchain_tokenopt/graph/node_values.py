"""What nodes are given and write, as JSON: as a key, and to be kept.

Nothing is pickled, and no class is made of what was stored but those that are listed here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from langchain_core import messages
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langgraph.types import Send
from pydantic import BaseModel

__all__ = ["canonical_key", "messages_in", "packed", "unpacked"]

_ACCIDENTAL: Final = frozenset({"id", "usage_metadata", "response_metadata"})
"""What differs between a message and the same message said again."""
_PLAIN: Final = (type(None), bool, int, float, str)
_BY_TEXT: Final = (date, datetime, time, Decimal, UUID, PurePath)
_MESSAGES: Final[Mapping[str, type[BaseMessage]]] = {
    cls.__name__: cls
    for cls in (
        messages.AIMessage,
        messages.AIMessageChunk,
        messages.ChatMessage,
        messages.FunctionMessage,
        messages.HumanMessage,
        messages.SystemMessage,
        messages.ToolMessage,
    )
}
_KIND: Final = "!"
"""Key by which a value that JSON does not have says what it is."""


# --- as a key -------------------------------------------------------------------------------------


def canonical_key(*parts: Any) -> str:
    """Return a hash that equal values share, in every process.

    Messages count by what they say: their ids, their usage and what their provider told of the call
    do not. The ids of tool calls do, since results name them.

    Raises:
        TypeError: If a value is of a type of which is not known what makes two of them equal.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> one, other = [HumanMessage("Hi", id="1")], [HumanMessage("Hi", id="2")]
        >>> canonical_key(one) == canonical_key(other), canonical_key(1) == canonical_key("1")
        (True, False)
    """
    text = json.dumps(_canonical(list(parts)), sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _canonical(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return {_name(value): _canonical(value.value)}
    if isinstance(value, Send):
        return {"send": [value.node, _canonical(value.arg)]}
    if isinstance(value, BaseMessage):
        return {_name(value): _canonical({k: v for k, v in value if k not in _ACCIDENTAL})}
    if isinstance(value, BaseModel):
        return {_name(value): _canonical(dict(value))}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {_name(value): _canonical(_fields(value))}
    if isinstance(value, Mapping):
        pairs = [[_canonical(k), _canonical(v)] for k, v in value.items()]
        return {"map": sorted(pairs, key=lambda pair: json.dumps(pair[0], sort_keys=True))}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, tuple):
        return {_name(value): [_canonical(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"set": sorted(json.dumps(_canonical(item), sort_keys=True) for item in value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, _BY_TEXT):
        return {_name(value): str(value)}
    raise TypeError(f"its input holds a {_name(value)}")


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def messages_in(value: Any) -> Iterator[BaseMessage]:
    """Yield the messages in a value, however deep they lie."""
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Send):
        yield from messages_in(value.arg)
    elif isinstance(value, BaseModel):
        yield from messages_in(dict(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from messages_in(_fields(value))
    elif isinstance(value, Mapping):
        yield from messages_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from messages_in(item)


# --- to be kept -----------------------------------------------------------------------------------


def packed(value: Any) -> str:
    """Return a value as JSON from which :func:`unpacked` makes an equal one.

    Messages lose their ids: whoever gets them again must not take them for the first ones.

    Raises:
        TypeError: If a value is of a type that is not listed here.

    Example:
        >>> unpacked(packed([("notes", {"a": (1, 2)}), ("next", Send("judge", {"n": 1}))]))
        [('notes', {'a': (1, 2)}), ('next', Send(node='judge', arg={'n': 1}))]
    """
    return json.dumps(_form(value))


def _form(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_form(item) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value) and _KIND not in value:
            return {key: _form(item) for key, item in value.items()}
        return {_KIND: "dict", "is": [[_form(k), _form(v)] for k, v in value.items()]}
    if kind in (tuple, set, frozenset):
        return {_KIND: kind.__name__, "is": [_form(item) for item in value]}
    if kind is bytes:
        return {_KIND: "bytes", "is": value.hex()}
    if kind is Send:
        return {_KIND: "Send", "is": [value.node, _form(value.arg)]}
    if kind is Document:
        return {_KIND: "Document", "is": {k: _form(v) for k, v in value if v is not None}}
    if _MESSAGES.get(kind.__name__) is kind:
        fields = {k: _form(v) for k, v in value if v is not None and k != "id"}
        return {_KIND: kind.__name__, "is": fields}
    raise TypeError(f"it has written a {_name(value)}")


def unpacked(text: str) -> Any:
    """Read what :func:`packed` has written.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        return _value(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"a stored output cannot be read ({type(error).__name__})") from error


def _value(form: Any) -> Any:
    if isinstance(form, list):
        return [_value(item) for item in form]
    if not isinstance(form, dict):
        return form
    if _KIND not in form:
        return {key: _value(item) for key, item in form.items()}
    kind, found = form[_KIND], _value(form["is"])
    if kind == "bytes":
        return bytes.fromhex(found)
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](found)
    if kind == "Send":
        return Send(*found)
    return (Document if kind == "Document" else _MESSAGES[kind])(**found)


_CONTAINERS: Final[Mapping[str, Any]] = {
    "dict": lambda pairs: dict(map(tuple, pairs)),
    "frozenset": frozenset,
    "set": set,
    "tuple": tuple,
}
