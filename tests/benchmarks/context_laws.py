"""Generated histories: what is broken in a view of them.

Histories have parallel, repeated and unanswered calls, lost results, pictures, thoughts and several
system messages. What must stay is worked out here again, so that a limit that could have been kept
is counted where it was not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    trim_messages,
)

from langchain_tokenopt import ContextCompressor, SlidingWindow, count_messages
from tests.support.conversations import history, orphans, unanswered

__all__ = ["laws"]

SIZES: Final = (100, 400, 1_500, 5_000, None)
_PROFILES: Final = ("openai", "anthropic", "none")
_CHUNK: Final = 1_000
_NOTE: Final = 120
"""Tokens of a note, and of results whose pictures stay."""
_LAWS: Final = (
    "invalid sequences",
    "over a limit that could be kept",
    "longer than without",
    "changed system messages",
    "changed task or last question",
    "views of views that differ",
    "errors",
)


def laws(count: int, progress: Path | None = None, first: int = 0) -> dict[str, Any]:
    """Look at *count* histories, from the number *first* on.

    Args:
        count: How many.
        progress: Where to note how far it has come; if it says that something is done, the rest is.
        first: Number of the first history.
    """
    found: dict[str, Any] = {"histories": 0, **dict.fromkeys(_LAWS, 0), "examples": {}}
    found["trim_messages, of every 20th: invalid"] = 0
    if progress is not None and progress.is_file():
        found = json.loads(progress.read_text(encoding="utf-8"))
    while found["histories"] < count:
        begin = first + found["histories"]
        for seed in range(begin, begin + min(_CHUNK, count - found["histories"])):
            _look(seed, found)
            found["histories"] += 1
        if progress is not None:
            progress.write_text(json.dumps(found), encoding="utf-8")
    print(found, flush=True)
    return found


def _look(seed: int, found: dict[str, Any]) -> None:
    try:
        broken = _broken(seed)
    except Exception as error:
        broken = ["errors"]
        print(seed, repr(error)[:200], flush=True)
    for law in broken:
        found[law] += 1
        found["examples"].setdefault(law, seed)
    size = SIZES[seed % len(SIZES)]
    if seed % 20 == 0 and size:
        talk = history(seed)
        cut = trim_messages(
            talk,
            max_tokens=size,
            token_counter=lambda messages: count_messages(messages, model="gpt-4o").tokens,
            include_system=True,
        )
        found["trim_messages, of every 20th: invalid"] += orphans(cut) > orphans(talk)


def _broken(seed: int) -> list[str]:
    talk, size = history(seed), SIZES[seed % len(SIZES)]
    settings: dict[str, Any] = {
        "price_profile": _PROFILES[seed // 5 % 3],
        "keep_last": seed // 15 % 3,
        "model": "gpt-4o",
    }
    if seed % 7 == 0 and size:
        settings["policy"] = SlidingWindow()
    view = ContextCompressor(size, **settings).view(talk)
    seen = view.messages
    users = [m for m in talk if isinstance(m, HumanMessage)]
    again = ContextCompressor(size, **settings).view(seen)
    checks = (
        orphans(seen) > orphans(talk) or unanswered(seen) > unanswered(talk),
        bool(size) and view.tokens_after > size and _least(talk, settings["keep_last"]) <= size,
        view.tokens_after > view.tokens_before,
        [m for m in talk if isinstance(m, SystemMessage)]
        != [m for m in seen if isinstance(m, SystemMessage)],
        any(all(m is not one for m in seen) for one in (*users[:1], *users[-1:])),
        [m.model_dump() for m in again.messages] != [m.model_dump() for m in seen],
    )
    return [law for law, is_broken in zip(_LAWS, checks, strict=False) if is_broken]


def _least(talk: Sequence[BaseMessage], keep_last: int) -> int:
    """Return the tokens of what must stay, and a note: of what a reader would say must stay."""
    users = [n for n, m in enumerate(talk) if isinstance(m, HumanMessage)]
    stays = {n for n, m in enumerate(talk) if isinstance(m, SystemMessage)}
    stays.update(users[:1], users[-1:])
    groups = _groups(talk)
    calling = [group for group in groups if getattr(talk[group[0]], "tool_calls", ())]
    for group in groups[-keep_last:] if keep_last else ():
        stays.update(group)
    last = max((n for n, m in enumerate(talk) if isinstance(m, AIMessage)), default=-1)
    for group in calling:
        if group[0] == last:
            stays.update(group)  # the model has not read its results yet
        wanted = {call["id"] for call in talk[group[0]].tool_calls}  # type: ignore[attr-defined]
        if wanted - {getattr(talk[n], "tool_call_id", None) for n in group}:
            stays.update(group)
    return count_messages([talk[n] for n in sorted(stays)], model="gpt-4o").tokens + _NOTE


def _groups(talk: Sequence[BaseMessage]) -> list[list[int]]:
    """Return calls with the results right behind them; every other message by itself."""
    groups: list[list[int]] = []
    called: set[str] = set()
    for at, message in enumerate(talk):
        if getattr(message, "tool_call_id", None) in called:
            groups[-1].append(at)
            continue
        called = {call["id"] for call in getattr(message, "tool_calls", ())}
        groups.append([at])
    return groups
