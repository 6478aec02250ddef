"""Hit rates of eviction policies on synthetic traces: a section of ``bench_cache``.

``adaptive`` was designed on other traces, with other parameters and seeds. Beside the policies
stand two that know the future: Belady's, the most that any could hit, and the best fixed choice of
entries. On traffic that is drawn anew each time (the Zipf traces) nothing can do better in the long
run than the fixed choice; Belady's rate is out of reach there for whoever cannot foresee draws.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import statistics
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from langchain_tokenopt.cache.eviction import policy_for
from langchain_tokenopt.cache.eviction_policy import Use
from tests.benchmarks.cache_sets import Precomputed, banking, share

_LENGTH = 40_000
_ROOM = 500


def eviction(args: argparse.Namespace | None, embedder: Precomputed | None) -> dict[str, Any]:
    """Hit rates per trace for 500 entries of room, and the summary for less and more room."""
    del embedder
    traces = _traces(_LENGTH) | _mixtures(_LENGTH)
    if args is not None:
        traces["banking77"] = _banking(args.data, _LENGTH)
    return {
        "room": _ROOM,
        "requests": _LENGTH,
        **_judged(traces, _ROOM),
        "other_rooms": {str(room): _judged(traces, room) for room in (100, 2_000)},
    }


def _judged(traces: dict[str, list[int]], room: int) -> dict[str, Any]:
    rows: dict[str, dict[str, float]] = {}
    behind: dict[str, float] = {}
    for name, trace in traces.items():
        row = {policy: play(trace, room) for policy, play in (_OURS | _RIVALS).items()}
        best = max(row[policy] for policy in _RIVALS)
        behind[name] = round(100 * (1 - row["adaptive"] / best), 2)
        rows[name] = row | {oracle: play(trace, room) for oracle, play in _ORACLES.items()}
        print(room, name, rows[name], flush=True)
    mean = {
        policy: round(statistics.fmean(row[policy] for row in rows.values()), 2)
        for policy in next(iter(rows.values()))
    }
    return {"rows": rows, "mean": mean, "adaptive_behind_best_percent": behind}


def _traces(length: int) -> dict[str, list[int]]:
    """Traces of one kind each, for a room of about 500."""
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


def _mixtures(length: int) -> dict[str, list[int]]:
    """Traces of changing kinds, for a room of about 500."""
    rng = np.random.default_rng(1)
    weights = 1 / np.arange(1, 20_001)
    weights /= weights.sum()
    phases: list[int] = []
    while len(phases) < length:
        phases += [30_000 + n % 800 for n in range(5_000)]
        phases += rng.choice(20_000, 5_000, p=weights).tolist()
        start = 1_000_000 + len(phases)
        phases += range(start, start + 2_000)
    return {"phases": phases[:length], "come and go": _come_and_go(rng, length)}


def _come_and_go(rng: np.random.Generator, length: int) -> list[int]:
    """Things appear, are asked a Pareto number of times while they live, and go.

    The shot noise model of content traffic (Traverso et al., ACM SIGCOMM Computer Communication
    Review 2013): lives are exponential, of three lengths; a third are asked once only.
    """
    times: list[np.ndarray] = []
    asked = 0
    while asked < 3 * length:
        count = 1 if rng.random() < 0.33 else min(2_000, int(1 + rng.pareto(1.1) * 2))
        life = rng.choice([length / 100, length / 10, length])
        times.append(rng.uniform(-length, length) + rng.exponential(life, count))
        asked += count
    when = np.concatenate(times)
    what = np.repeat(np.arange(len(times)), [len(part) for part in times])
    order = np.argsort(when, kind="stable")
    inside = order[(when[order] >= 0) & (when[order] < length)]
    return what[inside][:length].tolist()  # type: ignore[no-any-return]


def _banking(data: Path, length: int) -> list[int]:
    """Questions of banking77 by their real intents; every 2,000 requests five others are urgent."""
    rng = np.random.default_rng(2)
    wordings: dict[str, list[int]] = {}
    for at, (_, intent) in enumerate(banking(data, "train")):
        wordings.setdefault(intent, []).append(at)
    intents = list(wordings)
    usual = np.array([len(wordings[intent]) for intent in intents], dtype=float)
    trace: list[int] = []
    while len(trace) < length:
        weights = usual.copy()
        weights[rng.choice(len(intents), 5, replace=False)] *= 10
        for chosen in rng.choice(len(intents), 2_000, p=weights / weights.sum()):
            known = wordings[intents[chosen]]
            ranks = 1 / np.arange(1, len(known) + 1) ** 0.8
            trace.append(known[rng.choice(len(known), p=ranks / ranks.sum())])
    return trace[:length]


def _key(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


def _evict(name: Any, trace: Sequence[int], room: int) -> float:
    """One of our policies."""
    policy, inside, hits = policy_for(name, room), set(), 0
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


def _wtinylfu(trace: Sequence[int], room: int, *, climbs: bool = False) -> float:
    """W-TinyLFU (Einziger et al. 2017); exact counts, halved every 10 rooms.

    The window is 1 % of the room. With *climbs* its size follows the hit rate uphill, as in
    Caffeine (Einziger et al., Middleware 2018): every 10 rooms by 6.25 % of the room, then by 2 %
    less each time, and anew when the rate changes by 5 points.
    """
    window: OrderedDict[int, None] = OrderedDict()
    probation: OrderedDict[int, None] = OrderedDict()
    protected: OrderedDict[int, None] = OrderedDict()
    counts: Counter[int] = Counter()
    size, step = max(1, room // 100), 0.0625 * room
    hits = hits_before = 0
    rate_before = 0.0
    for at, x in enumerate(trace, start=1):
        counts[x] += 1
        if at % (10 * room) == 0:
            counts = Counter({k: v // 2 for k, v in counts.items() if v > 1})
            if climbs:
                rate = (hits - hits_before) / (10 * room)
                step = step if rate >= rate_before else -step
                size = min(max(1, round(size + step)), int(0.8 * room))
                restarts = abs(rate - rate_before) >= 0.05
                step = np.copysign(0.0625 * room, step) if restarts else 0.98 * step
                hits_before, rate_before = hits, rate
        main = room - size
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
        else:
            window[x] = None
        while len(protected) > int(0.8 * main):
            old, _ = protected.popitem(last=False)
            probation[old] = None
        while len(probation) + len(protected) > main:
            old, _ = (probation or protected).popitem(last=False)
            window[old] = None
            window.move_to_end(old, last=False)
        while len(window) > size:
            candidate, _ = window.popitem(last=False)
            if len(probation) + len(protected) < main:
                probation[candidate] = None
                continue
            victim = next(iter(probation or protected))
            if counts[candidate] > counts[victim]:
                (probation if probation else protected).pop(victim)
                probation[candidate] = None
    return share(hits, len(trace))


def _belady(trace: Sequence[int], room: int) -> float:
    """The thing asked again last leaves (Belady 1966), be it the newcomer."""
    never = len(trace)
    upcoming = [never] * len(trace)
    seen: dict[int, int] = {}
    for at in range(len(trace) - 1, -1, -1):
        upcoming[at] = seen.get(trace[at], never)
        seen[trace[at]] = at
    inside: dict[int, int] = {}
    heap: list[tuple[int, int]] = []
    hits = 0
    for x, soon in zip(trace, upcoming, strict=True):
        hits += x in inside
        inside[x] = soon
        heapq.heappush(heap, (-soon, x))
        while len(inside) > room:
            late, last = heapq.heappop(heap)
            if inside.get(last) == -late:
                del inside[last]
    return share(hits, len(trace))


def _fixed(trace: Sequence[int], room: int) -> float:
    """The things asked most over the whole trace, each missed once."""
    return share(sum(n - 1 for _, n in Counter(trace).most_common(room)), len(trace))


_Play = Callable[[Sequence[int], int], float]
_OURS: dict[str, _Play] = {"adaptive": partial(_evict, "adaptive")}
_RIVALS: dict[str, _Play] = {
    "ARC": _arc,
    "W-TinyLFU": _wtinylfu,
    "W-TinyLFU, climbing": partial(_wtinylfu, climbs=True),
    **{name: partial(_evict, name) for name in ("lru", "lfu", "fifo")},
}
_ORACLES: dict[str, _Play] = {"fixed in hindsight": _fixed, "Belady": _belady}
