"""Pure functions on LangChain messages. None of them changes what it is given."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    ToolMessage,
    message_chunk_to_message,
)

MessageT = TypeVar("MessageT", bound=BaseMessage)

__all__ = [
    "append_to_last_user",
    "as_chunk",
    "as_message",
    "atomic_groups",
    "canonical",
    "canonical_messages",
    "last_user_text",
    "text_of",
    "with_text",
]

_TEXT_BLOCKS = frozenset({"text", "input_text", "output_text"})


def _is_text(block: object) -> bool:
    if isinstance(block, str):
        return True
    return isinstance(block, Mapping) and block.get("type") in _TEXT_BLOCKS


def _text_in(block: Any) -> str:
    if isinstance(block, str):
        return block
    text = block.get("text")
    return text if isinstance(text, str) else ""


def text_of(message: BaseMessage) -> str:
    """Return all text of *message*, its text blocks joined; reasoning and media are left out.

    Example:
        >>> text_of(HumanMessage([{"type": "text", "text": "What is"}, " this?"]))
        'What is this?'
    """
    if isinstance(message.content, str):
        return message.content
    return "".join(_text_in(block) for block in message.content if _is_text(block))


def last_user_text(messages: Sequence[BaseMessage]) -> str | None:
    """Return the text of the last human message.

    Returns:
        ``None`` when there is no human message, or the last one has no text (an image alone): an
        earlier question would not be the one that is asked.

    Example:
        >>> last_user_text([HumanMessage("Hello"), AIMessage("Hi"), HumanMessage("Who are you?")])
        'Who are you?'
    """
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return text_of(message) or None
    return None


# --- canonical form ------------------------------------------------------------------------------

_CALL_BLOCKS = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call"})
_INCIDENTAL = frozenset({"id", "index", "cache_control", "tool_call_id", "tool_use_id", "call_id"})
_SENT_KWARGS = ("function_call", "refusal", "reasoning_content", "__openai_role__")
_ROLES = {"human": "user", "ai": "assistant"}


def canonical(message: BaseMessage) -> dict[str, Any]:
    """Return what *message* says to a model, as JSON-able data without what changes every time.

    Left out: message ids, usage, response metadata, artifacts, cache marks. Tool-call ids are
    numbered in order; images and other binary parts are replaced by their SHA-256. A string and
    one text block say the same and look the same. The result shares nothing with the message.

    Example:
        >>> canonical(HumanMessage("Hello", id="run-1"))
        {'role': 'user', 'content': [{'type': 'text', 'text': 'Hello'}]}
    """
    return _canonical(message, {})


def canonical_messages(messages: Iterable[BaseMessage]) -> list[dict[str, Any]]:
    """Return :func:`canonical` of each message, with tool-call ids numbered across the list.

    Two lists have equal forms when a model cannot tell them apart, whatever ids they carry.

    Example:
        >>> call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "call_x9"}])
        >>> canonical_messages([call, ToolMessage("1", tool_call_id="call_x9")])[1]["answers"]
        0
    """
    numbers: dict[str, int] = {}
    return [_canonical(message, numbers) for message in messages]


def _canonical(message: BaseMessage, numbers: dict[str, int]) -> dict[str, Any]:
    role = message.role if isinstance(message, ChatMessage) else message.type
    role = role.removesuffix("MessageChunk").lower()
    form: dict[str, Any] = {"role": _ROLES.get(role, role)}
    if message.name:
        form["name"] = message.name
    if isinstance(message, AIMessage):
        calls = [*message.tool_calls, *message.invalid_tool_calls]
        if calls:
            form["tool_calls"] = [
                {
                    "id": _number(call["id"], numbers),
                    "name": call["name"],
                    "args": _plain(call["args"], numbers),
                }
                for call in calls
            ]
    if isinstance(message, ToolMessage):
        form["answers"] = _number(message.tool_call_id, numbers)
        if message.status == "error":
            form["status"] = "error"
    form["content"] = _canonical_content(message, "tool_calls" in form, numbers)
    kwargs = {
        k: message.additional_kwargs[k] for k in _SENT_KWARGS if message.additional_kwargs.get(k)
    }
    if kwargs:
        form["additional_kwargs"] = _plain(kwargs, numbers)
    return form


def _number(call_id: str | None, numbers: dict[str, int]) -> int:
    return numbers.setdefault(call_id or "", len(numbers))


def _canonical_content(message: BaseMessage, has_calls: bool, numbers: dict[str, int]) -> list[Any]:
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}] if message.content else []
    return [
        {"type": "text", "text": block} if isinstance(block, str) else _plain(block, numbers)
        for block in message.content
        if not (has_calls and isinstance(block, Mapping) and block.get("type") in _CALL_BLOCKS)
    ]


def _plain(value: Any, numbers: dict[str, int]) -> Any:
    """Copy *value* as JSON data, with digests in place of binary parts."""
    if isinstance(value, Mapping):
        return {
            str(key): _plain(inner, numbers)
            for key, inner in value.items()
            if key not in _INCIDENTAL
        }
    if isinstance(value, list | tuple):
        return [_plain(inner, numbers) for inner in value]
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, str) and len(value) >= 256 and " " not in value[:256]:
        return _digest(value)
    return value


def _digest(text: str) -> Any:
    """Replace a data URL or base64 text by the digest of what it holds."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return {"sha256": hashlib.sha256(base64.b64decode(encoded, validate=True)).hexdigest()}
    except (binascii.Error, ValueError):
        return text


