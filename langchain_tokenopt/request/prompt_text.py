"""Messages as LangChain writes them for a cache: the text by which equal requests are found.

Conversations repeat themselves with every call, and to write a message takes longer than to look up
what it was written as.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from threading import Lock
from typing import Any, Final

from langchain_core.load import dumps
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

__all__ = ["prompt_text"]

_CHARACTERS: Final = 4_000_000
"""Of all texts that are kept."""
_PLAIN: Final = (HumanMessage, AIMessage, AIMessageChunk, SystemMessage, ToolMessage)
_JSON: Final = frozenset({"tool_calls", "invalid_tool_calls", "tool_call_chunks"})
_written: OrderedDict[Hashable, str] = OrderedDict()
_lock = Lock()
_kept = 0


def prompt_text(messages: Sequence[BaseMessage]) -> str:
    """Return what ``dumps`` writes of *messages*, without what is not asked about.

    What earlier answers carry as ids, usage and response metadata does not count: a cache hit would
    change it.

    Example:
        >>> first, again = HumanMessage("Hi", id="1"), HumanMessage("Hi", id="2")
        >>> prompt_text([first]) == prompt_text([again]) == dumps([HumanMessage("Hi")])
        True
    """
    return f"[{', '.join(map(_text_of, messages))}]"


def _text_of(message: BaseMessage) -> str:
    key = _key_of(message)
    found = None if key is None else _written.get(key)
    if found is None:
        found = dumps(_without_noise(message))
        if key is not None:
            _keep(key, found)
    return found


def _noise(message: BaseMessage) -> dict[str, Any]:
    if isinstance(message, AIMessage):
        return {"id": None, "usage_metadata": None, "response_metadata": {}}
    return {"id": None}


def _without_noise(message: BaseMessage) -> BaseMessage:
    """Drop what differs between an answer and its repetition from a cache."""
    return message.model_copy(update=_noise(message))


def _key_of(message: BaseMessage) -> Hashable | None:
    """Return all that the text says; ``None`` where that is more than texts and calls of tools."""
    if type(message) not in _PLAIN or message.__pydantic_extra__:
        return None
    said: list[Any] = [type(message)]
    noise = _noise(message)
    for name, value in vars(message).items():
        if name in noise:
            continue
        if not value or type(value) is str:
            said.append((name, type(value), value or None))
        elif name in _JSON:
            try:
                said.append((name, json.dumps(value)))
            except (TypeError, ValueError):
                return None
        else:
            return None
    return tuple(said)


def _keep(key: Hashable, text: str) -> None:
    global _kept
    with _lock:
        if key in _written:
            return
        _written[key] = text
        _kept += len(text)
        while _kept > _CHARACTERS:
            _kept -= len(_written.popitem(last=False)[1])
