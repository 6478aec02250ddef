"""Prefetching on traces: how often the next call is guessed, what is wasted, what is saved.

Run:     python -m tests.benchmarks.learn_prefetch [--quick]

Every trace is played through the public interface, a call at a time; each load ahead ends before
the next call. The first part of a trace is there to learn from, the second one is judged: other
sessions, other customers' tasks, other questions. Beside the guesses of ``Prefetcher`` stand the
most frequent key so far, and the key that came last after the same key; all three learn on while
they are judged. Intervals are 95 %, bootstrapped over sequences.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.tools import StructuredTool

from langchain_tokenopt.learn.prefetch.call_shapes import CallMemory, canonical, name_alone
from langchain_tokenopt.learn.prefetch.prefetcher import Prefetcher
from langchain_tokenopt.learn.prefetch.transitions import Step, Transitions
from tests.benchmarks.results import RESULTS, write_result

DATA = Path("../shared/data")
_READING = (
    *("get_user_details", "get_reservation_details", "list_all_airports", "calculate", "think"),
    *("search_direct_flight", "search_onestop_flight"),
)


@dataclass(frozen=True)
class Sequence_:
    """Keys of one user in one conversation."""

    user: str
    keys: Sequence[Any]


@dataclass(frozen=True)
class Call:
    """A recorded call of a tool."""

    task: str
    """Names the customer: each of the 25 tasks is one's, four times."""
    name: str
    arguments: dict[str, Any]
    result: str


def run(*, quick: bool = False, data: Path = DATA) -> dict[str, Any]:
    """Return the figures of all traces."""
    rng = np.random.default_rng(7)
    size = 40 if quick else 150
    sessions, optimum = _sessions(rng, size)
    found: dict[str, Any] = {
        "generated sessions": _keys(*sessions) | {"best possible hit@1": optimum},
        "nothing to predict": _keys(*_noise(rng, size)),
        "habits that end": _keys(*_ending(rng, size)),
    }
    if (data / "semcache").is_dir():
        found["banking77 order"] = _keys(*_banking(data, quick))
        for name, known in (("customers come back", True), ("strangers", False)):
            found[f"airline, whole calls, {name}"] = _airline_calls(data, known)
        found["airline, names of tools"] = _airline_names(data)
    found["latency"] = {
        f"{think} ms between calls": _latency(think, 30 if quick else 120) for think in (5, 30)
    }
    found["overhead"] = _overhead(sessions[1])
    return found


# Traces


def _sessions(rng: np.random.Generator, size: int) -> tuple[tuple[Any, Any], float]:
    """Sessions of 20 users over 60 keys: some have a sure successor, some a usual one, some none.

    Two thirds of a user's habits are everybody's, the others his own.
    """
    keys, users = 60, 20
    common = rng.integers(0, keys, keys)
    sure = rng.choice([0.99, 0.8, 0.3], keys, p=[0.5, 0.2, 0.3])
    own = [
        np.where(rng.random(keys) < 2 / 3, common, rng.integers(0, keys, keys)) for _ in range(20)
    ]
    found, chances = [], []
    for _ in range(2 * size):
        user = int(rng.integers(users))
        at, steps = int(rng.integers(keys)), []
        for _ in range(40):
            steps.append(f"k{at}")
            chances.append(sure[at] + (1 - sure[at]) / keys)
            usual = rng.random() < sure[at]
            at = int(own[user][at]) if usual else int(rng.integers(keys))
        found.append(Sequence_(f"user {user}", steps))
    return (found[:size], found[size:]), round(float(np.mean(chances)), 3)


def _noise(rng: np.random.Generator, size: int) -> tuple[Any, Any]:
    found = [
        Sequence_(f"user {n % 5}", [f"k{k}" for k in rng.integers(0, 60, 20)])
        for n in range(2 * size)
    ]
    return found[:size], found[size:]


