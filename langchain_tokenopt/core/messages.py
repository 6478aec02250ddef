"""Pure functions on LangChain messages. None of them changes what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    ToolCall,
    ToolMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langchain_core.prompt_values import PromptValue

from langchain_tokenopt.core.argument_checks import shown

MessageT = TypeVar("MessageT", bound=BaseMessage)

__all__ = [
    "answers_calls",
    "append_to_last_user",
    "as_chunk",
    "as_message",
    "atomic_groups",
    "is_answered",
    "last_user_text",
    "messages_from",
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


def messages_from(given: Any) -> list[BaseMessage]:
    """Return messages in whatever form models take them; a list of messages is the very list.

    Raises:
        TypeError: *given* is no conversation.

    Example:
        >>> messages_from([("system", "Be brief."), {"role": "user", "content": "Hi"}])[1].content
        'Hi'
        >>> messages_from([HumanMessage("Hi"), None])
        Traceback (most recent call last):
        ...
        TypeError: messages are a list of messages, as models take them; messages[1] is None.
    """
    if isinstance(given, PromptValue):
        return given.to_messages()
    if isinstance(given, str):
        return [HumanMessage(given)]
    if not isinstance(given, Iterable) or isinstance(given, Mapping | BaseMessage | bytes):
        raise TypeError(
            f"messages are a list of messages, as models take them; got {shown(given)}."
        )
    if isinstance(given, list) and all(isinstance(one, BaseMessage) for one in given):
        return given
    made: list[BaseMessage] = []
    for at, one in enumerate(given):
        try:
            made += convert_to_messages([one])
        except Exception as error:
            raise TypeError(
                f"messages are a list of messages, as models take them; messages[{at}] is "
                f"{shown(one)}."
            ) from error
    return made


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


def is_answered(group: Sequence[BaseMessage]) -> bool:
    """Whether each tool call of a group, which :func:`atomic_groups` found, has its answer."""
    answered = {call_id for message in group[1:] for call_id in _answered(message)}
    return answered.issuperset(_calls(group[0]))


def answers_calls(message: BaseMessage) -> bool:
    """Whether a message, of whatever role, is the result of tool calls."""
    return bool(_answered(message))


def _tool_calls(message: BaseMessage) -> list[ToolCall | InvalidToolCall]:
    if not isinstance(message, AIMessage):
        return []
    return [*message.tool_calls, *message.invalid_tool_calls]


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
        if _calls(messages[group[0]]):
            return not is_answered([messages[index] for index in group])
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


def as_message(chunk: BaseMessage) -> BaseMessage:
    """Return a chunk, or the sum of a stream's chunks, as an ordinary message of its kind.

    Example:
        >>> as_message(AIMessageChunk("4") + AIMessageChunk("2")).content
        '42'
    """
    return message_chunk_to_message(chunk)
