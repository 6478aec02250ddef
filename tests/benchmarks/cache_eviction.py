"""Hit rates of eviction policies on synthetic traces: a section of ``bench_cache``."""

from __future__ import annotations

import argparse
import hashlib
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from langchain_tokenopt.cache.eviction import Use, policy_named
from tests.benchmarks.cache_sets import Precomputed, share


def eviction(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Hit rates on synthetic traces; 1,000 entries of room."""
    del args, embedder
    room, length = 500, 40_000
    rows: dict[str, dict[str, float]] = {}
    for name, trace in _traces(length).items():
        rows[name] = {"ARC": _arc(trace, room), "W-TinyLFU": _wtinylfu(trace, room)}
        for policy in ("adaptive", "lru", "lfu", "fifo"):
            rows[name][policy] = _evict(policy, trace, room)
        print(name, rows[name], flush=True)
    mean = {
        p: round(statistics.fmean(r[p] for r in rows.values()), 2)
        for p in next(iter(rows.values()))
    }
    worst = max(
        max(v for k, v in r.items() if k != "adaptive") - r["adaptive"] for r in rows.values()
    )
    return {
        "room": room,
        "requests": length,
        "rows": rows,
        "mean": mean,
        "most_behind_best": round(worst, 2),
    }


def _traces(length: int) -> dict[str, list[int]]:
    rng = np.random.default_rng(0)
    found: dict[str, list[int]] = {}
    for exponent in (0.8, 1.0, 1.2):
        weights = 1 / np.arange(1, 50_001) ** exponent
        found[f"Zipf {exponent}"] = rng.choice(50_000, length, p=weights / weights.sum()).tolist()
    weights = 1 / np.arange(1, 20_001)
    weights /= weights.sum()
    for name, step in (("drift, slow", 10_000), ("drift, fast", 2_000)):
        parts = [rng.choice(20_000, step, p=weights) + 700 * n for n in range(length // step)]
        found[name] = np.concatenate(parts).tolist()
    scan: list[int] = []
    while len(scan) < length:
        scan += rng.choice(20_000, 3_000, p=weights).tolist()
        start = 1_000_000 + len(scan)
        scan += range(start, start + 1_500)
    found["scans"] = scan[:length]
    loop = [n % 650 for n in range(length // 2)]
    mixed = rng.choice(20_000, length // 2, p=weights).tolist()
    found["loop and Zipf"] = [
        v for pair in zip(loop, (m + 5_000 for m in mixed), strict=True) for v in pair
    ]
    recent: list[int] = list(range(500))
    fresh = 500
    for _ in range(length - 500):
        if rng.random() < 0.35:
            recent.append(fresh)
            fresh += 1
        else:
            recent.append(recent[-1 - int(rng.exponential(300)) % len(recent)])
    found["recency"] = recent
    return found


def _key(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


def _evict(name: Any, trace: Sequence[int], room: int) -> float:
    policy, inside, hits = policy_named(name, room), set(), 0
    keys = {number: _key(number) for number in set(trace)}
    for number in trace:
        key = keys[number]
        if key in inside:
            hits += 1
            policy.touch(key)
            continue
        policy.insert(key, Use())
        inside.add(key)
        if len(inside) > room:
            victim = policy.victim()
            assert victim is not None
            policy.remove(victim)
            inside.remove(victim)
    return share(hits, len(trace))


def _arc(trace: Sequence[int], room: int) -> float:
    """ARC (Megiddo and Modha, FAST 2003)."""
    from collections import OrderedDict

    t1: OrderedDict[int, None] = OrderedDict()
    t2: OrderedDict[int, None] = OrderedDict()
    b1: OrderedDict[int, None] = OrderedDict()
    b2: OrderedDict[int, None] = OrderedDict()
    p = hits = 0

    def replace(in_b2: bool) -> None:
        if t1 and (len(t1) > p or (in_b2 and len(t1) == p)):
            old, _ = t1.popitem(last=False)
            b1[old] = None
        elif t2:
            old, _ = t2.popitem(last=False)
            b2[old] = None

    for x in trace:
        if x in t1 or x in t2:
            hits += 1
            t1.pop(x, None)
            t2.pop(x, None)
            t2[x] = None
        elif x in b1:
            p = min(room, p + max(1, len(b2) // len(b1)))
            replace(False)
            del b1[x]
            t2[x] = None
        elif x in b2:
            p = max(0, p - max(1, len(b1) // len(b2)))
            replace(True)
            del b2[x]
            t2[x] = None
        else:
            if len(t1) + len(b1) == room:
                if len(t1) < room:
                    b1.popitem(last=False)
                    replace(False)
                else:
                    t1.popitem(last=False)
            elif len(t1) + len(t2) + len(b1) + len(b2) >= room:
                if len(t1) + len(t2) + len(b1) + len(b2) >= 2 * room:
                    b2.popitem(last=False)
                replace(False)
            t1[x] = None
    return share(hits, len(trace))


def _wtinylfu(trace: Sequence[int], room: int) -> float:
    """W-TinyLFU, window of 1 % (Einziger et al. 2017); exact counts, halved every 10 rooms."""
    from collections import Counter, OrderedDict

    window: OrderedDict[int, None] = OrderedDict()
    probation: OrderedDict[int, None] = OrderedDict()
    protected: OrderedDict[int, None] = OrderedDict()
    counts: Counter[int] = Counter()
    size = max(1, room // 100)
    main, shielded = room - size, int(0.8 * (room - size))
    hits = 0
    for at, x in enumerate(trace, start=1):
        counts[x] += 1
        if at % (10 * room) == 0:
            counts = Counter({k: v // 2 for k, v in counts.items() if v > 1})
        if x in window:
            hits += 1
            window.move_to_end(x)
        elif x in protected:
            hits += 1
            protected.move_to_end(x)
        elif x in probation:
            hits += 1
            del probation[x]
            protected[x] = None
            if len(protected) > shielded:
                old, _ = protected.popitem(last=False)
                probation[old] = None
        else:
            window[x] = None
            if len(window) > size:
                candidate, _ = window.popitem(last=False)
                if len(probation) + len(protected) < main:
                    probation[candidate] = None
                else:
                    victim = next(iter(probation or protected))
                    if counts[candidate] > counts[victim]:
                        (probation if probation else protected).pop(victim)
                        probation[candidate] = None
    return share(hits, len(trace))
