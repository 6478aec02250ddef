"""Long conversations: what each way of keeping them short costs, and what is left of them.

Run:     python -m tests.benchmarks.bench_context [--data DIR] [--histories N] [--only PART ...]
Output:  results/context.json; parts: agent, airline (with --data), facts, laws, speed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
    trim_messages,
)

from langchain_tokenopt import ContextCompressor, count_messages
from langchain_tokenopt.context.bill import calls_of
from langchain_tokenopt.context.economics import Horizon
from tests.benchmarks.context_ways import OURS, PRICES, WAYS, billed, characters, tokens
from tests.benchmarks.results import RESULTS, write_result
from tests.support.conversations import agent_loop, history, orphans, unanswered

AIRLINE = "compression/tau_gpt4o_airline_dev.jsonl.gz"
LONG = 20
_BESIDE = (
    "masking in steps of ten",
    "masking with every call",
    "ContextEditingMiddleware, from 4,000 tokens",
)
SEEDS = 4


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
            row[f"prefix kept, {label}"] = round(bill.kept_ratio, 3)
        found[name] = row
        print(f"{name:50} {row}", flush=True)
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
        raw = [billed(WAYS["everything"], price, asked, tokens).units for asked in judged]
        for name, way in ways.items():
            saved = [
                1 - billed(way, price, asked, tokens).units / whole
                for asked, whole in zip(judged, raw, strict=True)
            ]
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
            print(f"{label:30} {name:50} {row}", flush=True)
    return found


# --- facts

FACTS = (
    ("en, travel", "My booking reference is {}.", "What is my booking reference?"),
    ("es, intake", "Soy alérgica al medicamento {}.", "¿A qué medicamento soy alérgica?"),
    ("ja, support", "注文番号は{}です。", "注文番号は何でしたか？"),
    ("en, code", "The failing build is {} on the release branch.", "Which build was failing?"),
    ("en, legal", "We agreed that the penalty is {} per week of delay.", "What is the penalty?"),
    ("de, insurance", "Meine Versicherungsnummer lautet {}.", "Wie lautet meine Nummer?"),
    ("fr, delivery", "Le code de l'immeuble est {}.", "Quel est le code de l'immeuble ?"),
    ("en, people", "Our contact at the bank is called {}.", "Who is our contact at the bank?"),
)
TALK = (
    "I was wondering how these things usually go, since it has been a while and everybody says "
    "something else about it, which is a little confusing to be honest.",
    "La verdad es que me parece bien, aunque todavía lo estoy pensando un poco con calma y mi "
    "familia opina otra cosa sobre el asunto.",
    "そうですね、最近は天気もよくて、散歩をすると気持ちがいいと思いますし、家族もそう言っています。",
    "That sounds fine to me, we can look at it in more detail whenever there is some time left for "
    "it, there is really no hurry at all with any of this.",
)
NAMES = ("Ilse Brandvik", "Tomasz Wrona", "Ayesha Karim", "João Pratas", "Mei Tanaka")


def planted(chance: random.Random) -> tuple[list[BaseMessage], list[tuple[str, str, str]]]:
    """Return a chat of 60 turns, and the facts in it: kind, value, question."""
    talk: list[BaseMessage] = [
        SystemMessage("You help."),
        HumanMessage("Let us talk."),
    ]
    talk.append(AIMessage("Gladly."))
    facts, at = [], chance.sample(range(56), len(FACTS))
    for turn in range(56):
        said = " ".join(chance.choices(TALK, k=chance.choice((1, 2, 3))))
        if turn in at:
            kind, sentence, question = FACTS[at.index(turn)]
            value = (
                chance.choice(NAMES)
                if "people" in kind
                else f"{chance.choice('KXQZ')}{chance.choice('BDRT')}-{chance.randint(1000, 9999)}"
            )
            facts.append((kind, value, question))
            parts = [said, sentence.format(value)]
            chance.shuffle(parts)
            said = " ".join(parts)
        talk += [HumanMessage(said), AIMessage(chance.choice(TALK))]
    return talk, facts


def facts() -> dict[str, Any]:
    """What somebody has told once is asked for at the end: is it still in the view?"""
    found: dict[str, Any] = {}
    for share in (0.5, 0.25):
        kept: dict[str, list[bool]] = {"ContextCompressor": [], "fetched back": [], "recency": []}
        for seed in range(SEEDS):
            talk, told = planted(random.Random(seed))
            limit = int(count_messages(talk, model="gpt-4o").tokens * share)
            compressor = ContextCompressor(limit, keep=0.95, model="gpt-4o")
            assert compressor.originals
            compressor.view(talk)
            for _, value, question in told:
                asked = [*talk, HumanMessage(question)]
                compressor = ContextCompressor(
                    limit, keep=0.95, price_profile="openai", model="gpt-4o"
                )
                assert compressor.originals
                view = compressor.view(asked)
                assert view.is_feasible
                text = "\n".join(m.text for m in view.messages)
                handles = (view.original(handle) or "" for handle in view.state.handles)
                kept["ContextCompressor"].append(value in text)
                kept["fetched back"].append(value in text or any(value in one for one in handles))
                last = trim_messages(
                    asked,
                    max_tokens=limit,
                    token_counter=lambda ms: int(sum(map(tokens, ms))),
                    include_system=True,
                )
                kept["recency"].append(any(value in m.text for m in last))
        for name, hits in kept.items():
            found[f"{name}, {share:.0%} of the tokens"] = round(100 * statistics.mean(hits), 1)
    print(found, flush=True)
    return found


# --- laws and speed


def laws(count: int) -> dict[str, Any]:
    """Generated histories: what is broken in a view."""
    broken = dict.fromkeys(
        ("invalid sequences", "over budget", "changed system", "changed question", "grown"), 0
    )
    invalid: dict[str, int] = {"trim_messages": 0}
    for seed in range(count):
        talk = history(seed)
        size = (100, 400, 1_500, 5_000, None)[seed % 5]
        compressor = ContextCompressor(size, price_profile="openai", model="gpt-4o")
        view = compressor.view(talk)
        seen = view.messages
        broken["invalid sequences"] += orphans(seen) > orphans(talk)
        broken["invalid sequences"] += unanswered(seen) > unanswered(talk)
        broken["over budget"] += bool(size and view.is_feasible and view.tokens_after > size)
        broken["grown"] += view.tokens_after > view.tokens_before
        systems = [m for m in talk if isinstance(m, SystemMessage)]
        broken["changed system"] += systems != [m for m in seen if isinstance(m, SystemMessage)]
        users = [m for m in talk if isinstance(m, HumanMessage)]
        broken["changed question"] += bool(users) and all(m is not users[-1] for m in seen)
        if seed % 20 == 0 and size:
            cut = trim_messages(talk, max_tokens=size, token_counter=len_of, include_system=True)
            invalid["trim_messages"] += orphans(cut) > orphans(talk)
    print({"histories": count, **broken, "rival": invalid}, flush=True)
    return {
        "histories": count,
        **broken,
        "trim_messages, invalid of every 20th": invalid["trim_messages"],
    }


def len_of(messages: list[BaseMessage]) -> int:
    """Tokens as LangChain's helpers are given them."""
    return count_messages(messages, model="gpt-4o").tokens


