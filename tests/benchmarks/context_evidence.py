"""Meetings and an airline's conversations as chats: is what a question needs still in the view?

A meeting is a chat of its speakers, in which the model is asked one question in the end; its
evidence are the turns that annotators marked. An airline's conversation is cut at each call of a
tool; its evidence are the identifiers and numbers in the call's arguments that were said before.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)

from langchain_tokenopt import ContextCompressor, count_messages
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.text.words import terms_of
from tests.benchmarks.context_facts import MEETINGS

__all__ = ["AIRLINE", "airline_evidence", "meeting_evidence"]

AIRLINE: Final = "compression/tau_gpt4o_airline_dev.jsonl.gz"
_MODEL: Final = "gpt-4o"
_COUNTER: Final = steady_counter_of_name(_MODEL)
_TELLING: Final = re.compile(r"\w*\d[\w:.-]*\d|\w*\d\w*")


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def meeting_evidence(folder: Path, per_meeting: int = 4) -> dict[str, float]:
    """Return the share of the marked turns' words that is kept, of what could be at that size."""
    found: dict[str, list[float]] = {}
    for meeting in _rows(folder / MEETINGS)[1::2]:  # rules were made with the others
        turns = [
            HumanMessage(" ".join(turn["content"].split()), name=_name(turn["speaker"]))
            for turn in meeting["meeting_transcripts"]
        ]
        sizes = [_COUNTER.count(turn.text).tokens for turn in turns]
        for query in meeting["specific_query_list"][:per_meeting]:
            spans = query["relevant_text_span"]
            marked = sorted(
                {
                    at
                    for first, last in spans
                    for at in range(int(first), int(last) + 1)
                    if at < len(turns)
                }
            )
            if not marked:
                continue
            for divisor in (4, 10):
                limit = sum(sizes) // divisor
                possible = min(1.0, limit / max(1, sum(sizes[at] for at in marked)))
                asked = HumanMessage(query["query"])
                talk = [SystemMessage("You took part."), HumanMessage("Listen."), *turns, asked]
                view = ContextCompressor(limit, keep=1.0, price_profile="none", model=_MODEL)
                shown = "\n".join(message.text for message in view.invoke(talk)[2:-1])
                chosen = _bm25_with_neighbours(query["query"], turns, sizes, limit)
                theirs = "\n".join(turns[at].text for at in chosen)
                for name, text in (("ContextCompressor", shown), ("bm25 with neighbours", theirs)):
                    kept = _kept([turns[at].text for at in marked], text)
                    found.setdefault(f"{name}, {divisor}x", []).append(kept / possible)
    return {name: round(100 * statistics.mean(shares), 1) for name, shares in found.items()} | {
        "questions": len(found["ContextCompressor, 4x"])
    }


def _name(speaker: str) -> str:
    return re.sub(r"\W+", "_", speaker)[:40] or "speaker"


def _kept(wanted: Sequence[str], text: str) -> float:
    """Return the share of the words of passages that stand in *text* in runs of five."""
    there = {run for line in text.split("\n") for run in _runs(line)}
    runs = [run for each in wanted for run in _runs(each)]
    return sum(run in there for run in runs) / len(runs) if runs else 0.0


def _runs(text: str, size: int = 5) -> list[tuple[str, ...]]:
    words = [word.strip(".,:;!?") for word in text.lower().split()]
    return (
        [tuple(words[n : n + size]) for n in range(max(1, len(words) - size + 1))] if words else []
    )


def _bm25_with_neighbours(
    query: str, turns: Sequence[BaseMessage], sizes: Sequence[int], limit: int
) -> list[int]:
    words = [Counter(terms_of(turn.text)) for turn in turns]
    mean = statistics.mean(map(len, words)) or 1
    seen = Counter(word for each in words for word in each)
    scores = [
        sum(
            math.log(1 + (len(turns) - seen[w] + 0.5) / (seen[w] + 0.5))
            * each[w]
            * 2.2
            / (each[w] + 1.2 * (0.25 + 0.75 * len(each) / mean))
            for w in set(terms_of(query))
            if each[w]
        )
        for each in words
    ]
    chosen: set[int] = set()
    for best in sorted(range(len(turns)), key=lambda at: -scores[at]):
        near = {at for at in (best - 1, best, best + 1) if 0 <= at < len(turns)} - chosen
        if limit - sum(sizes[at] for at in near) < 0:
            break
        limit -= sum(sizes[at] for at in near)
        chosen |= near
    return sorted(chosen)


def airline_evidence(folder: Path) -> dict[str, float]:
    """Return the share of a call's identifiers and numbers that are still there to be read."""
    found: dict[str, list[float]] = {}
    for row in _rows(folder / AIRLINE):
        talk = convert_to_messages(row["traj"])
        for at, message in enumerate(talk):
            if at < 12 or not isinstance(message, AIMessage) or not message.tool_calls:
                continue
            before = talk[:at]
            said = "\n".join(m.text for m in before[2:])
            wanted = {
                value
                for call in message.tool_calls
                for value in _TELLING.findall(json.dumps(call["args"]))
                if value in said and len(value) > 2
            }
            if not wanted:
                continue
            system = count_messages(before[:2], model=_MODEL).tokens
            rest = count_messages(before, model=_MODEL).tokens - system
            query = next(m.text for m in reversed(before) if isinstance(m, HumanMessage))
            turns = before[2:]
            sizes = [_COUNTER.count(str(m.text)).tokens for m in turns]
            for divisor in (4, 10):
                limit = system + rest // divisor
                compressor = ContextCompressor(limit, keep=1.0, price_profile="none", model=_MODEL)
                shown = "\n".join(m.text for m in compressor.invoke(before)[2:])
                room = max(
                    rest // divisor,
                    count_messages(compressor.invoke(before)[2:], model=_MODEL).tokens,
                )
                chosen = _bm25_with_neighbours(query, turns, sizes, room)
                theirs = "\n".join(turns[n].text for n in chosen)
                for name, text in (("ContextCompressor", shown), ("bm25 with neighbours", theirs)):
                    kept = sum(value in text for value in wanted) / len(wanted)
                    found.setdefault(f"{name}, {divisor}x", []).append(kept)
    return {name: round(100 * statistics.mean(shares), 1) for name, shares in found.items()} | {
        "calls": len(found["ContextCompressor, 4x"])
    }
