"""Pure functions on LangChain messages. None of them changes what it is given."""

from __future__ import annotations

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
    InvalidToolCall,
    ToolCall,
    ToolMessage,
    message_chunk_to_message,
)
from pydantic import BaseModel

from langchain_tokenopt.core.media import IMAGE_BLOCKS, MEDIA_BLOCKS, payload_of

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
    return _kind(block) in _TEXT_BLOCKS


def _kind(block: object) -> str:
    """Return a content block's type; empty for what is no block."""
    return str(block.get("type") or "") if isinstance(block, Mapping) else ""


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

_CALL_BLOCKS = frozenset({"function_call", "tool_call", "tool_call_chunk", "tool_use"})
_MEDIA = IMAGE_BLOCKS | MEDIA_BLOCKS
_INCIDENTAL = frozenset({"cache_control", "id", "index", "signature"})
"""Keys of a content block that change without the block saying anything else."""

_SENT_KWARGS = ("__openai_role__", "function_call", "reasoning_content", "refusal")
"""What integrations send back to the model out of ``additional_kwargs``."""

_ROLES = {"ai": "assistant", "human": "user"}


def canonical(message: BaseMessage) -> dict[str, Any]:
    """Return what *message* says to a model, as JSON data without what changes every time.

    Left out: message ids, usage, response metadata, artifacts, cache marks and signatures.
    Tool-call ids are numbered in order; images, audio and files are replaced by the SHA-256 of
    their bytes, whichever form they are given in. A string and one text block look the same. The
    result shares nothing with the message. Compare it as it is, or dump it with ``sort_keys``.

    Example:
        >>> canonical(HumanMessage("Hello", id="run-1"))
        {'role': 'user', 'content': [{'type': 'text', 'text': 'Hello'}]}
    """
    return _canonical(message, _CallNumbers())


def canonical_messages(messages: Iterable[BaseMessage]) -> list[dict[str, Any]]:
    """Return :func:`canonical` of each message, with tool calls numbered across the list.

    Two lists with equal forms say the same to a model, whatever ids they carry.

    Example:
        >>> call = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "call_x9"}])
        >>> canonical_messages([call, ToolMessage("1", tool_call_id="call_x9")])[1]["answers"]
        0
    """
    numbers = _CallNumbers()
    return [_canonical(message, numbers) for message in messages]


class _CallNumbers:
    """Numbers tool calls in order. An id that a provider uses again is a new call."""

    def __init__(self) -> None:
        self._of_id: dict[str, int] = {}
        self._next = 0

    def call(self, call_id: str | None) -> int:
        number, self._next = self._next, self._next + 1
        if call_id:
            self._of_id[call_id] = number
        return number

    def answer(self, call_id: str) -> int:
        return self._of_id[call_id] if call_id in self._of_id else self.call(call_id)


def _canonical(message: BaseMessage, numbers: _CallNumbers) -> dict[str, Any]:
    role = message.role if isinstance(message, ChatMessage) else message.type
    role = role.removesuffix("MessageChunk").lower()
    form: dict[str, Any] = {"role": _ROLES.get(role, role)}
    if message.name:
        form["name"] = message.name
    calls = _tool_calls(message)
    if calls:
        form["tool_calls"] = [
            {
                "id": numbers.call(call["id"]),
                "name": call["name"],
                "args": _plain(call["args"]),
            }
            for call in calls
        ]
    if isinstance(message, ToolMessage):
        form["answers"] = numbers.answer(message.tool_call_id)
        if message.status == "error":
            form["status"] = "error"
    form["content"] = _canonical_blocks(message.content, numbers, leave_out_calls=bool(calls))
    sent = {key: message.additional_kwargs.get(key) for key in _SENT_KWARGS}
    form.update({key: _plain(value) for key, value in sent.items() if value})
    return form


def _tool_calls(message: BaseMessage) -> list[ToolCall | InvalidToolCall]:
    if not isinstance(message, AIMessage):
        return []
    return [*message.tool_calls, *message.invalid_tool_calls]