def speed() -> dict[str, Any]:
    """Milliseconds of a view: of a conversation never seen, and of one more call of a known one."""
    found = {}
    for size in (200, 2_000):
        talk = agent_loop(size // 2, result=300)
        never_seen, one_more = [], []
        for _ in range(5):
            compressor = ContextCompressor(price_profile="openai")
            never_seen.append(seconds(compressor, talk[:-2]))
            one_more.append(seconds(compressor, [m.model_copy() for m in talk]))
        found[f"{size:,} messages, never seen"] = round(1_000 * min(never_seen), 1)
        found[f"{size:,} messages, one more call"] = round(1_000 * min(one_more), 1)
    print(found, flush=True)
    return found


def seconds(compressor: ContextCompressor, talk: list[BaseMessage]) -> float:
    """Return how long a view takes."""
    began = time.perf_counter()
    compressor.view(talk)
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--only", nargs="*", default=["agent", "airline", "facts", "laws", "speed"])
    given = parser.parse_args()
    path = RESULTS / "context.json"
    known = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "agent": agent,
        "facts": facts,
        "laws": lambda: laws(given.histories),
        "speed": speed,
    }
    if given.data is not None:
        parts["airline"] = lambda: airline(given.data)
    figures = {**known}
    for name, part in parts.items():
        if name in given.only:
            figures[name] = part()
    command = "python -m tests.benchmarks.bench_context --data DIR"
    write_result("context", command, figures, "langchain")


if __name__ == "__main__":
    main()
