"""How a conversation is read: its task, its turns, the results that came last.

The one answer for all that shorten conversations; tool calls with their results are
:func:`~langchain_tokenopt.core.messages.atomic_groups`.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

__all__ = ["answered_turns", "begin_of_last_results", "first_turn", "last_user_message"]


def first_turn(messages: Sequence[BaseMessage]) -> int:
    """Return where the turns begin: behind the system messages and the task, the first message.

    Example:
        >>> first_turn([SystemMessage("Be brief."), HumanMessage("Plan a trip."), AIMessage("Ok")])
        2
    """
    at = 0
    while at < len(messages) and isinstance(messages[at], SystemMessage):
        at += 1
    return min(at + 1, len(messages))


def last_user_message(messages: Sequence[BaseMessage]) -> int:
    """Return the index of the user's last message; -1: there is none."""
    return max((n for n, m in enumerate(messages) if isinstance(m, HumanMessage)), default=-1)


def answered_turns(messages: Sequence[BaseMessage]) -> list[tuple[int, int]]:
    """Return where turns begin and end that the model has answered, the latest not among them.

    Example:
        >>> talk = [HumanMessage("Hi"), AIMessage("Yes?"), HumanMessage("Why?"), AIMessage("So.")]
        >>> answered_turns([*talk, HumanMessage("Really?")])
        [(1, 2), (2, 4)]
    """
    begin, turns = first_turn(messages), []
    for at, message in enumerate(messages[: max(0, last_user_message(messages))]):
        if at >= begin and isinstance(message, AIMessage) and not message.tool_calls:
            turns.append((begin, at + 1))
            begin = at + 1
    return turns


def begin_of_last_results(messages: Sequence[BaseMessage]) -> int:
    """Return where the latest tool results begin."""
    index = len(messages)
    while index > 0 and not isinstance(messages[index - 1], ToolMessage):
        index -= 1
    while index > 0 and isinstance(messages[index - 1], ToolMessage):
        index -= 1
    return index
