"""What a model wrote, wherever a message keeps it: to count what its provider has not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from langchain_core.messages import BaseMessage

__all__ = ["written"]

_TEXTS: Final = (
    *("text", "thinking", "reasoning", "reasoning_content", "reasoning_text", "summary"),
    *("summary_text", "content", "refusal", "transcript", "value"),
)
"""Fields of a block that hold text of the model, or further blocks. Ids, signatures, encrypted
reasoning, annotations and media are none."""

_ARGUMENTS: Final = ("name", "args", "arguments", "input", "partial_json")
"""Fields of a call of a tool."""

_CALLS: Final = frozenset(
    {
        *("function_call", "input_json_delta", "tool_call", "tool_call_chunk", "tool_use"),
        *("server_tool_call", "server_tool_use"),
    }
)

_REASONING: Final = (
    *("reasoning_content", "reasoning", "reasoning_details", "reasoning_text"),
    *("thinking", "thinking_blocks", "reasoning_steps"),
)
"""Where integrations put reasoning that is not in the content; of several the first counts, since
they repeat each other."""

_OTHER_TEXTS: Final = ("refusal", "audio", "function_call")


def written(piece: Any) -> str:
    """Everything that a message, chunk, content list or string made the model write.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> written(AIMessage("Four.", additional_kwargs={"reasoning_content": "2 + 2"}))
        '2 + 2Four.'
    """
    if isinstance(piece, str):
        return piece
    if not isinstance(piece, BaseMessage):
        return "".join(_texts_in(piece, calls=True))
    calls = getattr(piece, "tool_call_chunks", None) or getattr(piece, "tool_calls", None) or ()
    content = piece.content
    shown = content if isinstance(content, str) else "".join(_texts_in(content, calls=not calls))
    beside = "".join(_beside(piece, has_calls=bool(calls))) if piece.additional_kwargs else ""
    return beside + shown + "".join(f"{call.get('name') or ''}{_plain(call)}" for call in calls)


def _plain(call: Mapping[str, Any]) -> str:
    arguments = call.get("args") or ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)


def _beside(message: BaseMessage, *, has_calls: bool) -> Iterator[str]:
    """Texts in ``additional_kwargs``, without what the content repeats."""
    extra = message.additional_kwargs
    content = message.content
    if isinstance(content, str) or not any(map(_is_reasoning, content)):
        for name in _REASONING:
            text = "".join(_texts_in(extra.get(name), calls=True))
            if text:
                yield text
                break
    for name in _OTHER_TEXTS:
        if not (has_calls and name == "function_call"):
            yield from _texts_in(extra.get(name), calls=True)


def _is_reasoning(block: Any) -> bool:
    return isinstance(block, Mapping) and block.get("type") in (
        *("thinking", "reasoning", "reasoning_content"),
    )


def _texts_in(value: Any, *, calls: bool, depth: int = 0) -> Iterator[str]:
    """Every text of a block or of a list of blocks; *calls*: also of calls of tools."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts_in(part, calls=calls, depth=depth)
    elif isinstance(value, Mapping) and depth < _DEEPEST:
        kind = value.get("type")
        is_call = kind in _CALLS or "arguments" in value
        if isinstance(kind, str) and kind.endswith("_result"):
            return  # what a provider's tool has found was read, not written
        if is_call and not calls:
            return
        for name in _ARGUMENTS if is_call else _TEXTS:
            inner = value.get(name)
            if is_call and isinstance(inner, Mapping):
                yield json.dumps(inner, default=str)
            else:
                yield from _texts_in(inner, calls=calls, depth=depth + 1)


_DEEPEST: Final = 6
