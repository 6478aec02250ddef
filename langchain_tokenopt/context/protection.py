"""What of a conversation stays as it is, what may be set aside, and what was said again later."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.core.conversation import answered_turns, last_user_message
from langchain_tokenopt.core.messages import answers_calls, atomic_groups, is_answered

__all__ = ["protected", "removable", "superseded", "task_of"]


def protected(messages: Sequence[BaseMessage], keep_last: int) -> set[int]:
    """Return the messages that stay as they are: whatever it costs, in every view.

    System messages, the task, the user's last message, tool calls without all of their results or
    whose results the model has not read yet, and the last groups.
    """
    groups = atomic_groups(messages)
    kept = {at for at, m in enumerate(messages) if isinstance(m, SystemMessage)}
    humans = [
        at for at, m in enumerate(messages) if isinstance(m, HumanMessage) and not answers_calls(m)
    ]
    kept.update(humans[:1], humans[-1:], [max(0, last_user_message(messages))])
    last = max((at for at, m in enumerate(messages) if isinstance(m, AIMessage)), default=-1)
    for group in groups:
        is_unread = len(group) > 1 and group[0] == last
        if is_unread or not is_answered([messages[at] for at in group]):
            kept.update(group)
    for group in groups[-keep_last:] if keep_last else ():
        kept.update(group)
    return kept


def task_of(messages: Sequence[BaseMessage]) -> int:
    """Return the index of the user's first message; -1: there is none."""
    users = (
        at for at, m in enumerate(messages) if isinstance(m, HumanMessage) and not answers_calls(m)
    )
    return next(users, -1)


def superseded(messages: Sequence[BaseMessage]) -> set[int]:
    """Return the tool results whose call was made again, and answered again, later."""
    asked = {
        call["id"]: (call["name"], repr(call["args"]))
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    latest: dict[tuple[str, str], int] = {}
    found = set()
    for at, message in enumerate(messages):
        key = asked.get(message.tool_call_id) if isinstance(message, ToolMessage) else None
        if key is not None:
            if key in latest:
                found.add(latest[key])
            latest[key] = at
    return found


def removable(messages: Sequence[BaseMessage], kept: set[int]) -> list[list[int]]:
    """Return what can be set aside, oldest first: whole turns that were answered, else groups."""
    groups = atomic_groups(messages)
    group_of = {at: group for group in groups for at in group}
    turns = [
        [at for at in range(*turn) if not isinstance(messages[at], SystemMessage)]
        for turn in answered_turns(messages)
    ]
    whole = [turn for turn in turns if all({*group_of[at]} <= {*turn} - kept for at in turn)]
    taken = {at for turn in whole for at in turn}
    rest = [group for group in groups if (taken | kept).isdisjoint(group)]
    return sorted(unit for unit in (*whole, *rest) if unit)
