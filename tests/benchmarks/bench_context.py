"""Long conversations: what each way of keeping them short costs, and what is left of them.

Run:     python -m tests.benchmarks.bench_context [--data DIR] [--histories N] [--progress FILE]
         [--only PART ...]
Output:  results/context.json; parts: agent, facts, laws, speed; with --data airline, evidence, and
         facts between real utterances. With --progress the laws go on where they were interrupted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages, trim_messages
from langchain_core.tools import BaseTool

from langchain_tokenopt import ContextCompressor, count_messages, expand_tool
from langchain_tokenopt.context.bill import Bill, calls_of
from langchain_tokenopt.context.economics import Horizon
from tests.benchmarks.context_evidence import AIRLINE, airline_evidence, meeting_evidence
from tests.benchmarks.context_facts import Chat, chat_of, spoken
from tests.benchmarks.context_laws import laws
from tests.benchmarks.context_oracle import cheapest
from tests.benchmarks.context_ways import OURS, PRICES, WAYS, billed, characters, tokens
from tests.benchmarks.results import RESULTS, write_result
from tests.support.conversations import agent_loop

LONG = 20
_BESIDE = (
    "masking in steps of ten",
    "masking with every call",
    "ContextEditingMiddleware, from 4,000 tokens",
)
CHATS = 40
KNOWN = 0.9
ROUNDS = 5
"""In which a model can fetch something for one answer."""
HANDLE = re.compile(r'expand\("(\w+)"\)')


def agent() -> dict[str, Any]:
    """A tool agent of 39 calls: results of about 500 tokens."""
    asked = [agent_loop(39)[: 2 + 2 * n] for n in range(1, 40)]
    found: dict[str, Any] = {}
    for name, way in WAYS.items():
        row: dict[str, Any] = {}
        for label in ("Anthropic-like", "OpenAI-like"):
            bill = billed(way, PRICES[label], asked, characters)
            row[label] = round(bill.units)
            row[f"sent, {label}"] = round(bill.sent)
            row[f"known of what is sent, {label}"] = round(bill.known / bill.sent, 3)
        found[name] = row
        print(f"{name:50} {row}", flush=True)
    new = sum(map(characters, asked[-1]))  # what no way can know beforehand
    known = new * KNOWN / (1 - KNOWN)
    found["least with nine tenths known"] = {
        label: round(PRICES[label].write * new + PRICES[label].read * known)
        for label in ("Anthropic-like", "OpenAI-like")
    }
    return found


def airline(folder: Path) -> dict[str, Any]:
    """Trajectories of an airline's agent: horizons from every other task, figures of the rest."""
    with gzip.open(folder / AIRLINE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    talks = [(row["task_id"], calls_of(convert_to_messages(row["traj"]))) for row in rows]
    horizon, fitted = Horizon(), {*sorted({task for task, _ in talks})[::2]}
    for task, asked in talks:
        for n in range(len(asked) if task in fitted else 0):
            horizon.saw("default", n)
    judged = [asked for task, asked in talks if task not in fitted]
    ways = {"ContextCompressor(), horizon learned": OURS(1, horizon)}
    ways |= {"ContextCompressor(), fresh": OURS(1)}
    ways |= {name: WAYS[name] for name in _BESIDE}
    found: dict[str, Any] = {}
    for label, price in PRICES.items():
        whole = [billed(WAYS["everything"], price, asked, tokens) for asked in judged]
        bills = {
            name: [billed(way, price, asked, tokens) for asked in judged]
            for name, way in ways.items()
        }
        raw = [bill.units for bill in whole]
        paid = {name: [bill.units for bill in found] for name, found in bills.items()}
        paid["the best with hindsight that is never dearer"] = [
            cheapest(asked, price, tokens, may_be_dearer=False) for asked in judged
        ]
        paid["the best with hindsight, results to lines"] = [
            cheapest(asked, price, tokens) for asked in judged
        ]
        paid["the best with hindsight, everything old forgotten"] = [
            cheapest(asked, price, tokens, results=False) for asked in judged
        ]
        for name, units in paid.items():
            saved = [1 - one / dear for one, dear in zip(units, raw, strict=True)]
            long = [
                share
                for share, asked in zip(saved, judged, strict=True)
                if len(asked[-1]) + 1 > LONG
            ]
            found[f"{label}: {name}"] = row = {
                "dearer": sum(share < -1e-9 for share in saved),
                "worst": round(min(saved), 3),
                "median": round(statistics.median(saved), 3),
                "median over 20 messages": round(statistics.median(long), 3),
                "conversations": len(saved),
                "over 20 messages": len(long),
            }
            if name in bills:
                row["dearer at any call"] = sum(map(_is_ever_dearer, bills[name], whole))
            print(f"{label:30} {name:50} {row}", flush=True)
    return found


def _is_ever_dearer(one: Bill, raw: Bill) -> bool:
    """Whether one way has, up to any call, cost more than the other."""
    sums = (accumulate(call.units for call in bill.calls) for bill in (one, raw))
    return any(ours > theirs + 1e-6 for ours, theirs in zip(*sums, strict=True))


def evidence(folder: Path) -> dict[str, Any]:
    """Meetings and conversations as chats: is what a question needs in the view?"""
    found = {"meetings": meeting_evidence(folder), "airline": airline_evidence(folder)}
    print(found, flush=True)
    return found


# --- facts


def facts(folder: Path | None) -> dict[str, Any]:
    """What somebody has told once is asked for at the end: is it still in the view?

    Only the bank ``judge`` counts, and the meetings that no rule was made with.
    """
    found: dict[str, Any] = {}
    kinds: dict[str, Sequence[str]] = {"own talk": ()}
    if folder is not None:
        kinds["utterances of meetings"] = spoken(folder, "judge")
    for kind, talk in kinds.items():
        for share in (0.5, 0.25):
            kept: dict[str, list[bool]] = {
                "ContextCompressor": [],
                "fetched back": [],
                "recency": [],
            }
            for seed in range(CHATS):
                _ask(chat_of("judge", seed, talk=talk), share, kept)
            for name, hits in kept.items():
                found[f"{kind}, {share:.0%}: {name}"] = round(100 * statistics.mean(hits), 1)
            found[f"{kind}: facts"] = len(kept["recency"])
    print(found, flush=True)
    return found


def _ask(chat: Chat, share: float, kept: dict[str, list[bool]]) -> None:
    limit = int(len_of(chat.messages) * share)
    compressor = ContextCompressor(limit, keep=0.95, price_profile="openai", model="gpt-4o")
    expand = expand_tool(compressor)
    compressor.view(chat.messages)
    for _, value, question in chat.told:
        asked = [*chat.messages, HumanMessage(question)]
        view = compressor.view(asked)
        assert view.is_feasible
        there = re.compile(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])")
        is_shown = bool(there.search("\n".join(m.text for m in view.messages[:-1])))
        kept["ContextCompressor"].append(is_shown)
        can_be = is_shown or any(map(there.search, _fetched(expand, view.messages)))
        kept["fetched back"].append(can_be)
        last = trim_messages(asked, max_tokens=limit, token_counter=len_of, include_system=True)
        kept["recency"].append(any(there.search(m.text) for m in last[:-1]))


