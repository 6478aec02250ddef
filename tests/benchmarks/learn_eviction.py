"""Whether eviction should learn from history: hit rates on recorded traffic and generated sessions.

Run:     python -m tests.benchmarks.learn_eviction [--quick]

Beside the policies of the package and W-TinyLFU stand two that go by more of the history than
``adaptive``, which counts uses that fade. One believes that what mostly follows the present request
will be asked (a Markov model of order one), and counts that as a part of a use. The other gives
each entry a life time, four times its mean interval so far: what has outlived it leaves first. Both
are ``adaptive`` otherwise. Rooms are a twentieth of the different keys of a recorded trace, 500
entries for a generated one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from langchain_tokenopt.cache.adaptive_eviction import AdaptivePolicy
from langchain_tokenopt.cache.eviction import policy_for
from langchain_tokenopt.cache.eviction_policy import Use
from tests.benchmarks.cache_eviction import (
    _banking,
    _belady,
    _key,
    _mixtures,
    _traces,
    _wtinylfu,
)
from tests.benchmarks.cache_sets import pairs, share
from tests.benchmarks.results import RESULTS, write_result

DATA = Path("../shared/data")
_COMMAND = "python -m tests.benchmarks.learn_eviction"
_HALF_A_USE = 0.5
_LIFE = 4


def run(*, quick: bool = False, data: Path = DATA) -> dict[str, Any]:
    """Return the hit rates in percent, by trace and policy."""
    length = 4_000 if quick else 20_000
    traces: dict[str, list[int]] = {}
    if (data / "semcache").is_dir():
        traces["banking77, drawn by its intents"] = _banking(data / "semcache", length)
        questions = pairs(data, "semcache/qqp_dev.tsv.gz")[: length // 2]
        both = [row[name].lower() for row in questions for name in ("text_a", "text_b")]
        traces["QQP in order"] = _numbered(both)
        traces["airline tool calls, trial by trial"] = _numbered(_airline(data))
    recorded = len(traces)
    traces["sessions that drift"] = _sessions(length)
    traces |= _traces(length) | _mixtures(length)
    rows: dict[str, dict[str, float]] = {}
    for at, (name, trace) in enumerate(traces.items()):
        room = max(16, len(set(trace)) // 20) if at < recorded else 500
        rows[name] = {policy: play(trace, room) for policy, play in _POLICIES.items()}
        print(name, rows[name], flush=True)
    mean = {
        policy: round(statistics.fmean(row[policy] for row in rows.values()), 2)
        for policy in _POLICIES
    }
    return {"requests": {name: len(trace) for name, trace in traces.items()}, "rows": rows} | {
        "mean": mean
    }


def _numbered(keys: Iterable[Any]) -> list[int]:
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _airline(data: Path) -> list[str]:
    """Tool calls with their arguments: all tasks, then all of them once more."""
    with gzip.open(data / "compression" / "tau_gpt4o_airline_dev.jsonl.gz", "rt") as file:
        rows = sorted(map(json.loads, file), key=lambda row: (row["trial"], row["task_id"]))
    return [
        call["function"]["name"] + call["function"]["arguments"].replace(" ", "")
        for row in rows
        for message in row["traj"]
        for call in message.get("tool_calls") or ()
    ]


def _sessions(length: int) -> list[int]:
    """Walks over 5,000 pages of three followers each; every 5,000 steps a twentieth changes."""
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, 5_001) ** 0.9
    weights /= weights.sum()
    follows, walked = rng.integers(0, 5_000, (5_000, 3)), list[int]()
    while len(walked) < length:
        if len(walked) % 5_000 < 10:
            changed = rng.integers(0, 5_000, 250)
            follows[changed] = rng.integers(0, 5_000, (250, 3))
        page = int(rng.choice(5_000, p=weights))
        for _ in range(int(rng.geometric(0.15))):
            walked.append(page)
            page = int(follows[page, rng.choice(3, p=[0.7, 0.2, 0.1])])
    return walked[:length]


# Policies


class _Markov(AdaptivePolicy):
    """Counts what mostly follows the present request as a part of a use."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._after: dict[bytes, dict[bytes, int]] = {}
        self._last: bytes | None = None

    def foresee(self, key: bytes) -> None:
        if self._last is not None:
            counts = self._after.setdefault(self._last, {})
            counts[key] = counts.get(key, 0) + 1
        self._last = key
        counts = self._after.get(key, {})
        if not counts:
            return
        likely = max(counts, key=counts.__getitem__)
        chance = counts[likely] / (sum(counts.values()) + len(counts))
        followed = self._followed
        if counts[likely] > 1 and likely in followed:
            worth = followed._after(followed._worth[likely], _HALF_A_USE * chance)
            followed._worth[likely] = worth
            if likely in followed._settled:
                followed._settled[likely] = worth


class _LifeTimes(AdaptivePolicy):
    """Gives up first what was not used for four times its mean interval."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._now = 0
        self._seen: dict[bytes, tuple[int, int, int]] = {}
        self._ends: dict[int, list[bytes]] = {}
        self._outlived: dict[bytes, None] = {}

    def foresee(self, key: bytes) -> None:
        self._now += 1
        first, _, uses = self._seen.get(key, (self._now, 0, 0))
        self._seen[key] = first, self._now, uses + 1
        self._outlived.pop(key, None)
        if uses >= 2:
            end = self._now + _LIFE * max(1, (self._now - first) // uses)
            self._ends.setdefault(end, []).append(key)
        for each in self._ends.pop(self._now, ()):
            start, last, times = self._seen[each]
            if last + _LIFE * max(1, (last - start) // max(1, times - 1)) <= self._now:
                self._outlived[each] = None

    def victim(self) -> bytes | None:
        usual = super().victim()
        while self._outlived:
            each = next(iter(self._outlived))
            del self._outlived[each]
            if each in self._followed:
                return each
        return usual


def _play(make: Callable[[int], Any], trace: Sequence[int], room: int) -> float:
    policy, inside, hits = make(room), set(), 0
    foresee = getattr(policy, "foresee", lambda key: None)
    keys = {number: _key(number) for number in set(trace)}
    for number in trace:
        key = keys[number]
        if key in inside:
            hits += 1
            policy.touch(key)
        else:
            policy.insert(key, Use())
            inside.add(key)
            while len(inside) > room:
                victim = policy.victim()
                policy.remove(victim)
                inside.remove(victim)
        foresee(key)
    return share(hits, len(trace))


def _named(name: Any) -> Callable[[Sequence[int], int], float]:
    return partial(_play, partial(policy_for, name))


_POLICIES: dict[str, Callable[[Sequence[int], int], float]] = {
    "adaptive": _named("adaptive"),
    "adaptive with a Markov model": partial(_play, _Markov),
    "adaptive with life times": partial(_play, _LifeTimes),
    "W-TinyLFU": _wtinylfu,
    "lfu": _named("lfu"),
    "lru": _named("lru"),
    "Belady": _belady,
}


def _table(figures: dict[str, Any]) -> str:
    names = list(_POLICIES)
    rows = {**figures["rows"], "mean": figures["mean"]}
    lines = [f"| hits, % | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {t} | {' | '.join(f'{row[n]:.1f}' for n in names)} |" for t, row in rows.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    figures = run(quick=given.quick, data=given.data)
    print(_table(figures))
    if not given.quick:
        write_result("learn_eviction", _COMMAND, figures)
        (RESULTS / "learn_eviction.md").write_text(_table(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
