"""Evidence by field: what foreign traffic opens, what a field's own traffic opens, the promise.

A pair is asked in a scope of its own (another ``llm_string``) under the same system text, so that
the evidence of the traffic before is there and its answers are not.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from langchain_tokenopt.cache import CacheSettings, SemanticCache
from tests.benchmarks.cache_sets import (
    LLM,
    Precomputed,
    answer_of,
    banking,
    pairs,
    prompt_of,
    share,
)

BUILD = Path(__file__).parents[1] / "judge" / "reuse_build.jsonl"
OWN_FIELDS = ("medicine", "cooking", "travel", "HR", "law", "sports")
_WORDINGS = (
    "{}", "Hello! {}", "{} Thank you very much.", "Quick question: {}", "I was wondering: {}",
    "My sister asked me this: {}", "{} I could not find it anywhere.", "Maybe you know this. {}",
    "{} Please keep it short.", "We talked about it at home. {}", "{} That is all I need.",
    "For a friend: {}",
)  # fmt: skip
"""Ways to put a question that change nothing about it."""

Pair = tuple[Any, Any]


def ask(cache: SemanticCache, prompt: str, label: str, owner: dict[str, str], llm: str) -> str:
    """Ask one request; return ``hit``, ``wrong`` or ``asked``."""
    found = cache.lookup(prompt, llm)
    if found:
        return "hit" if owner[found[0].text] == label else "wrong"
    answer = f"Please read help article {label}: it explains what to do."
    owner[answer] = label
    cache.update(prompt, llm, answer_of(answer))
    return "asked"


def served(cache: SemanticCache, asked: Sequence[Pair], tag: str) -> int:
    """Store the first of each pair and ask the second, each pair in a scope of its own."""
    count = 0
    for number, (stored, later) in enumerate(asked):
        llm = f"{LLM}{tag}{number}"
        cache.update(_prompt(stored), llm, answer_of(f"answer {number}"))
        count += bool(cache.lookup(_prompt(later), llm))
    return count


def _prompt(text: Any) -> str:
    if isinstance(text, str):
        return prompt_of(text)
    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    return dumps([kinds[role](said) for role, said in text])


def _open(embedder: Precomputed, seed: int = 0, **options: Any) -> SemanticCache:
    settings = CacheSettings(seed=seed, same_answer=lambda a, b: a == b)
    return SemanticCache(embeddings=embedder, settings=settings, **options)


def _by_truth(rows: Sequence[dict[str, Any]]) -> dict[bool, list[Pair]]:
    found: dict[bool, list[Pair]] = {True: [], False: []}
    for row in rows:
        found[row["same"]].append((row["stored"], row["asked"]))
    return found


def _figures(cache: SemanticCache, sets: dict[str, dict[bool, list[Pair]]]) -> dict[str, Any]:
    return {
        f"{name}, {'right' if same else 'wrong'} served %": share(
            served(cache, asked, f"{name}{same}"), len(asked)
        )
        for name, both in sets.items()
        for same, asked in both.items()
    }


def reuse(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Pairs of many fields and near-misses: cold, after a bank's traffic, after their own."""
    rows = [json.loads(line) for line in BUILD.read_text(encoding="utf-8").splitlines()]
    checks = pairs(args.data, "checklist_dev.tsv.gz")
    embedder.read("checklist", [t for row in checks for t in (row["text_a"], row["text_b"])])
    train, test = banking(args.data, "train"), banking(args.data, "test")
    embedder.read("banking", [text for text, _ in train + test])
    drawn = random.Random(3).sample(checks, len(checks))
    near: dict[bool, list[Pair]] = {
        same: [(r["text_a"], r["text_b"]) for r in drawn if (r["label"] == "1") == same][:972]
        for same in (True, False)
    }
    sets = {"pairs of sixteen fields": _by_truth(rows), "CheckList": near}
    found: dict[str, Any] = {}
    with _open(embedder) as cache:
        found["cold"] = _figures(cache, sets)
    with _open(embedder) as cache:
        owner: dict[str, str] = {}
        for text, label in random.Random(2).sample(train + test, 1_500):
            ask(cache, prompt_of(text), label, owner, LLM)
        found["after 1,500 requests of a bank's customers"] = _figures(cache, sets)
    found[f"after 300 requests of the field itself ({', '.join(OWN_FIELDS)})"] = _own(
        rows, embedder
    )
    return found


