"""Which tools a conversation shows, worked out from the conversation itself.

Nothing is remembered beside it: the same history gives the same tools in any process, after any
checkpoint, for any number of conversations at once. Each answer carries the names of the tools that
its request showed (:data:`SHOWN`, in its ``response_metadata``, which no provider is sent), so that
what was shown stays, in its order, whatever was learned meanwhile. Where an application keeps only
texts, what each turn needs is worked out once more, and what was called stays.

Providers keep the beginning of a prompt at a discount, and the tools stand first. So within a turn
tools are only added, behind the others. A new turn keeps what was shown if it needs nothing else;
if it does, the beginning is lost behind the tools anyway, and what is no longer needed, and was not
called, is dropped once there is more than a ceiling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress.question import SHORT_PARAGRAPH, asks
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.tools.selection_tools import RequestTools
from langchain_tokenopt.tools.tool_text import roots_of

__all__ = ["SHOWN", "Ceiling", "answered_calls", "mark", "question_at", "shown_names"]

SHOWN: Final = "tokenopt_tools"
"""Key in ``response_metadata`` of an answer: which tools its request has shown."""

_EPOCH: Final = 16
"""Turns of an unmarked conversation that are read, at least; where reading begins moves in steps,
so that most turns begin as the one before."""
_FOLLOW_UP: Final = 3
"""Telling words; with fewer a question is about what was said before it."""
_SAID_BEFORE: Final = 600
"""Characters of the answer before a follow-up that are read: its end, which may offer something."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How much a conversation keeps showing when a new turn needs more."""

    tools: int
    tokens: float

    def holds(
        self, tools: RequestTools, names: Collection[str], beside: Collection[str] = ()
    ) -> bool:
        """Whether these are no more; of what stands *beside* only the tokens count."""
        places = [at for name in (*names, *beside) for at in tools.by_name[name]]
        tokens = sum(card.tokens for at in places if (card := tools.cards[at]) is not None)
        return len(names) <= self.tools and tokens <= self.tokens


def shown_names(
    messages: Sequence[BaseMessage],
    tools: RequestTools,
    fixed: Sequence[str],
    select: Callable[[int], Sequence[str]],
    ceiling: Ceiling,
) -> list[str]:
    """Return the tools that a request shows besides *fixed*, in order.

    Args:
        messages: The conversation.
        tools: All tools of the request.
        fixed: Names that are shown anyway.
        select: Returns what the turn needs that begins with the message of this index, or what the
            request needs as a whole, at -1.
        ceiling: From where on what is no longer needed is dropped.
    """
    begin, shown = _beginning(messages, tools)
    has_turn = bool(shown)
    for at in range(begin, len(messages)):
        message = messages[at]
        if isinstance(message, HumanMessage):
            has_turn, wanted = True, [n for n in select(at) if n not in fixed]
            grown = _with(shown, wanted)
            if len(grown) > len(shown):
                called = _called_in(messages[:at], tools, fixed)
                if not ceiling.holds(tools, {*grown} - {*called}):
                    grown = _with(called, wanted)
            shown = grown
        elif isinstance(message, AIMessage):
            shown = _with(_marked(message, tools, fixed), shown)
            shown = _with(shown, _called(message, tools, fixed))
    if not has_turn:
        shown = _with(shown, [name for name in select(-1) if name not in fixed])
    return _with(shown, [n for n in _unanswered(messages) if n in tools.by_name and n not in fixed])


