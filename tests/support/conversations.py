"""Histories as agents leave them, and stranger ones: for laws that must hold of all.

Seeded, so that a case is named by its number.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

__all__ = ["IMAGE", "agent_loop", "history", "orphans", "turns", "unanswered"]

IMAGE = {"type": "image", "base64": "iVBORw0KGgoAAAANSUhEUg==", "mime_type": "image/png"}
_LINE = (
    "river market signal paciente alergia presión 予約 返金 お問い合わせ clause hereby Frist build "
    "trace module ledger 42 1.5 2026-03-04 KX-4471 €300 never must instead actually ok gracias"
)
_WORDS = _LINE.split()
_SAID = (
    "Thanks!",
    "Never call me before 9.",
    "Actually, I meant the 14th, not the 4th.",
    "Mi presión es 150/95 y soy alérgica a la penicilina.",
    "予約番号はKX-4471です。返金をお願いします。",
    "We agreed: delivery by 2026-03-04, penalty 0.5 % per week.",
    "",
    "   ",
    "[12 tokens set aside: what somebody quotes]",
)


def _text(chance: random.Random, most: int = 120) -> str:
    if chance.random() < 0.3:
        return chance.choice(_SAID)
    size = chance.choice((1, 5, 20, most, most))
    words = " ".join(chance.choices(_WORDS, k=chance.randint(1, size)))
    return words + chance.choice((".", "\n", "。", "?", ""))


def _result(chance: random.Random, call_id: str) -> ToolMessage:
    kind = chance.random()
    content: Any = _text(chance, 400)
    if kind < 0.2:
        rows = [{"id": n, "name": chance.choice(_WORDS)} for n in range(chance.randint(0, 40))]
        content = repr(rows).replace("'", '"')
    elif kind < 0.3:
        content = [{"type": "text", "text": content or "a"}, IMAGE]
    elif kind < 0.35:
        content = "x" * 4_000
    status: Any = "error" if kind > 0.92 else "success"
    return ToolMessage(content, tool_call_id=call_id, status=status)


def _said(chance: random.Random) -> AIMessage:
    if chance.random() < 0.15:
        thought = {"type": "thinking", "thinking": _text(chance), "signature": "s"}
        return AIMessage([thought, {"type": "text", "text": _text(chance) or "."}])
    return AIMessage(_text(chance))


def history(seed: int) -> list[BaseMessage]:
    """Return the history of a number."""
    chance = random.Random(seed)
    made: list[BaseMessage] = [
        SystemMessage(_text(chance)) for _ in range(chance.choice((0, 1, 1, 2)))
    ]
    if chance.random() < 0.1:
        made.append(ToolMessage(_text(chance), tool_call_id="lost"))
    if chance.random() < 0.1:
        made.append(_said(chance))
    repeats = chance.random() < 0.1
    numbers = iter(range(10_000))
    for _ in range(chance.choice((0, 1, 2, 4, 8, 14))):
        content: Any = _text(chance)
        if chance.random() < 0.1:
            content = [{"type": "text", "text": content or "Look."}, IMAGE]
        made.append(HumanMessage(content, id=chance.choice((None, "same", f"m{len(made)}"))))
        for _ in range(chance.choice((0, 0, 1, 2, 5))):
            count = chance.choice((1, 1, 1, 2, 3))
            calls = [
                {
                    "name": chance.choice(("search", "read_file")),
                    "args": {"q": chance.choice(_WORDS)},
                    "id": f"c{0 if repeats else next(numbers)}-{n}",
                }
                for n in range(count)
            ]
            said: Any = chance.choice(("", _text(chance)))
            if chance.random() < 0.1:
                said = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
            made.append(AIMessage(said, tool_calls=calls))
            answers: list[BaseMessage] = [_result(chance, call["id"]) for call in calls]
            chance.shuffle(answers)
            if chance.random() < 0.05:
                answers.pop()
            if answers and chance.random() < 0.05:
                answers.append(answers[0])
            made += answers
        if chance.random() < 0.9:
            made.append(_said(chance))
        if chance.random() < 0.05:
            made.append(SystemMessage(_text(chance)))
    if chance.random() < 0.7:
        made.append(HumanMessage(_text(chance)))
    return made


def orphans(messages: Sequence[BaseMessage]) -> int:
    """Count the tool results that do not stand right behind the message that called for them."""
    called: set[str | None] = set()
    lost = 0
    for message in messages:
        if isinstance(message, ToolMessage):
            lost += message.tool_call_id not in called
        else:
            called = {call["id"] for call in getattr(message, "tool_calls", ())}
    return lost


def unanswered(messages: Sequence[BaseMessage]) -> int:
    """Count the calls without a result among those that stand right behind their message."""
    open_calls: set[str | None] = set()
    lost = 0
    for message in messages:
        if isinstance(message, ToolMessage):
            open_calls.discard(message.tool_call_id)
            continue
        lost += len(open_calls)
        open_calls = {call["id"] for call in getattr(message, "tool_calls", ())}
    return lost + len(open_calls)


def agent_loop(turns: int, result: int = 2_018, seed: int = 1) -> list[BaseMessage]:
    """Return an agent's history: a task, and so many calls of a tool with results of one size."""
    chance = random.Random(seed)
    made: list[BaseMessage] = [
        SystemMessage(("You are a careful agent. " * 40)[:700]),
        HumanMessage(("Find out why payments fail in the region eu, and report. " * 20)[:724]),
    ]
    for n in range(turns):
        args = {"query": f"logs of step {n:02} of the payments"}
        made.append(
            AIMessage("", tool_calls=[{"name": "search_logs", "args": args, "id": f"c{n}"}])
        )
        text = " ".join(chance.choices(_WORDS[:12], k=result // 3))
        made.append(ToolMessage(text[:result], tool_call_id=f"c{n}"))
    return made


def turns(seed: int) -> list[BaseMessage]:
    """Return a conversation of any order in which no text stands twice, short ones and long ones.

    Calls come alone or several at once, with results that may have pictures.
    """
    chance = random.Random(seed)
    numbers = iter(range(10_000))

    def text() -> str:
        size = chance.choice((6, 20, 60, 200, 400, 1_500))
        words = (chance.choice(_WORDS) + "." * (chance.random() < 0.1) for _ in range(size))
        return f"Text {next(numbers)} of {chance.randrange(10**6)}: {' '.join(words)}"

    made: list[BaseMessage] = [SystemMessage(text()), HumanMessage(text())]
    for kind in [*chance.choices("HACCP", k=chance.randrange(6, 22)), chance.choice("HA")]:
        if kind in "HA":
            made.append(HumanMessage(text()) if kind == "H" else AIMessage(text()))
            continue
        ids = [f"c{next(numbers)}" for _ in range(1 if kind == "C" else chance.choice((2, 3)))]
        calls = [{"name": "look", "args": {"at": one}, "id": one} for one in ids]
        made.append(AIMessage(chance.choice((text(), "")), tool_calls=calls))
        for one in ids:
            said: Any = text()
            if kind == "P" and chance.random() < 0.4:
                said = [{"type": "text", "text": said}, IMAGE]
            made.append(ToolMessage(said, tool_call_id=one))
    return made
