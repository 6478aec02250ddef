"""Threads, tasks, kills and adversarial scopes against one cache; prints one JSON object.

Run:     python -m tests.benchmarks.cache_torture stress 180 | kills 100 | scopes 20000

In a process of its own, since an index that is used without a lock ends the process (signal 11).
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache import SemanticCache
from tests.support.embedders import WordEmbeddings

ROOM = 400


def question(number: int) -> str:
    return f"is object x{number} in store {number % 7}"


def answer(number: int) -> str:
    return f"object x{number}"


def stress(seconds: float) -> dict[str, Any]:
    """64 threads and an event loop store, ask, reject and let expire."""
    counts: Counter[str] = Counter()
    errors: list[str] = []
    stop = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        cache = SemanticCache(
            Path(folder) / "c.db",
            embeddings=WordEmbeddings(),
            max_entries=ROOM,
            max_bytes=ROOM * 600,
            ttl=5,
            flight_seconds=0.05,
            embed_seconds=60,
            min_similarity=0.9,
        )

        def check(number: int, found: Any) -> None:
            counts["hits" if found else "misses"] += 1
            counts["wrong"] += bool(found) and found[0].text != answer(number)

        def work(seed: int) -> None:
            rng = random.Random(seed)
            try:
                while time.monotonic() < stop:
                    number = rng.randrange(2_000)
                    act = rng.random()
                    if act < 0.6:
                        found = cache.lookup(question(number), "llm")
                        check(number, found)
                        if not found:
                            cache.update(question(number), "llm", [Generation(text=answer(number))])
                    elif act < 0.8:
                        cache.update(question(number), "llm", [Generation(text=answer(number))])
                    elif act < 0.9:
                        top = cache.top(1)
                        counts["rejected"] += bool(top) and cache.reject(top[0].entry)
                    else:
                        stats = cache.stats()
                        over = stats.entries > ROOM or stats.bytes > ROOM * 600
                        counts["over the cap"] += over
            except Exception as error:  # whatever it is, it is counted as a failure
                errors.append(repr(error))

        async def tasks() -> None:
            rng = random.Random(-1)

            async def one() -> None:
                while time.monotonic() < stop:
                    number = rng.randrange(2_000)
                    found = await cache.alookup(question(number), "llm")
                    check(number, found)
                    if not found:
                        await cache.aupdate(
                            question(number), "llm", [Generation(text=answer(number))]
                        )

            done = await asyncio.gather(*(one() for _ in range(16)), return_exceptions=True)
            errors.extend(repr(e) for e in done if e is not None)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        asyncio.run(tasks())
        for thread in threads:
            thread.join()
        checked = cache.check()
        stats = cache.stats()
        cache.close()
    return {
        **counts,
        "exceptions": len(errors),
        "first": errors[:2],
        "entries at the end": [checked.entries, stats.entries],
        "bytes at the end": [checked.bytes, stats.bytes],
        "damaged": len(checked.damaged),
        "expired": stats.expired,
        "evicted": stats.evicted,
    }


def write_for_ever(path: str) -> None:
    """What is killed: stores as fast as it can."""
    cache = SemanticCache(path, embeddings=WordEmbeddings(), max_entries=ROOM)
    for number in range(10**9):
        cache.update(question(number % 3_000), "llm", [Generation(text=answer(number % 3_000))])
        if number == 5:
            print("writing", flush=True)


def kills(times: int) -> dict[str, Any]:
    """Kill the writer at random points, reopen, and read everything."""
    rng = random.Random(0)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.db"
        for _ in range(times):
            writer = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.cache_torture", "write", str(path)],
                stdout=subprocess.PIPE,
            )
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.25))
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                with SemanticCache(path, embeddings=WordEmbeddings(), min_similarity=0.9) as cache:
                    checked = cache.check()
                    counts["corrupt"] += not checked.is_sound or bool(checked.damaged)
                    counts["entries read"] += checked.entries
                    for number in range(0, 3_000, 37):
                        found = cache.lookup(question(number), "llm")
                        counts["asked"] += 1
                        counts["wrong"] += bool(found) and found[0].text != answer(number)
            counts["warnings"] += len(warned)
            counts["reopened"] += 1
    return dict(counts)


def scopes(lookups: int) -> dict[str, Any]:
    """Requests that differ only in what is not the question."""
    rng = random.Random(0)
    cache = SemanticCache(embeddings=WordEmbeddings(), min_similarity=0.5, guards=[])
    counts: Counter[str] = Counter()

    def request() -> tuple[str, str, str]:
        system = rng.choice(["Be brief.", "Be brief!", "Be brief. ", "be brief."])
        tools = rng.choice(["[a, b]", "[b, a]", "[a]", ""])
        header = rng.choice(["1", "2"])
        history = rng.sample(["one", "two", "three"], rng.randrange(4))
        user = rng.choice(["ann", "bob", "ann ", ""])
        settings = (
            f'{{"kwargs": {{"model": "m", "default_headers": {{"k": "{header}"}}}}}}---{tools}'
        )
        messages = [SystemMessage(system)]
        for turn in history:
            messages += [HumanMessage(turn), AIMessage(turn)]
        asked = rng.choice(["where is my card", "where is my card now", "so where is my card"])
        scope = json.dumps([system, tools, header, history, user])
        return dumps([*messages, HumanMessage(asked)]), settings, scope

    for _ in range(lookups):
        prompt, settings, scope = request()
        with cache.scope(user=json.loads(scope)[-1]):
            found = cache.lookup(prompt, settings)
            counts["hits" if found else "misses"] += 1
            if found:
                counts["across"] += found[0].text != scope
            else:
                cache.update(prompt, settings, [Generation(text=scope)])
    counts["across"] += 0
    return dict(counts)


if __name__ == "__main__":
    what, argument = sys.argv[1:]
    if what == "write":
        write_for_ever(argument)
    run: dict[str, Any] = {"stress": stress, "kills": kills, "scopes": scopes}
    print(json.dumps(run[what](int(float(argument)))))