# --- groups --------------------------------------------------------------------------------------


def atomic_groups(messages: Sequence[BaseMessage]) -> list[list[int]]:
    """Split a conversation into groups that must be kept or dropped together.

    An AI message with tool calls and all answers to them form one group, whatever stands between;
    every other message is a group of its own. Providers refuse a conversation in which a tool
    answer has lost its call, or a call its answer.

    - Several calls in one message: one group with all their answers, in any order.
    - An answer without a call before it (an orphan): a group of its own.
    - A call without an answer (still running, or lost): its group lacks that answer.
    - An id that is used again: the answer belongs to the latest call with that id.

    Returns:
        Indexes into *messages*, each exactly once, groups in order of their first message.

    Example:
        >>> call = AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "1"}])
        >>> atomic_groups([HumanMessage("Add"), call, ToolMessage("3", tool_call_id="1")])
        [[0], [1, 2]]
    """
    groups: list[list[int]] = []
    group_of_call: dict[str, list[int]] = {}
    for index, message in enumerate(messages):
        called = next((group_of_call[i] for i in _answered(message) if i in group_of_call), None)
        if called is not None:
            called.append(index)
            continue
        group = [index]
        groups.append(group)
        for call_id in _calls(message):
            group_of_call[call_id] = group
    return groups


def _calls(message: BaseMessage) -> list[str]:
    """Return the ids of the calls that *message* makes."""
    if not isinstance(message, AIMessage):
        return []
    ids = [call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)]
    function_call = message.additional_kwargs.get("function_call")
    if function_call:
        ids.append(f"function {function_call.get('name')}")
    return [i for i in ids if i]


def _answered(message: BaseMessage) -> list[str]:
    """Return the ids of the calls that *message* answers."""
    if isinstance(message, ToolMessage):
        return [message.tool_call_id]
    if isinstance(message, FunctionMessage):
        return [f"function {message.name}"]
    if isinstance(message, HumanMessage) and isinstance(message.content, list):
        return [
            str(block["tool_use_id"])
            for block in message.content
            if isinstance(block, Mapping)
            and block.get("type") == "tool_result"
            and "tool_use_id" in block
        ]
    return []


# --- changing text -------------------------------------------------------------------------------


def with_text(message: MessageT, text: str) -> MessageT:
    """Return a copy of *message* that says *text*; everything else stays.

    String content becomes *text*. In block content the first text block takes *text*, further
    text blocks go, and images, files, reasoning and tool calls keep their places. Without a text
    block one is put first. An empty *text* removes the text blocks, because providers refuse
    empty ones.

    Example:
        >>> with_text(HumanMessage("A long story", id="7"), "Short")
        HumanMessage(content='Short', additional_kwargs={}, response_metadata={}, id='7')
    """
    if isinstance(message.content, str):
        return message.model_copy(update={"content": text})
    blocks: list[Any] = []
    placed = not text
    for block in message.content:
        if not _is_text(block):
            blocks.append(block)
        elif not placed:
            blocks.append(text if isinstance(block, str) else {**block, "text": text})
            placed = True
    if not placed:
        blocks.insert(0, {"type": "text", "text": text})
    return message.model_copy(update={"content": blocks})


def append_to_last_user(messages: Sequence[BaseMessage], text: str) -> list[BaseMessage]:
    """Return the messages with *text* added at the end of the last human message."""
    result = list(messages)
    for index in range(len(result) - 1, -1, -1):
        if isinstance(result[index], HumanMessage):
            result[index] = _appended(result[index], text)
            return result
    if result and _awaits_answers(result):
        return result
    return [*result, HumanMessage(text)]


def _appended(message: BaseMessage, text: str) -> BaseMessage:
    content = message.content
    if isinstance(content, str):
        if content.endswith(text):
            return message
        return message.model_copy(update={"content": f"{content}\n\n{text}" if content else text})
    added = {"type": "text", "text": text}
    if content and _is_text(content[-1]) and _text_in(content[-1]).endswith(text):
        return message
    return message.model_copy(update={"content": [*content, added]})


def _awaits_answers(messages: Sequence[BaseMessage]) -> bool:
    """Whether the conversation ends with tool calls that have no answer yet."""
    *_, last = atomic_groups(messages)
    calls = {i for at in last for i in _calls(messages[at])}
    return bool(calls - {i for at in last for i in _answered(messages[at])})


# --- chunks --------------------------------------------------------------------------------------


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """Return *message* as the only chunk of a stream."""
    if isinstance(message, AIMessageChunk):
        return message
    fields = {name: value for name, value in message.__dict__.items() if name != "type"}
    return AIMessageChunk(**fields, chunk_position="last")


def as_message(chunk: AIMessage) -> AIMessage:
    """Return a chunk, or the sum of a stream's chunks, as an ordinary message."""
    message = message_chunk_to_message(chunk)
    assert isinstance(message, AIMessage)
    return message