def _fetched(expand: BaseTool, seen: Sequence[BaseMessage]) -> Iterator[str]:
    """Fetch what a model can that goes on asking, until it is answered without the tool."""
    texts, known = [m.text for m in seen], set[str]()
    for _ in range(ROUNDS):
        found = {handle for text in texts for handle in HANDLE.findall(text)} - known
        known |= found
        texts = [expand.invoke({"handle": handle}) for handle in sorted(found)]
        yield from texts


def len_of(messages: list[BaseMessage]) -> int:
    """Tokens as LangChain's helpers are given them."""
    return count_messages(messages, model="gpt-4o").tokens


# --- speed


def speed() -> dict[str, Any]:
    """Milliseconds of a view: of a conversation never seen, and of one more call of a known one."""
    found: dict[str, Any] = {}
    for size in (200, 2_000):
        talk = agent_loop(size // 2, result=300)
        never_seen, one_more = [], []
        for _ in range(5):
            compressor = ContextCompressor(price_profile="openai")
            never_seen.append(seconds(compressor, talk[:-2]))
            one_more.append(seconds(compressor, [m.model_copy() for m in talk]))
        found[f"{size:,} messages, never seen"] = round(1_000 * min(never_seen), 1)
        found[f"{size:,} messages, one more call"] = round(1_000 * min(one_more), 1)
    found["load"] = round(os.getloadavg()[0], 1)
    print(found, flush=True)
    return found


def seconds(compressor: ContextCompressor, talk: list[BaseMessage]) -> float:
    """Return the thread's time that a view takes: other work on the machine does not count."""
    began = time.thread_time()
    compressor.view(talk)
    return time.thread_time() - began


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--progress", type=Path, help="where to note how far the laws have come")
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    path = RESULTS / "context.json"
    known = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "agent": agent,
        "facts": lambda: facts(given.data),
        "laws": lambda: laws(given.histories, given.progress),
        "speed": speed,
    }
    if given.data is not None:
        parts["airline"] = lambda: airline(given.data)
        parts["evidence"] = lambda: evidence(given.data)
    figures = {**known}
    for name, part in parts.items():
        if given.only is None or name in given.only:
            figures[name] = part()
            command = "python -m tests.benchmarks.bench_context --data DIR"
            write_result("context", command, figures, "langchain")


if __name__ == "__main__":
    main()
