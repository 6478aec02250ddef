"""Which messages of a conversation stay, and which compete: turns, calls, rules, what asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress.prompt_lines import LONG_LINE, SHORT, typical
from langchain_tokenopt.compress.prompt_parts import is_material
from langchain_tokenopt.compress.question import SHORT_OUTSIDE, SHORT_PARAGRAPH, asks
from langchain_tokenopt.core.messages import atomic_groups

__all__ = [
    "Competing", "Conversation", "asking_block", "conversation_of", "rules_of", "system_passages",
]  # fmt: skip

Competing = Literal["earlier turns", "earlier calls", "all calls", "rules"]
"""What may go: turns before the current one, calls before the last one, results of the last one,
and in the end the rules that were set in earlier turns."""


@dataclass(slots=True)
class Conversation:
    """The parts of a message list that are treated differently."""

    last_human: int
    asking: int
    """The message of the user that asks: the last one, or another of those at the end."""
    first_human: int
    """Where the messages at the end begin that nothing answers."""
    fixed: set[int] = field(default_factory=set)
    """Messages that stay: system messages, and the current turn."""
    groups: list[list[int]] = field(default_factory=list)
    """Tool calls with their answers, of earlier turns: kept or dropped together."""
    running: list[list[int]] = field(default_factory=list)
    """Tool calls of the current turn that compete: dropped with their answers, or shortened."""
    keeps_rules: bool = True
    """Whether turns that only tell how to answer stay."""
    last_results: frozenset[int] = frozenset()
    """Tool messages of the current turn that stay, but may be shortened."""


def conversation_of(messages: Sequence[BaseMessage], competing: Competing) -> Conversation:
    """Tell the parts of *messages* apart, where *competing* may go."""
    last = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=-1)
    first = last
    while first > 0 and isinstance(messages[first - 1], HumanMessage):
        first -= 1
    found = Conversation(last, _asking_message(messages, first, last), first)
    found.fixed.add(found.asking)
    calls = []
    for group in atomic_groups(messages):
        current = last < 0 or max(group) >= last
        if current or any(isinstance(messages[i], SystemMessage) for i in group):
            found.fixed.update(group)
            if len(group) > 1 and min(group) > last:
                calls.append(group)
        elif (
            len(group) > 1
            or isinstance(messages[group[0]], ToolMessage)
            or getattr(messages[group[0]], "tool_calls", None)
        ):
            found.groups.append(group)
    if competing != "earlier turns":
        found.running = calls[:-1]
        found.fixed.difference_update(*found.running)
    found.keeps_rules = competing != "rules"
    if competing in ("all calls", "rules") and calls:
        found.last_results = frozenset(calls[-1][1:])
    return found


def _asking_message(messages: Sequence[BaseMessage], first: int, last: int) -> int:
    """Return which message of a run of the user's asks: others may be documents."""
    texts = [message.text for message in messages[first : last + 1]]
    are_short = typical([len(text) for text in texts]) < LONG_LINE
    return last if first >= last or are_short else first + asking_block(texts)[0]


def asking_block(texts: Sequence[str]) -> tuple[int, range]:
    """Return which of several text blocks asks, and which before the others are as short.

    The last short one with a question mark asks, or else the last one, or the first, that is short
    beside the others.
    """
    middle = typical([len(text) for text in texts])
    short = [at for at, text in enumerate(texts) if len(text) <= SHORT_PARAGRAPH]
    asking = [at for at in short if asks(texts[at])]
    tasks = [at for at in short if len(texts[at]) <= SHORT_TASK * middle]
    last, first = len(texts) - 1, 0
    likely = [at for at in (last, first) if at in tasks] or tasks[-1:]
    if len(likely) > 1 and 2 * len(texts[first]) < len(texts[last]):
        likely.reverse()
    likely += [at for at in (last, first) if at in short]
    found = [*asking[-1:], *likely, last][0]
    own = 0
    while own in tasks and own != found:
        own += 1
    return found, range(own)


def rules_of(
    messages: Sequence[BaseMessage], plan: Conversation, limit: int | None
) -> frozenset[int]:
    """Return which earlier messages of the user only tell how to answer.

    Such a one is short and asks nothing, and the reply is a word or two; or there is none, and the
    messages behind it are longer. Of many only the first ones are told from small talk.
    """
    room = SHORT_OUTSIDE if limit is None else min(SHORT_OUTSIDE, limit)
    run = messages[max(0, plan.first_human) : plan.last_human + 1]
    longest = SHORT_TASK * typical([len(message.text) for message in run])
    found = set()
    for index in range(max(0, plan.last_human)):
        message, reply = messages[index], messages[index + 1]
        if not isinstance(message, HumanMessage) or asks(message.text):
            continue
        if index >= plan.first_human:
            sets_rules = len(message.text) <= longest
        else:
            is_nod = len(reply.text) <= LONGEST_NOD and not asks(reply.text)
            sets_rules = is_nod and not getattr(reply, "tool_calls", None)
        if sets_rules and len(message.text) <= SHORT_PARAGRAPH:
            room -= len(message.text) + _FRAME
            if room < 0:
                break
            found.add(index)
    return frozenset(found)


SHORT_TASK = 0.5
"""Share of a typical text up to which one beside it is a task rather than a document."""
_FRAME = 20
"""Characters that the frame of a message counts for."""
LONGEST_NOD = 60
"""Characters of a reply that says no more than that a message was read."""


def system_passages(messages: Sequence[BaseMessage]) -> frozenset[int]:
    """Return which system messages are passages, where each passage has a message of its own."""
    systems = [at for at, message in enumerate(messages) if isinstance(message, SystemMessage)]
    middle = typical([len(messages[at].text) for at in systems])
    long = [at for at in systems if len(messages[at].text) > SHORT * middle]
    openings = [messages[at].text[:_OPENING] for at in long]
    told = [messages[at].text for at in systems if at not in long]
    if len(long) < _FEWEST_MESSAGES or not is_material(
        "\n".join([*told, *openings]), [messages[at].text for at in long]
    ):
        return frozenset()
    return frozenset(long)


_FEWEST_MESSAGES = 3
_OPENING = 40
"""Characters in which a message may say that it is a document."""