def _canonical_blocks(
    content: Any, numbers: _CallNumbers, *, leave_out_calls: bool = False
) -> list[Any]:
    blocks = content if isinstance(content, list) else [content]
    return [
        _canonical_block(block, numbers)
        for block in blocks
        if block != "" and not (leave_out_calls and _kind(block) in _CALL_BLOCKS)
    ]


def _canonical_block(block: Any, numbers: _CallNumbers) -> Any:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if not isinstance(block, Mapping):
        return _plain(block)
    kind = _kind(block)
    if kind in _MEDIA:
        content = payload_of(block).content()
        if content is not None:
            return _canonical_media(block, content)
    form: dict[str, Any] = {
        str(key): _plain(value) for key, value in block.items() if key not in _INCIDENTAL
    }
    if block.get("source_type") == "id":  # here the id is a file's, and says which one is meant
        form["id"] = block.get("id")
    if kind in _CALL_BLOCKS:
        form["id"] = numbers.call(block.get("id"))
    if kind == "tool_result":
        form["tool_use_id"] = numbers.answer(str(block.get("tool_use_id")))
        form["content"] = _canonical_blocks(block.get("content", ""), numbers)
    return form


def _canonical_media(block: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    payload = payload_of(block)
    form = {"type": payload.kind or block["type"], "sha256": hashlib.sha256(content).hexdigest()}
    if payload.detail:
        form["detail"] = payload.detail
    return {**{key: block[key] for key in ("context", "title") if block.get(key)}, **form}


def _plain(value: Any) -> Any:
    """Copy *value* as JSON data."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(inner) for inner in value), key=repr)
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    return str(value)


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
    ids = [call["id"] for call in _tool_calls(message)]
    legacy = message.additional_kwargs.get("function_call")
    if legacy:
        ids.append(f"function {legacy.get('name')}")
    return [call_id for call_id in ids if call_id]


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
    r"""Return the messages with a short request added at the end of the last human message.

    It goes there, and not into the system message or a message of its own, because everything
    before it stays byte-identical: a provider's prompt cache keeps what it has. Within one turn of
    an agent every call gets the same request in the same place, so the tool results that follow
    stay cached as well. Asking twice changes nothing.

    A string is continued after an empty line; block content gets a text block of its own, so a
    ``cache_control`` mark keeps its block as it was. Without a human message one is added at the
    end, which providers accept after system, AI and tool messages. Tool messages are never
    altered. A conversation that ends in tool calls without answers is returned as it is: nothing
    but the answers may follow.

    Example:
        >>> asked = append_to_last_user([HumanMessage("Why is it blue?")], "At most 50 words.")
        >>> asked[-1].content
        'Why is it blue?\n\nAt most 50 words.'
    """
    result = list(messages)
    for index in range(len(result) - 1, -1, -1):
        if isinstance(result[index], HumanMessage):
            result[index] = _appended(result[index], text)
            return result
    if not text or _awaits_answers(result):
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
    """Whether the last tool calls of the conversation lack an answer."""
    for group in reversed(atomic_groups(messages)):
        called = _calls(messages[group[0]])
        if called:
            answered = {call_id for index in group[1:] for call_id in _answered(messages[index])}
            return not answered.issuperset(called)
    return False


# --- chunks --------------------------------------------------------------------------------------


def as_chunk(message: AIMessage) -> AIMessageChunk:
    """Return *message* as the only chunk of a stream; :func:`as_message` is the way back.

    Content, tool calls (invalid ones too), usage, ids and metadata are kept. When LangChain adds
    chunks it reads the arguments of all calls again, and mends what is only cut off.

    Example:
        >>> chunk = as_chunk(AIMessage("42", id="7"))
        >>> chunk.content, chunk.id, chunk.chunk_position
        ('42', '7', 'last')
    """
    if isinstance(message, AIMessageChunk):
        return message
    fields = {name: value for name, value in message.__dict__.items() if name != "type"}
    return AIMessageChunk(**fields, chunk_position="last")


def as_message(chunk: AIMessage) -> AIMessage:
    """Return a chunk, or the sum of a stream's chunks, as an ordinary message.

    Example:
        >>> as_message(AIMessageChunk("4") + AIMessageChunk("2")).content
        '42'
    """
    message = message_chunk_to_message(chunk)
    assert isinstance(message, AIMessage)
    return message