def _beginning(messages: Sequence[BaseMessage], tools: RequestTools) -> tuple[int, list[str]]:
    """Return from where to read, and what was shown up to there."""
    for at in range(len(messages) - 1, -1, -1):
        of, names = _mark_of(messages[at])
        if names is not None and of == tools.digest:
            return at, [n for n in dict.fromkeys(names) if n in tools.by_name]
    turns = [at for at, message in enumerate(messages) if isinstance(message, HumanMessage)]
    skipped = max(0, len(turns) // _EPOCH - 1) * _EPOCH
    return (turns[skipped] if skipped else 0), []


def _marked(message: AIMessage, tools: RequestTools, fixed: Sequence[str]) -> list[str]:
    """Return what an answer says was shown, as far as it is still there.

    An application may bind another tool between two requests, or one less.
    """
    return [n for n in _mark_of(message)[1] or () if n in tools.by_name and n not in fixed]


def _mark_of(message: BaseMessage) -> tuple[Any, Sequence[str] | None]:
    """Return of which tools an answer says what was shown; nothing where it cannot be read."""
    marked = message.response_metadata.get(SHOWN)
    if not isinstance(marked, Mapping):
        return None, None
    names = marked.get("shown")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None, None
    return marked.get("of"), names


def _called_in(
    messages: Sequence[BaseMessage], tools: RequestTools, fixed: Sequence[str]
) -> list[str]:
    """Return what was called in a conversation, in the order of the application."""
    answers = (message for message in messages if isinstance(message, AIMessage))
    found = {name for message in answers for name in _called(message, tools, fixed)}
    return sorted(found, key=lambda name: tools.by_name[name])


def _called(message: AIMessage, tools: RequestTools, fixed: Sequence[str]) -> list[str]:
    names = dict.fromkeys(call["name"] for call in message.tool_calls)
    return [name for name in names if name in tools.by_name and name not in fixed]


def _with(shown: Sequence[str], more: Sequence[str]) -> list[str]:
    return [*dict.fromkeys([*shown, *more])]


def _unanswered(messages: Sequence[BaseMessage]) -> list[str]:
    """Return the names of the tools whose calls lack an answer."""
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    calls = (call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls)
    return [call["name"] for call in calls if call["id"] not in answered]


def mark(tools: RequestTools, shown: Sequence[str]) -> dict[str, Any]:
    """Return what an answer's metadata says of the tools of its request."""
    return {SHOWN: {"of": tools.digest, "shown": [*shown]}}


# --- questions


def question_at(messages: Sequence[BaseMessage], at: int) -> str:
    """Return what the user wants with the message at *at*, with what a short one refers to.

    At -1, of a request without a user's message, what its system message says.
    """
    if at < 0:  # an application that asks in its system message
        return "\n".join(text_of(m) for m in messages if isinstance(m, SystemMessage))
    asked = _request_in(text_of(messages[at]))
    if len(set(roots_of(asked[:_SAID_BEFORE]))) >= _FOLLOW_UP or len(asked) > _SAID_BEFORE:
        return asked
    before = range(at - 1, -1, -1)
    said = next((text_of(messages[i]) for i in before if isinstance(messages[i], AIMessage)), "")
    asked_before = next((i for i in before if isinstance(messages[i], HumanMessage)), None)
    earlier = "" if asked_before is None else text_of(messages[asked_before])
    parts = [part for part in (earlier, said[-_SAID_BEFORE:], asked) if part.strip()]
    return "\n".join(parts) or question_at(messages, -1)


def _request_in(text: str) -> str:
    """Return what a message says around the long paragraphs, lists and files that it quotes."""
    if len(text) <= SHORT_PARAGRAPH:
        return text
    paragraphs = [part.strip() for part in _PARAGRAPHS.split(text) if part.strip()]
    short = [part for part in paragraphs if len(part) <= SHORT_PARAGRAPH]
    said = "\n".join(short)
    if len(set(roots_of(said[:_SAID_BEFORE]))) < _TELLING:
        said = text
    if len(said) <= 2 * _SAID_BEFORE:
        return said
    questions = "\n".join(part for part in short if asks(part))[:_SAID_BEFORE]
    return "\n".join((said[:_SAID_BEFORE], questions, said[-_SAID_BEFORE:]))


_PARAGRAPHS: Final = re.compile(r"\n\s*\n")
_TELLING: Final = 2
"""Telling words that a request has at least."""


def answered_calls(messages: Sequence[BaseMessage]) -> tuple[int, dict[str, str]]:
    """Return what the tools have just answered: their turn's index, and the names of those calls.

    Only of the answers that end the conversation, so that each is met once, and without those that
    say that something went wrong.
    """
    end = len(messages)
    while end and isinstance(messages[end - 1], ToolMessage):
        end -= 1
    asking = messages[end - 1] if end else None
    turn = next((i for i in range(end - 1, -1, -1) if isinstance(messages[i], HumanMessage)), -1)
    if turn < 0 or not isinstance(asking, AIMessage):
        return -1, {}
    name_of = {call["id"]: call["name"] for call in asking.tool_calls}
    answers = [m for m in messages[end:] if isinstance(m, ToolMessage) and m.status == "success"]
    return turn, {
        answer.tool_call_id: name_of[answer.tool_call_id]
        for answer in answers
        if answer.tool_call_id in name_of
    }
