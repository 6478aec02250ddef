"""The texts of a message: where they stand, and the message with others in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage, convert_to_messages

__all__ = [
    "LEFT_OUT", "Slot", "as_messages", "as_written", "is_empty", "slots_of", "with_texts",
    "with_texts_replaced", "without_texts",
]  # fmt: skip

LEFT_OUT = "[left out]"
"""Stands for a tool result of which nothing is kept: a call must have its answer, and providers
refuse an empty one."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where in a message a text stands."""

    message: int
    block: int | None
    """Index of the content block; ``None`` for string content."""


def as_messages(content: Sequence[Any]) -> list[BaseMessage] | None:
    """Return what LangChain takes for messages as such: roles and texts as dicts or tuples, texts.

    Returns:
        ``None`` where one of them is none.
    """
    made = []
    for index, item in enumerate(content):
        if isinstance(item, BaseMessage):
            made.append(item)
            continue
        try:
            (message,) = convert_to_messages([item])
        except (ValueError, TypeError, NotImplementedError):
            return None
        made.append(message.model_copy(update={"id": f"{_WRITTEN_AT}{index}"}))
    return made


_WRITTEN_AT = "written at "


def as_written(messages: Sequence[BaseMessage], content: Sequence[Any]) -> list[Any]:
    """Return *messages* in the forms that those of *content* have of which they were made."""
    made: list[Any] = []
    for message in messages:
        if message.id is None or not message.id.startswith(_WRITTEN_AT):
            made.append(message)
            continue
        item = content[int(message.id.removeprefix(_WRITTEN_AT))]
        if isinstance(item, str):
            made.append(message.content)
        elif isinstance(item, dict):
            made.append({**item, "content": message.content})
        else:
            made.append(type(item)([item[0], message.content]))
    return made


def slots_of(message: BaseMessage, index: int) -> list[tuple[Slot, str]]:
    """Return the texts of the message at *index*, with where they stand."""
    content = message.content
    if isinstance(content, str):
        return [(Slot(index, None), content)]
    found = []
    for number, block in enumerate(content):
        if isinstance(block, str):
            found.append((Slot(index, number), block))
        elif (
            isinstance(block, Mapping)
            and block.get("type") == "text"
            and isinstance(block.get("text"), str)
        ):
            found.append((Slot(index, number), block["text"]))
    return found


def with_texts(message: BaseMessage, texts: Mapping[int | None, str]) -> BaseMessage:
    """Return a copy of *message* with some of its texts replaced; empty text blocks go."""
    if None in texts:
        return message.model_copy(update={"content": texts[None]})
    blocks: list[Any] = []
    for number, block in enumerate(message.content):
        text = texts.get(number)
        if text is None:
            blocks.append(block)
        elif text:
            blocks.append(text if isinstance(block, str) else {**block, "text": text})
    return message.model_copy(update={"content": blocks})


def without_texts(message: BaseMessage) -> BaseMessage:
    """Return what is left of a message without its texts: role, calls, media."""
    if isinstance(message.content, str):
        return message.model_copy(update={"content": ""}) if message.content else message
    texts = {slot.block for slot, _ in slots_of(message, 0)}
    rest = [block for number, block in enumerate(message.content) if number not in texts]
    return message.model_copy(update={"content": rest})


def with_texts_replaced(message: BaseMessage, rewrite: Callable[[str], str]) -> BaseMessage:
    """Return *message* with each of its texts rewritten; the same object if none changes."""
    texts = {
        slot.block: shorter
        for slot, text in slots_of(message, 0)
        if text and (shorter := rewrite(text)) != text
    }
    return with_texts(message, texts) if texts else message


def is_empty(message: BaseMessage) -> bool:
    """Say whether a message has neither text nor media nor calls: providers refuse those."""
    content = message.content
    if getattr(message, "tool_calls", None) or isinstance(message, ToolMessage):
        return False
    if isinstance(content, str):
        return not content.strip()
    return not any(
        block.strip() if isinstance(block, str) else _has_content(block) for block in content
    )


def _has_content(block: Mapping[str, Any]) -> bool:
    return block.get("type") != "text" or bool(str(block.get("text", "")).strip())