def _ending(rng: np.random.Generator, size: int) -> tuple[Any, Any]:
    """A fixed round of ten keys, and from one day on none."""
    fixed = [Sequence_("ann", [f"k{n % 10}" for n in range(20)]) for _ in range(size)]
    after = [Sequence_("ann", [f"k{k}" for k in rng.integers(0, 10, 20)]) for _ in range(size // 2)]
    return fixed[: size // 2], fixed[size // 2 :] + after


def _banking(data: Path, quick: bool) -> tuple[Any, Any]:
    """Intents in the order of the two files, in parts of 33 questions: intents change within."""

    def read(name: str) -> list[Sequence_]:
        with (data / "semcache" / f"banking77_{name}.csv").open(encoding="utf-8") as file:
            intents = [row[1] for row in list(csv.reader(file))[1:]]
        return [Sequence_("ann", intents[n : n + 33]) for n in range(0, len(intents), 33)]

    return read("train")[: 40 if quick else None], read("test")[: 20 if quick else None]


def _airline(data: Path) -> tuple[list[list[Call]], list[list[Call]]]:
    """Conversations about 13 tasks to learn from, about the 12 others to judge."""
    with gzip.open(data / "compression" / "tau_gpt4o_airline_dev.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    tasks = np.random.default_rng(0).permutation(sorted({row["task_id"] for row in rows}))
    learned = set(tasks[:13].tolist())
    both: tuple[list[list[Call]], list[list[Call]]] = [], []
    for row in rows:
        results = {m["tool_call_id"]: m["content"] for m in row["traj"] if m["role"] == "tool"}
        calls = [call for m in row["traj"] for call in m.get("tool_calls") or ()]
        both[row["task_id"] not in learned].append(
            [
                Call(
                    f"task {row['task_id']}",
                    call["function"]["name"],
                    json.loads(call["function"]["arguments"]),
                    results.get(call["id"]) or "",
                )
                for call in calls
            ]
        )
    return both


# Playing


class _Baselines:
    """The most frequent key so far, and the one that came last after the same key."""

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self.after: dict[Any, Any] = {}

    def rights(self, before: Any, key: Any) -> tuple[bool, bool]:
        """Say which of the two guesses *key*, and learn it."""
        frequent = self.counts.most_common(1)
        found = bool(frequent) and frequent[0][0] == key, self.after.get(before) == key
        self.counts[key] += 1
        self.after[before] = key
        return found


def _keys(learned: Sequence[Sequence_], judged: Sequence[Sequence_]) -> dict[str, Any]:
    baselines = _Baselines()
    with Prefetcher(loader=str.upper) as prefetcher:

        def play(sequence: Sequence_, number: int) -> list[tuple[bool, ...]]:
            rights, before = [], None
            for key in sequence.keys:
                known = prefetcher.stats().right_guesses
                prefetcher.get(key, user=sequence.user, thread_id=f"{number}")
                prefetcher.wait()
                right = prefetcher.stats().right_guesses > known
                others = baselines.rights(before, key)
                if before is not None:
                    rights.append((right, *others))
                before = key
            return rights

        for number, sequence in enumerate(learned):
            play(sequence, number)
        before = prefetcher.stats()
        rights = [play(sequence, -number) for number, sequence in enumerate(judged, 1)]
        return _figures(rights) | _waste(prefetcher, before)


def _airline_calls(data: Path, are_known: bool) -> dict[str, Any]:
    """Which call comes next, with its arguments.

    Strangers' arguments are nobody else's business: the two simple ways are not bound by that, and
    guess from what another conversation of the same customer has asked.
    """
    learned, judged = _airline(data)
    baselines, results = _Baselines(), dict[str, str]()

    def replayed(name: str) -> StructuredTool:
        properties = {
            argument: {}
            for conversation in learned + judged
            for call in conversation
            if call.name == name
            for argument in call.arguments
        }
        return StructuredTool.from_function(
            lambda **given: results.get(f"{name}{canonical(given)}", "Error: not found"),
            name=name,
            description=name,
            args_schema={"type": "object", "properties": properties},
        )

    names = {call.name for conversation in learned + judged for call in conversation}
    with Prefetcher(read_only=_READING) as prefetcher:
        tools = {name: prefetcher.wrap(replayed(name)) for name in names}

        def play(conversation: list[Call], number: int) -> list[tuple[bool, ...]]:
            rights, before = [], None
            results.update(
                {f"{c.name}{canonical(c.arguments)}": c.result for c in reversed(conversation)}
            )
            for call in conversation:
                known = prefetcher.stats().right_guesses
                config = {"metadata": {"thread_id": f"{number}"}}
                if are_known:
                    config["metadata"]["user_id"] = call.task
                tools[call.name].invoke(call.arguments, config)
                prefetcher.wait()
                right = prefetcher.stats().right_guesses > known
                key = call.name + (canonical(call.arguments) or "")
                others = baselines.rights(before, key)
                if before is not None:
                    rights.append((right, *others))
                before = key
            return rights

        for number, conversation in enumerate(learned):
            play(conversation, number)
        before = prefetcher.stats()
        rights = [play(conversation, -number) for number, conversation in enumerate(judged, 1)]
        return _figures(rights) | _waste(prefetcher, before)


def _airline_names(data: Path) -> dict[str, Any]:
    """Which tool comes next, whatever its arguments, by the same model."""
    learned, judged = _airline(data)
    baselines, model = _Baselines(), Transitions(public=name_alone)

    def play(conversation: list[Call], user: str) -> list[tuple[bool, ...]]:
        history: list[Step] = []
        memory, rights, before = CallMemory(), [], None
        for call in conversation:
            chances: Counter[str] = Counter()
            for shape, chance in model.predict(user, "agent", history, most=1_000):
                chances[json.loads(shape)[0]] += chance  # type: ignore[assignment]
            right = bool(chances) and chances.most_common(1)[0][0] == call.name
            others = baselines.rights(before, call.name)
            if before is not None:
                rights.append((right, *others))
            before = call.name
            shape = memory.shape(call.name, call.arguments)
            model.observe(user, "agent", history, shape)
            memory.add_call(call.name, call.arguments)
            exact, place = canonical([call.name, call.arguments]) or "", memory.place(shape)
            history.append(Step(f"{shape}{place}", call.name, exact))
            memory.add_result(call.name, call.result)
        return rights

    for number, conversation in enumerate(learned):
        play(conversation, f"learned {number}")
    return _figures([play(one, f"judged {number}") for number, one in enumerate(judged)])


def _figures(rights: list[list[tuple[bool, ...]]]) -> dict[str, Any]:
    """Return each way's share of right guesses, with its interval."""
    rng = np.random.default_rng(0)
    sums = np.array([np.sum(one, axis=0) for one in rights if one], dtype=float)
    sizes = np.array([len(one) for one in rights if one], dtype=float)
    drawn = rng.integers(0, len(sums), (2_000, len(sums)))
    shares = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)[:, None]
    names = ("Prefetcher", "most frequent", "last next")
    return {
        "sequences": len(sums),
        "calls": int(sizes.sum()),
        "hit@1": {
            name: {
                "share": round(float(sums[:, at].sum() / sizes.sum()), 3),
                "interval": np.percentile(shares[:, at], [2.5, 97.5]).round(3).tolist(),
            }
            for at, name in enumerate(names)
        },
    }


def _waste(prefetcher: Prefetcher, before: Any) -> dict[str, Any]:
    prefetcher.close()
    after = prefetcher.stats()
    used, wasted = after.used - before.used, after.wasted - before.wasted
    return {
        "loads": used + wasted,
        "wasted": wasted,
        "waste_ratio": round(wasted / (used + wasted), 4) if used + wasted else None,
        "loads while learning": before.started,
        "wasted while learning": before.wasted,
        "waste_ratio in all": round(after.waste_ratio, 4) if after.started else None,
    }


# Time


def _latency(think_ms: int, calls: int) -> dict[str, Any]:
    """Wait for a loader of 20 ms, once a round of seven keys is known."""
    day = ("inbox", "calendar", "news", "weather", "tickets", "mail", "traffic")
    slow = False

    def load(key: str) -> str:
        time.sleep(0.02 if slow else 0)
        return key

    with Prefetcher(loader=load) as prefetcher:
        for n in range(20 * len(day)):
            prefetcher.get(day[n % len(day)], user="ann")
            prefetcher.wait()
        slow, waits = True, []
        for n in range(calls):
            time.sleep(think_ms / 1_000)
            begun = time.perf_counter()
            prefetcher.get(day[n % len(day)], user="ann")
            waits.append(1_000 * (time.perf_counter() - begun))
    stats = prefetcher.stats()
    return {
        "calls": calls,
        "ms without": 20,
        "ms mean": round(float(np.mean(waits)), 2),
        "ms median": round(float(np.median(waits)), 2),
        "ms p95": round(float(np.percentile(waits, 95)), 2),
        "wasted": f"{stats.wasted} of {stats.started}",
    }


def _overhead(sequences: Sequence[Sequence_]) -> dict[str, float]:
    """Return what prefetching adds to a call that does nothing, in the thread that calls."""
    keys = [(s.user, key) for s in sequences[:60] for key in s.keys]

    def timed(get: Callable[[str, str], Any]) -> float:
        begun = time.thread_time()
        for user, key in keys:
            get(user, key)
        return 1e6 * (time.thread_time() - begun) / len(keys)

    with Prefetcher(loader=str.upper) as prefetcher:
        ours = timed(lambda user, key: prefetcher.get(key, user=user))
    plain = timed(lambda user, key: key.upper())
    return {"added CPU us per call": round(ours - plain, 1)}


def _table(figures: dict[str, Any]) -> str:
    lines = [
        "| trace | calls judged | hit@1 | most frequent | last next | loads ahead | wasted |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in figures.items():
        if "hit@1" not in found:
            continue
        shares = found["hit@1"]
        low, high = shares["Prefetcher"]["interval"]
        cells = [
            f"{found['calls']:,}",
            f"{shares['Prefetcher']['share']:.1%} ({low:.1%} to {high:.1%})",
            *(f"{shares[way]['share']:.1%}" for way in ("most frequent", "last next")),
            f"{found['loads']:,}" if "loads" in found else "",
            f"{found['wasted']:,}" if "loads" in found else "",
        ]
        if "best possible hit@1" in found:
            name += f" (best possible: {found['best possible hit@1']:.1%})"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    waits = [
        f"{found['ms mean']:.1f} ms with {think}" for think, found in figures["latency"].items()
    ]
    return "\n".join(lines) + f"\n\nMean wait for a loader of 20 ms: {', '.join(waits)}.\n"


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    figures = run(quick=given.quick, data=given.data)
    for name, figure in figures.items():
        print(name, json.dumps(figure))
    if not given.quick:
        write_result("learn_prefetch", "python -m tests.benchmarks.learn_prefetch", figures)
        (RESULTS / "learn_prefetch.md").write_text(_table(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
