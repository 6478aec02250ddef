"""Semantic cache: hits, wrong answers, speed, safety and eviction, against other caches.

Run:     make bench-cache DATA=dir       (python -m tests.benchmarks.bench_cache --data dir)
         --only chat,qqp,...             some sections; the others keep their last figures
         --vectors dir                   keeps the embedded data sets between runs
         --kept file                     goes on with "mixed" where an earlier run ended
         --rivals python                 an interpreter with requirements-rivals-cache.txt installed
Data:    dir holds banking77_{train,test}.csv, qqp_dev.tsv.gz and checklist_dev.tsv.gz; for "mixed"
         dir/../tools holds metatool_single_dev.tsv.gz, too.
Rule:    what is fitted or chosen (the cache's prior and the rivals' thresholds included) comes from
         one half: every other intent of banking77's train file, QQP by connected component of
         questions, CheckList by connected component of texts within a behaviour. The other half is
         judged once. Quality and speed use one embedder. A rival that cannot run is a row that
         says why.
Output:  results/cache.json; results/cache_all.md, every table; results/cache.md, the README's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from langchain_tokenopt.cache import CacheSettings, SemanticCache
from langchain_tokenopt.cache.features import NEIGHBOURS, Neighbour, features_of
from langchain_tokenopt.cache.guards import DOUBTS, doubts_between, profile_of, vetoes_between
from langchain_tokenopt.cache.probability import AnswerModel
from tests.benchmarks.cache_eviction import eviction
from tests.benchmarks.cache_fields import fields_table, mixed, reuse
from tests.benchmarks.cache_sets import (
    LLM,
    Precomputed,
    answer_of,
    banking,
    halves,
    pairs,
    prompt_of,
    rival,
    share,
)
from tests.benchmarks.cache_speed import speed
from tests.benchmarks.results import RESULTS, write_result
from tests.benchmarks.tables import conditions_of

LIMITS = (0.005, 0.01, 0.02, 0.05)


def stream(
    cache: SemanticCache,
    requests: Sequence[tuple[str, str]],
    say: Callable[[str, int], str],
    prompts: dict[str, str],
    every: int = 0,
) -> tuple[int, int, list[tuple[int, float, float]]]:
    """Ask *requests* one by one; return hits, wrong answers, and the curve of both."""
    owner: dict[str, str] = {}
    hits = wrong = 0
    curve = []
    for at, (text, label) in enumerate(requests, start=1):
        found = cache.lookup(prompts[text], LLM)
        if found:
            hits += 1
            wrong += owner[found[0].text] != label
        else:
            answer = say(label, at)
            owner[answer] = label
            cache.update(prompts[text], LLM, answer_of(answer))
        if every and at % every == 0:
            curve.append((at, share(hits, at), share(wrong, at)))
    return hits, wrong, curve


def plain_answer(label: str, _: int) -> str:
    """One answer per intent; its number makes it differ from all others for certain."""
    code = hashlib.blake2b(label.encode(), digest_size=3).hexdigest()
    return f"Please read help article A{code}: it explains what to do, step by step."


def worded_answers(labels: Sequence[str]) -> Callable[[str, int], str]:
    """Four wordings of every answer; those of like-named intents differ in a word or a number."""
    names = sorted(set(labels))

    def say(label: str, at: int) -> str:
        topic = label.replace("_", " ").strip("?").lower()
        number = names.index(label) % 9 + 1
        place = f"section {number}" if names.index(label) % 2 else "the section on it"
        return (
            f"For help with {topic}, open the app, go to Help and read {place}. All is there.",
            f"You can settle {topic} yourself: the app explains it under Help, in {place}.",
            f"Please see {place} of Help in the app, which covers {topic} step by step.",
            f"Sure! Under Help the app has {place}, with everything about {topic}. Take your time.",
        )[at % 4]

    return say


def static_stream(cosines: np.ndarray, labels: Sequence[str], threshold: float) -> tuple[int, int]:
    """A static cosine over the raw question: the usual semantic cache.

    *cosines* holds those of all requests with each other, in the order in which they are asked.
    """
    stored = np.empty(len(cosines), dtype=np.int64)
    count = hits = wrong = 0
    for at, row in enumerate(cosines):
        if count:
            known = row[stored[:count]]
            best = int(known.argmax())
            if known[best] >= threshold:
                hits += 1
                wrong += labels[stored[best]] != labels[at]
                continue
        stored[count] = at
        count += 1
    return hits, wrong


def in_order(
    order: Sequence[int], vectors: np.ndarray, labels: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    asked = vectors[list(order)]
    return asked @ asked.T, [labels[i] for i in order]


def best_static(
    orders: Sequence[Sequence[int]], vectors: np.ndarray, labels: Sequence[str], limit: float
) -> tuple[float, float]:
    """Return the threshold with most hits among those whose mean error is within *limit*."""
    prepared = [in_order(order, vectors, labels) for order in orders]
    asked = sum(len(order) for order in orders)
    best = (1.01, 0.0)
    for threshold in np.arange(0.70, 0.985, 0.01):
        runs = [static_stream(*one, float(threshold)) for one in prepared]
        hits = sum(h for h, _ in runs) / asked
        if sum(w for _, w in runs) / asked <= limit and hits > best[1]:
            best = (float(threshold), hits)
    return best


def shuffles(count: int, size: int, take: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [rng.sample(range(size), take) for _ in range(count)]


# --- sections


def chat(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """First 1,200 chat requests with a system message, defaults, no evidence yet."""
    train, test = banking(args.data, "train"), banking(args.data, "test")
    vectors = embedder.read("banking", [t for t, _ in train + test])
    of_train, of_test = vectors[: len(train)], vectors[len(train) :]
    prompts = {text: prompt_of(text) for text, _ in test}
    orders = shuffles(5, len(test), 1_200, seed=1)
    curves, rows = [], {}
    hits = wrong = 0
    for seed, order in enumerate(orders):
        with SemanticCache(embeddings=embedder, settings=CacheSettings(seed=seed)) as cache:
            h, w, curve = stream(cache, [test[i] for i in order], plain_answer, prompts, 300)
        hits, wrong = hits + h, wrong + w
        curves.append(curve)
    asked = sum(map(len, orders))
    rows["SemanticCache, defaults"] = [share(hits, asked), share(wrong, asked)]
    unseen = set(_intent_halves((), test)["judged intents"])
    hits = wrong = asked = 0
    for seed, order in enumerate(orders):
        order = [i for i in order if i in unseen]
        with SemanticCache(embeddings=embedder, settings=CacheSettings(seed=seed)) as cache:
            h, w, _ = stream(cache, [test[i] for i in order], plain_answer, prompts)
        hits, wrong, asked = hits + h, wrong + w, asked + len(order)
    name = f"SemanticCache, defaults, on the {asked:,} requests of intents nothing was fitted on"
    rows[name] = [share(hits, asked), share(wrong, asked)]
    asked = sum(map(len, orders))
    labels = [label for _, label in train]
    threshold, _ = best_static(shuffles(3, len(train), 1_200, seed=2), of_train, labels, 0.01)
    labels = [label for _, label in test]
    runs = [static_stream(*in_order(o, of_test, labels), threshold) for o in orders]
    name = f"static cosine {threshold:.2f} (chosen on the other half), raw question"
    rows[name] = [share(sum(h for h, _ in runs), asked), share(sum(w for _, w in runs), asked)]
    whole = embedder.read("banking_dumps", [prompts[text] for text, _ in test])
    for threshold in (0.8, 0.9, 0.95):
        runs = [static_stream(*in_order(o, whole, labels), threshold) for o in orders]
        rows[f"whole prompt embedded (as langchain-redis), cosine {threshold:.2f}"] = [
            share(sum(h for h, _ in runs), asked),
            share(sum(w for _, w in runs), asked),
        ]
    rows["GPTCache 0.1.44, defaults (0.8)"] = gptcache_quality(args, of_test, labels, orders)
    return {"requests": asked, "rows": rows, "curves": curves}


def gptcache_quality(
    args: argparse.Namespace,
    vectors: np.ndarray,
    labels: Sequence[str],
    orders: Sequence[Sequence[int]],
) -> Any:
    names = sorted(set(labels))
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            Path(folder) / "in.npz",
            vectors=vectors,
            labels=np.array([names.index(label) for label in labels]),
            orders=np.array(orders),
        )
        found = rival(args, "quality", folder)
    if isinstance(found, str):
        return found
    return [share(found["hits"], found["asked"]), share(found["wrong"], found["asked"])]


def pair_features(
    rows: list[dict[str, str]], chosen: np.ndarray, embedder: Precomputed
) -> tuple[np.ndarray, np.ndarray]:
    """Features of serving text_a's answer for text_b, in a cache that holds all text_a's.

    Pairs below the least cosine or with a veto have none: they are misses.
    """
    stored = sorted({rows[i]["text_a"] for i in chosen})
    number = {text: n for n, text in enumerate(stored)}
    matrix = np.array([embedder.of(text) for text in stored])
    features, labels = [], []
    for start in range(0, len(chosen), 512):
        block = [rows[i] for i in chosen[start : start + 512]]
        beside = [
            np.array([embedder.of(row[side]) for row in block]) for side in ("text_a", "text_b")
        ]
        near = [_nearest(vectors @ matrix.T) for vectors in beside]
        for at, row in enumerate(block):
            a, b = row["text_a"], row["text_b"]
            cosine = float(beside[0][at] @ beside[1][at])
            one, other = profile_of(a), profile_of(b)
            if cosine < 0.5 or vetoes_between(one, other):
                continue
            without = {a.lower(), b.lower()}
            around = [
                [Neighbour(n, c, n) for n, c in found[at] if stored[n].lower() not in without]
                for found in near
            ]
            best = Neighbour(number[a], cosine, number[a])
            asked = [best, *around[1][:NEIGHBOURS]]
            features.append(features_of(asked, around[0][:NEIGHBOURS], other, one, DOUBTS))
            labels.append(row["label"] == "1")
    return np.array(features), np.array(labels)


def _nearest(cosines: np.ndarray) -> list[list[tuple[int, float]]]:
    size = NEIGHBOURS + 4
    found = np.argpartition(-cosines, size, axis=1)[:, :size]
    rows = []
    for row, some in zip(cosines, found, strict=True):
        some = some[np.argsort(-row[some])]
        rows.append(list(zip(some.tolist(), row[some].tolist(), strict=True)))
    return rows


def threshold_for(scores: np.ndarray, right: np.ndarray, asked: int, limit: float) -> float:
    """Return the score from which most is served while wrong per request is within *limit*."""
    order = np.argsort(-scores, kind="stable")
    wrong = np.cumsum(~right[order])
    served = int(np.searchsorted(wrong, limit * asked + 1e-9))
    return float(scores[order[max(served - 1, 0)]])


def qqp(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Quora question pairs: text_a is stored, text_b is asked."""
    rows = pairs(args.data, "qqp_dev.tsv.gz")
    embedder.read("qqp", [t for row in rows for t in (row["text_a"], row["text_b"])])
    half = halves(rows, lambda _: "qqp")
    fitted, judged = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    x, y = pair_features(rows, fitted, embedder)
    model = AnswerModel()
    model.fit(x, y, freedom=10.0)
    z, w = pair_features(rows, judged, embedder)
    found: dict[str, Any] = {"fitted_pairs": len(fitted), "judged_pairs": len(judged), "rows": {}}

    def judge(scores: np.ndarray, right: np.ndarray, other: np.ndarray, truth: np.ndarray) -> Any:
        figures = {}
        for limit in (0.005, 0.01, 0.02, 0.05):
            served = other >= threshold_for(scores, right, len(fitted), limit)
            wrong = int((served & ~truth).sum())
            figures[str(limit)] = {
                "hit_percent": share(served.sum(), len(judged)),
                "wrong_percent": share(wrong, len(judged)),
                "wrong_per_hit_percent": share(wrong, max(int(served.sum()), 1)),
                "hit_percent_at_exact_error": share(
                    (other >= threshold_for(other, truth, len(judged), limit)).sum(), len(judged)
                ),
            }
        return figures

    found["rows"]["SemanticCache's model, fitted"] = judge(model.logits(x), y, model.logits(z), w)
    prior = AnswerModel()
    found["rows"]["SemanticCache's model, prior"] = judge(prior.logits(x), y, prior.logits(z), w)

    def cosines(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = [
            float(embedder.of(rows[i]["text_a"]) @ embedder.of(rows[i]["text_b"])) for i in chosen
        ]
        return np.array(values), np.array([rows[i]["label"] == "1" for i in chosen])

    values, truth = cosines(judged)
    found["rows"]["static cosine"] = judge(*cosines(fitted), values, truth)
    served = values >= 0.6
    found["rows"]["GPTCache's default threshold (cosine 0.60)"] = {
        "hit_percent": share(served.sum(), len(judged)),
        "wrong_percent": share((served & ~truth).sum(), len(judged)),
    }
    return found


def checklist(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Near-misses by behaviour: text_a is stored, text_b is asked, cosine 0.85 and guards."""
    rows = pairs(args.data, "checklist_dev.tsv.gz")
    embedder.read("checklist", [t for row in rows for t in (row["text_a"], row["text_b"])])
    half = halves(rows, lambda row: row["test"], hashlib.sha256)
    policies: dict[str, Callable[[float, Any, Any], bool]] = {
        "cosine 0.85": lambda c, a, b: c >= 0.85,
        "cosine 0.85 and vetoes": lambda c, a, b: c >= 0.85 and not vetoes_between(a, b),
        "SemanticCache(min_similarity=0.85)": lambda c, a, b: (
            c >= 0.85 and not vetoes_between(a, b) and not doubts_between(a, b)
        ),
    }
    found: dict[str, Any] = {}
    for part, name in ((0, "written against"), (1, "judged")):
        counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: {"0": [0, 0], "1": [0, 0]})
        tests: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for i in np.flatnonzero(half == part):
            row = rows[i]
            cosine = float(embedder.of(row["text_a"]) @ embedder.of(row["text_b"]))
            one, other = profile_of(row["text_a"]), profile_of(row["text_b"])
            for policy, serves in policies.items():
                served = serves(cosine, one, other)
                counts[policy][row["label"]][0] += served
                counts[policy][row["label"]][1] += 1
            behaviour = tests[f"{row['label']} {row['test']}"]
            behaviour[0] += served
            behaviour[1] += 1
        found[name] = {
            policy: {
                "should_miss_served_percent": share(*by["0"]),
                "should_hit_served_percent": share(*by["1"]),
                "pairs": [by["0"][1], by["1"][1]],
            }
            for policy, by in counts.items()
        }
        found[name]["by_behaviour"] = {t: [share(*v), v[1]] for t, v in sorted(tests.items())}
    return found


def traffic(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """6,000 requests, four wordings of every answer, the default comparison of answers."""
    train, test = banking(args.data, "train"), banking(args.data, "test")
    vectors = embedder.read("banking", [t for t, _ in train + test])
    rows = train + test
    prompts = {text: prompt_of(text) for text, _ in rows}
    labels = [label for _, label in rows]
    say = worded_answers(labels)
    found: dict[str, Any] = {"rows": {}}
    pools = _intent_halves(train, rows)
    for name, pool in pools.items():
        order = [pool[i] for i in shuffles(1, len(pool), min(6_000, len(pool)), 5)[0]]
        for limit in TRAFFIC_LIMITS:
            cache = SemanticCache(
                embeddings=embedder,
                max_wrong_per_request=limit,
                settings=CacheSettings(seed=0),
            )
            with cache:
                h, w, curve = stream(cache, [rows[i] for i in order], say, prompts, 1_000)
                stats = cache.stats()
            found["rows"][f"{name}, max_wrong_per_request={limit}"] = {
                "requests": len(order),
                "hit_percent": share(h, len(order)),
                "wrong_percent": share(w, len(order)),
                "checked_and_wrong": [stats.checked_wrong, stats.checked],
                "curve": curve,
            }
        threshold, hit = best_static([order], vectors, labels, 0.01)
        found["rows"][f"{name}, best static cosine with hindsight ({threshold:.2f})"] = {
            "requests": len(order),
            "hit_percent": round(100 * hit, 2),
        }
    return found


TRAFFIC_LIMITS = (0.01, 0.02, 0.03, 0.04)


def _intent_halves(
    train: Sequence[tuple[str, str]], rows: Sequence[tuple[str, str]]
) -> dict[str, list[int]]:
    """Return the requests of the intents that things are chosen on, of the judged ones, of all."""
    labels = [label for _, label in rows]
    judged = set(sorted(set(labels))[1::2])
    return {
        "other intents": [i for i in range(len(train)) if labels[i] not in judged],
        "judged intents": [i for i in range(len(rows)) if labels[i] in judged],
        "all intents": list(range(len(rows))),
    }


def promise(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Realised error against ``max_wrong_per_request``: 20 shuffles, and a stream that drifts."""
    train, test = banking(args.data, "train"), banking(args.data, "test")
    vectors = embedder.read("banking", [t for t, _ in train + test])
    rows = train + test
    labels = [label for _, label in rows]
    prompts = {text: prompt_of(text) for text, _ in rows}
    pool = _intent_halves(train, rows)["judged intents"]
    orders = {
        "shuffles": [
            [pool[i] for i in order] for order in shuffles(args.runs, len(pool), 3_000, seed=11)
        ],
        "drift": [_drifting(pool, labels)],
    }
    found: dict[str, Any] = {}
    for kind, runs in orders.items():
        for limit in LIMITS:
            ours = []
            for seed, order in enumerate(runs):
                with SemanticCache(
                    embeddings=embedder,
                    max_wrong_per_request=limit,
                    settings=CacheSettings(seed=seed, same_answer=lambda a, b: a == b),
                ) as cache:
                    h, w, _ = stream(cache, [rows[i] for i in order], plain_answer, prompts)
                ours.append((h / len(order), w / len(order)))
            ratios = []
            for run, order in enumerate(runs[:3]):
                _, best = best_static([order], vectors, labels, limit)
                ratios.append(ours[run][0] / best if best else None)
            kept = sum(w <= limit for _, w in ours)
            found[f"{kind}, {limit:.1%}"] = {
                "runs": len(ours),
                "runs_within": kept,
                "hit_percent_mean": round(100 * statistics.fmean(h for h, _ in ours), 2),
                "wrong_percent_mean": round(100 * statistics.fmean(w for _, w in ours), 3),
                "wrong_percent_worst": round(100 * max(w for _, w in ours), 3),
                "least_ratio_to_best_static_with_hindsight": min(
                    (round(r, 2) for r in ratios if r is not None), default=None
                ),
            }
            print(kind, limit, found[f"{kind}, {limit:.1%}"], flush=True)
    return found


def _drifting(requests: Sequence[int], labels: Sequence[str]) -> list[int]:
    """Three quarters of the intents change every 1,200 requests."""
    rng = random.Random(4)
    names = sorted({labels[i] for i in requests})
    rng.shuffle(names)
    order: list[int] = []
    used: set[int] = set()
    for part in range(4):
        active = set(names[part * 9 : part * 9 + 12])
        pool = [i for i in requests if labels[i] in active and i not in used]
        chosen = rng.sample(pool, min(1_200, len(pool)))
        used.update(chosen)
        order += chosen
    return order


def safety(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Threads and tasks together in a subprocess; kills at random points; scopes."""
    del embedder
    module = "tests.benchmarks.cache_torture"
    found: dict[str, Any] = {}
    for what in (["stress", str(args.minutes * 60)], ["kills", "100"], ["scopes", "20000"]):
        ran = subprocess.run(
            [sys.executable, "-m", module, *what], capture_output=True, text=True, check=False
        )
        last = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ""
        figures = json.loads(last) if last.startswith("{") else {"stderr": ran.stderr[-500:]}
        found[what[0]] = {"exit_code": ran.returncode, **figures}
        print(what[0], found[what[0]], flush=True)
    return found


SECTIONS = {
    "chat": chat,
    "qqp": qqp,
    "checklist": checklist,
    "traffic": traffic,
    "eviction": eviction,
    "speed": speed,
    "safety": safety,
    "promise": promise,
    "reuse": reuse,
    "mixed": mixed,
}


def summary(figures: dict[str, Any]) -> str:
    """Write what matters most as one Markdown table, each line with what it is measured on."""
    head = ["", "measured on", "SemanticCache", "static cosine", "GPTCache 0.1.44"]
    return _table(head, [row for name, rows in _LINES.items() for row in rows(figures[name])])


def _hits(row: Any) -> str:
    return f"{row[0]} % hits, {row[1]} % wrong" if isinstance(row, list) else str(row)


def _chat_lines(part: dict[str, Any]) -> list[list[str]]:
    rows = part["rows"]
    static = next(row for name, row in rows.items() if name.startswith("static"))
    measured = f"banking77's test file, {part['requests']:,} requests"
    return [
        [
            "the first 1,200 chat requests, defaults",
            measured,
            _hits(rows["SemanticCache, defaults"]),
            _hits(static),
            _hits(rows["GPTCache 0.1.44, defaults (0.8)"]),
        ]
    ]


def _qqp_lines(part: dict[str, Any]) -> list[list[str]]:
    rows, measured = part["rows"], f"QQP, {part['judged_pairs']:,} pairs"
    ours, static = rows["SemanticCache's model, fitted"], rows["static cosine"]
    rival = rows["GPTCache's default threshold (cosine 0.60)"]

    def cell(row: dict[str, Any]) -> str:
        return f"{row['hit_percent']} % hits, {row['wrong_percent']} % wrong"

    return [
        [f"pairs, at most {limit} % wrong", measured, *map(cell, (ours[key], static[key], rival))]
        for limit, key in ((1, "0.01"), (2, "0.02"))
    ]


def _checklist_lines(part: dict[str, Any]) -> list[list[str]]:
    ours, static = (
        part["judged"]["SemanticCache(min_similarity=0.85)"],
        part["judged"]["cosine 0.85"],
    )

    def cell(row: dict[str, Any]) -> str:
        return (
            f"{row['should_miss_served_percent']} % of those, "
            f"{row['should_hit_served_percent']} % of paraphrases"
        )

    measured = f"CheckList, {ours['pairs'][0]:,} and {ours['pairs'][1]:,} pairs"
    return [["near-misses served, cosine 0.85", measured, cell(ours), cell(static), ""]]


def _traffic_lines(part: dict[str, Any]) -> list[list[str]]:
    rows = part["rows"]
    lines = []
    pools = {"judged intents": "intents nothing was fitted on", "all intents": "all intents"}
    for pool, title in pools.items():
        static = next(n for n in rows if n.startswith(f"{pool}, best static"))
        row = rows[f"{pool}, max_wrong_per_request=0.01"]
        lines.append(
            [
                f"traffic, every answer in four wordings; {title}",
                f"banking77, {row['requests']:,} requests",
                f"{row['hit_percent']} % hits, {row['wrong_percent']} % wrong",
                f"{rows[static]['hit_percent']} % hits at 1 % wrong, with hindsight",
                "",
            ]
        )
    return lines


def _speed_lines(part: dict[str, Any]) -> list[list[str]]:
    lines = []
    for name in (n for n in part if n.endswith("entries")):
        row = part[name]
        ours, theirs = row["lookup_without_embedding_p50_ms"], row.get("gptcache_lookup_p50_ms")
        cells = [f"{ours} ms", "", "" if theirs is None else f"{theirs} ms"]
        lines.append([f"lookup without embedding, {name}", "CPU time, p50", *cells])
    return lines


_LINES: dict[str, Callable[[dict[str, Any]], list[list[str]]]] = {
    "chat": _chat_lines,
    "qqp": _qqp_lines,
    "checklist": _checklist_lines,
    "traffic": _traffic_lines,
    "speed": _speed_lines,
}


def report(figures: dict[str, Any]) -> str:
    """Write the figures as Markdown tables."""
    tables = [write(figures[name]) for name, write in _TABLES.items() if name in figures]
    return "\n\n".join(tables)


def _table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _chat_table(part: dict[str, Any]) -> str:
    head = [
        f"first 1,200 chat requests (5 shuffles, {part['requests']:,} in all)",
        "hits %",
        "wrong %",
    ]
    rows = [[n, *(r if isinstance(r, list) else [r, ""])] for n, r in part["rows"].items()]
    return _table(head, rows)


def _qqp_table(part: dict[str, Any]) -> str:
    head = [f"QQP, {part['judged_pairs']:,} judged pairs: hits % (wrong %)"]
    head += [f"at most {limit:g} %" for limit in (0.5, 1, 2, 5)]
    rows = []
    for name, row in part["rows"].items():
        by_limit = [row[str(x)] for x in LIMITS] if "0.01" in row else [row]
        cells = [f"{r['hit_percent']} ({r['wrong_percent']})" for r in by_limit]
        rows.append([name, *cells, *[""] * (4 - len(cells))])
    return _table(head, rows)


def _checklist_table(part: dict[str, Any]) -> str:
    head = ["near-misses, judged half", "should-miss served %", "should-hit served %", "pairs"]
    keys = ("should_miss_served_percent", "should_hit_served_percent", "pairs")
    rows = [[n, *(r[k] for k in keys)] for n, r in part["judged"].items() if n != "by_behaviour"]
    return _table(head, rows)


def _traffic_table(part: dict[str, Any]) -> str:
    head = ["traffic with four wordings of every answer", "requests", "hits %", "wrong %"]
    rows = [
        [name, row["requests"], row["hit_percent"], row.get("wrong_percent", "at most 1")]
        for name, row in part["rows"].items()
    ]
    return _table(head, rows)


def _promise_table(part: dict[str, Any]) -> str:
    head = ["promise", "runs within", "hits %", "wrong %", "worst", "hits by the best static one"]
    rows = [
        [
            name,
            f"{row['runs_within']}/{row['runs']}",
            row["hit_percent_mean"],
            row["wrong_percent_mean"],
            row["wrong_percent_worst"],
            row["least_ratio_to_best_static_with_hindsight"],
        ]
        for name, row in part.items()
        if isinstance(row, dict)
    ]
    return _table(head, rows)


def _speed_table(part: dict[str, Any]) -> str:
    sizes = {name: row for name, row in part.items() if name.endswith("entries")}
    names = next(iter(sizes.values()))
    first = _table(["speed", *sizes], [[n, *(s[n] for s in sizes.values())] for n in names])
    others = [[n, v] for n, v in part.items() if n not in sizes and n != "seconds"]
    return f"{first}\n\n{_table(['other', ''], others)}"


def _eviction_table(part: dict[str, Any]) -> str:
    names = list(part["mean"])
    rows = [[trace, *(row[n] for n in names)] for trace, row in part["rows"].items()]
    rows.append(["mean", *(part["mean"][n] for n in names)])
    for room, other in part["other_rooms"].items():
        rows.append([f"mean, room for {int(room):,}", *(other["mean"][n] for n in names)])
    return _table([f"hits %, room for {part['room']:,}", *names], rows)


def _safety_table(part: dict[str, Any]) -> str:
    return _table(["safety", ""], [[n, v] for n, v in part.items() if n != "seconds"])


def _reuse_table(part: dict[str, Any]) -> str:
    return _table(["evidence by field", "", ""], fields_table(part))


def _mixed_table(part: dict[str, Any]) -> str:
    head = ["four fields in turns, limit", "field", "streams within", "hits %", "wrong %"]
    return _table(head, fields_table(part))


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "chat": _chat_table,
    "qqp": _qqp_table,
    "checklist": _checklist_table,
    "traffic": _traffic_table,
    "promise": _promise_table,
    "speed": _speed_table,
    "eviction": _eviction_table,
    "safety": _safety_table,
    "reuse": _reuse_table,
    "mixed": _mixed_table,
}


def main() -> None:
    """Run the chosen sections, keep the others' figures, write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rivals")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--streams", type=int, default=80)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--sizes", default="10000,100000")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    embedder = Precomputed(args.vectors)
    for name in args.only.split(","):
        began = time.perf_counter()
        figures = {"sections": {name: SECTIONS[name](args, embedder)}}
        path = RESULTS / "cache.json"
        known = json.loads(path.read_text())["figures"] if path.is_file() else {}
        known[name] = {**figures["sections"][name], "seconds": round(time.perf_counter() - began)}
        write_result("cache", "python -m tests.benchmarks.bench_cache --data DIR", known, "torch")
        (RESULTS / "cache_all.md").write_text(report(known) + "\n", encoding="utf-8")
        if all(section in known for section in SECTIONS):
            written = json.loads(path.read_text(encoding="utf-8"))
            text = f"{summary(known)}\n\n{conditions_of(written)}\n"
            (RESULTS / "cache.md").write_text(text, encoding="utf-8")
        print(report({name: known[name]}), flush=True)


if __name__ == "__main__":
    main()