def _own(rows: Sequence[dict[str, Any]], embedder: Precomputed) -> dict[str, Any]:
    """Half of a field's pairs makes its traffic, in twelve wordings each; the other is judged."""
    counts: Counter[str] = Counter()
    for name in OWN_FIELDS:
        own = [r for r in rows if r["field"] == name and isinstance(r["stored"], str)]
        traffic, judged = own[::2], own[1::2]
        said = {f"{row['id']}": row["stored"] for row in traffic}
        said |= {row["id"] + "b" * (not row["same"]): row["asked"] for row in traffic}
        texts = [(row["stored"], row["id"]) for row in traffic]
        texts += [(row["asked"], row["id"] + "b" * (not row["same"])) for row in traffic]
        requests = [(way.format(text), label) for text, label in texts for way in _WORDINGS]
        requests = random.Random(4).sample(requests * 4, 300)
        with _open(embedder) as cache:
            owner: dict[str, str] = {}
            for text, label in requests:
                counts[ask(cache, prompt_of(text), label, owner, LLM)] += 1
            for same, asked in _by_truth(judged).items():
                counts[f"served {same}"] += served(cache, asked, f"own{same}")
                counts[f"judged {same}"] += len(asked)
    return {
        "judged pairs, wrong served %": share(counts["served False"], counts["judged False"]),
        "judged pairs, right served %": share(counts["served True"], counts["judged True"]),
        "traffic, hits %": share(counts["hit"] + counts["wrong"], 300 * len(OWN_FIELDS)),
        "traffic, wrong %": share(counts["wrong"], 300 * len(OWN_FIELDS)),
    }


def mixed(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Streams in which four fields take turns under one system text; wrong answers of each.

    Finished streams are lines of ``args.kept``, where that is given: a later run goes on there.
    """
    fields = _fields(args.data, embedder)
    kept = args.kept or Path(os.devnull)
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    found: dict[str, Any] = {}
    for limit in (0.01, 0.02):
        each = {row["seed"]: row["each"] for row in done if row["limit"] == limit}
        for seed in range(args.streams):
            if seed not in each:
                each[seed] = _stream(fields, embedder, seed, limit)
                with kept.open("a") as lines:
                    row = {"limit": limit, "seed": seed, "each": each[seed]}
                    lines.write(f"{json.dumps(row)}\n")
        streams = [each[seed] for seed in range(args.streams)]
        found[f"{limit:.0%}"] = {name: _of_streams(streams, name, limit) for name in fields}
        print(limit, found[f"{limit:.0%}"], flush=True)
    return found


def _stream(
    fields: dict[str, list[list[tuple[str, str]]]], embedder: Precomputed, seed: int, limit: float
) -> dict[str, Counter[str]]:
    """Return what became of each field's 400 requests in one stream."""
    rng = random.Random(seed)
    streams = {name: _drawn(rng, field, 400) for name, field in fields.items()}
    turns = [name for name, stream in streams.items() for _ in stream]
    rng.shuffle(turns)
    each: dict[str, Counter[str]] = defaultdict(Counter)
    owner: dict[str, str] = {}
    with _open(embedder, seed, max_wrong_per_request=limit) as cache:
        for name in turns:
            text, label = streams[name].pop()
            each[name][ask(cache, prompt_of(text), f"{name} {label}", owner, LLM)] += 1
    return each


def _of_streams(streams: Sequence[dict[str, Any]], name: str, limit: float) -> dict[str, Any]:
    counts = [Counter(each[name]) for each in streams]
    within = sum(one["wrong"] <= limit * one.total() for one in counts)
    total = sum(counts, Counter())
    return {
        "streams_within": f"{within}/{len(streams)}",
        "hit_percent": share(total["hit"] + total["wrong"], total.total()),
        "wrong_percent": share(total["wrong"], total.total()),
    }


def _fields(data: Path, embedder: Precomputed) -> dict[str, list[list[tuple[str, str]]]]:
    """Return groups of questions that are drawn together, by field."""
    test = banking(data, "test")
    judged = set(sorted({label for _, label in test})[1::2])
    bank = [[(text, label)] for text, label in test if label in judged]
    embedder.read("banking", [t for t, _ in banking(data, "train") + test])
    with gzip.open(data.parent / "tools" / "metatool_single_dev.tsv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    tools = [[(row["Query"], row["Tool"])] for row in random.Random(5).sample(rows, 1_500)]
    embedder.read("tools", [text for ((text, _),) in tools])
    found = {"bank": bank, "tools": tools}
    for name, file in (("near-misses", "checklist_dev.tsv.gz"), ("Quora", "qqp_dev.tsv.gz")):
        drawn = random.Random(6).sample(pairs(data, file), 1_000)
        found[name] = [
            [
                (row["text_a"], f"{number}"),
                (row["text_b"], f"{number}" if row["label"] == "1" else f"{number}b"),
            ]
            for number, row in enumerate(drawn)
        ]
        texts = [text for group in found[name] for text, _ in group]
        embedder.read(f"fields_{name}", texts)
    return found


def _drawn(
    rng: random.Random, field: Sequence[list[tuple[str, str]]], size: int
) -> list[tuple[str, str]]:
    """Draw groups until there are enough questions; those of a group stay in their order."""
    drawn: list[tuple[str, str]] = []
    for group in rng.sample(field, len(field)):
        drawn += group[::-1]
        if len(drawn) >= size:
            break
    return drawn[:size][::-1] if len(field[0]) == 1 else drawn[:size]


def fields_table(part: dict[str, Any]) -> list[list[Any]]:
    """Return the figures of :func:`reuse` or :func:`mixed` as rows."""
    return [
        [name, *([label, value] if not isinstance(value, dict) else [label, *value.values()])]
        for name, row in part.items()
        if isinstance(row, dict)
        for label, value in row.items()
    ]
