"""Recorded conversations, read from lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from langchain_core.messages import (
    BaseMessage,
    BaseMessageChunk,
    RemoveMessage,
    convert_to_messages,
    message_chunk_to_message,
    messages_from_dict,
)

from langchain_tokenopt.core.argument_checks import shown
from langchain_tokenopt.core.errors import TokenOptError

__all__ = ["ConversationFileError", "recorded_conversations"]


class ConversationFileError(TokenOptError, ValueError):
    """A file of recorded conversations cannot be read; the message names the line."""


_FORM: Final = (
    'Each line is a message, {"role": ..., "content": ...} or as messages_to_dict writes it, or '
    'each line is a conversation: a list of messages, or {"messages": [...]}.'
)


def recorded_conversations(lines: Iterable[str], name: str = "it") -> list[list[BaseMessage]]:
    """Return the conversations of a file: one message a line, or one conversation a line.

    Messages are as OpenAI writes them (``role``, ``content``, ``tool_calls``), or as LangChain does
    (``messages_to_dict``, ``model_dump``, ``dumpd``). Blank lines are skipped.

    Args:
        lines: Of JSON.
        name: Of the file, for errors.

    Raises:
        ConversationFileError: A line is something else.
        TypeError: *lines* are no lines of text.

    Example:
        >>> line = '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]'
        >>> [[message.type for message in talk] for talk in recorded_conversations([line])]
        [['human', 'ai']]
    """
    if isinstance(lines, str | bytes) or not isinstance(lines, Iterable):
        raise TypeError(f"lines are those of an open file, or a list; got {shown(lines)}.")
    talks: list[list[BaseMessage]] = []
    single: list[BaseMessage] = []
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str):
            raise TypeError(f"lines are texts; got {shown(line)}.")
        if not line.strip():
            continue
        value = _json(line, f"Line {number:,} of {name}")
        given = value.get("messages") if isinstance(value, dict) else value
        try:
            if isinstance(given, list):
                talks.append([_message(one) for one in given])
            else:
                single.append(_message(value))
        except _NoMessageError as error:
            raise ConversationFileError(f"Line {number:,} of {name} {error}. {_FORM}") from error
        if talks and single:
            both = (
                "is a conversation, and others are messages"
                if isinstance(given, list)
                else ("is a message, and others are conversations")
            )
            raise ConversationFileError(f"Line {number:,} of {name} {both}. {_FORM}")
    return [single] if single else talks


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        hint = " A document of several lines has to be put on one." if line.strip() in "[{" else ""
        raise ConversationFileError(f"{where} is no JSON: {why}.{hint} {_FORM}") from error


class _NoMessageError(Exception):
    """Something is no message; says why, as the end of a sentence."""


def _message(value: Any) -> BaseMessage:
    if not isinstance(value, dict):
        raise _NoMessageError(f"has {shown(value)} where a message should be")
    kind = value.get("role", value.get("type"))
    if not isinstance(kind, str):
        raise _NoMessageError("has no role")
    try:
        if isinstance(value.get("data"), dict) and "role" not in value:
            (made,) = messages_from_dict([value])
        else:
            (made,) = convert_to_messages([{"content": None, **value}])
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise _NoMessageError(
            f"has no message of the role {shown(kind)} that can be read"
        ) from error
    if isinstance(made, RemoveMessage):
        raise _NoMessageError("has a message that removes others")
    return message_chunk_to_message(made) if isinstance(made, BaseMessageChunk) else made
