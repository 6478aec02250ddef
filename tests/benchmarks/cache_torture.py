"""Threads, tasks, kills and adversarial scopes against one cache; prints one JSON object.

Run:     python -m tests.benchmarks.cache_torture stress 180 | kills 100 | scopes 20000

In a process of its own, since an index that is used without a lock ends the process (signal 11).
"""

from __future__ import annotations

import asyncio
import itertools
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

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation
from pydantic import BaseModel, SecretStr

from langchain_tokenopt import optimize
from langchain_tokenopt.cache import CacheSettings, SemanticCache
from tests.support.embedders import WordEmbeddings

ROOM = 400
BYTES = ROOM * 295
TTL = 1.0
NUMBERS = 600
"""Questions; more than there is room for, so that answers are evicted, too."""
LLM = "llm"


def question(number: int, wording: int = 0) -> str:
    store = number % 7
    return (
        f"is object x{number} in store {store}",
        f"in store {store}, is object x{number} there",
    )[wording]


def answer(number: int) -> str:
    return f"object x{number}"


class Stress:
    """A crowd on one cache: everybody stores, asks, rejects, clears and lets expire.

    Each answer is marked, and it is written down until when it was surely stored, rejected or
    cleared. Served later than its time it is counted as wrong, as is one to another question.
    """

    def __init__(self, cache: SemanticCache, seconds: float) -> None:
        self.cache = cache
        self.stop = time.monotonic() + seconds
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("wrong", "expired served", "rejected served", "cleared served"), 0)
        )
        self.errors: list[str] = []
        self._marks = itertools.count()
        self._stored_by: dict[str, float] = {}
        self._rejected_by: dict[int, float] = {}
        self._cleared = (0.0, 0.0)

    def mark(self, number: int) -> tuple[str, list[ChatGeneration]]:
        """Return a mark and an answer that carries it."""
        mark = str(next(self._marks))
        message = AIMessage(answer(number), additional_kwargs={"mark": mark})
        return mark, [ChatGeneration(message=message)]

    def stored(self, mark: str) -> None:
        self._stored_by[mark] = time.time()

    def judge(self, number: int, found: Any, began: float) -> None:
        """Count what a lookup that began then has returned."""
        self.counts["hits" if found else "misses"] += 1
        if not found:
            return
        message = found[0].message
        self.counts["wrong"] += message.content != answer(number)
        stored = self._stored_by.get(message.additional_kwargs["mark"], began)
        entry = message.response_metadata["tokenopt_cache_entry"]
        clearing, cleared = self._cleared
        self.counts["expired served"] += began > stored + TTL
        self.counts["rejected served"] += began > self._rejected_by.get(entry, began)
        self.counts["cleared served"] += stored < clearing and began > cleared

    def work(self, seed: int) -> None:
        """What one thread does until the end."""
        rng = random.Random(seed)
        try:
            while time.monotonic() < self.stop:
                self.act(rng, rng.random(), int(NUMBERS * rng.random() ** 2))
        except Exception as error:  # whatever it is, it is counted as a failure
            self.errors.append(repr(error))

    def act(self, rng: random.Random, act: float, number: int) -> None:
        cache, text = self.cache, question(number, rng.randrange(2))
        if act < 0.8:
            began = time.time()
            found = cache.lookup(text, LLM) if act < 0.7 else None
            self.judge(number, found, began)
            if not found:
                mark, answers = self.mark(number)
                cache.update(text, LLM, answers)
                self.stored(mark)
        elif act < 0.84:
            for entry in [top.entry for top in cache.top(3)]:
                self.counts["rejected"] += cache.reject(entry)
                self._rejected_by.setdefault(entry, time.time())
        elif act < 0.88:
            self.counts["explained"] += bool(cache.explain(text, LLM).why)
        elif act < 0.8803:
            clearing = time.time()
            cache.clear()
            self._cleared = clearing, time.time()
            self.counts["cleared"] += 1
        elif act < 0.882:
            self.counts["damaged"] += len(cache.check().damaged)
        else:
            stats = cache.stats()
            self.counts["looks at the caps"] += 1
            self.counts["over a cap"] += stats.entries > ROOM or stats.bytes > BYTES

    async def tasks(self, count: int) -> None:
        """What tasks do at the same time."""
        rng = random.Random(-1)

        async def one() -> None:
            while time.monotonic() < self.stop:
                number = int(NUMBERS * rng.random() ** 2)
                text, began = question(number, rng.randrange(2)), time.time()
                found = await self.cache.alookup(text, LLM)
                self.judge(number, found, began)
                if not found:
                    mark, answers = self.mark(number)
                    await self.cache.aupdate(text, LLM, answers)
                    self.stored(mark)

        done = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        self.errors.extend(repr(error) for error in done if error is not None)


def stress(seconds: float) -> dict[str, Any]:
    """64 threads and 16 tasks on one cache, all at once."""
    with tempfile.TemporaryDirectory() as folder:
        cache = SemanticCache(
            Path(folder) / "c.db",
            embeddings=WordEmbeddings(),
            max_entries=ROOM,
            ttl_seconds=TTL,
            settings=CacheSettings(max_bytes=BYTES, wait_seconds=0.5, embedding_seconds=60),
        )
        run = Stress(cache, seconds)
        threads = [threading.Thread(target=run.work, args=(seed,)) for seed in range(64)]
        for thread in threads:
            thread.start()
        asyncio.run(run.tasks(16))
        for thread in threads:
            thread.join()
        checked, stats = cache.check(), cache.stats()
        cache.close()
    return {
        **run.counts,
        "exceptions": len(run.errors),
        "first": run.errors[:2],
        "hits of like questions": stats.semantic_hits,
        "entries at the end": [checked.entries, stats.entries],
        "bytes at the end": [checked.bytes, stats.bytes],
        "damaged at the end": len(checked.damaged),
        "sound": checked.is_sound,
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


SYSTEMS = ("Be brief.", "Be brief!", "Be brief. ", "be brief.")
HISTORY = ("one", "two", "three")
WORDINGS = ("where is my card", "where is my card now", "so where is my card")
USERS = ("ann", "bob", "ann ", "")


def scopes(lookups: int) -> dict[str, Any]:
    """Requests that differ only in what is not the question, as LangChain and the seam ask."""
    return {"langchain": _langchain_scopes(lookups), "seam": _seam_scopes(lookups // 5)}


def _conversation(rng: random.Random) -> tuple[list[str], list[BaseMessage]]:
    """Return what must be equal, and the messages: whole, truncated or reordered histories."""
    system, history = rng.choice(SYSTEMS), rng.sample(HISTORY, rng.randrange(4))
    messages: list[BaseMessage] = [SystemMessage(system)]
    for turn in history:
        messages += [HumanMessage(turn), AIMessage(turn)]
    return [system, *history], [*messages, HumanMessage(rng.choice(WORDINGS))]


def _langchain_scopes(lookups: int) -> dict[str, int]:
    rng = random.Random(0)
    cache = SemanticCache(
        embeddings=WordEmbeddings(), min_similarity=0.5, settings=CacheSettings(guards=())
    )
    counts: Counter[str] = Counter(across=0)
    for _ in range(lookups):
        said, messages = _conversation(rng)
        tools, header = rng.choice(["[a, b]", "[b, a]", "[a]", ""]), rng.choice(["1", "2"])
        user = rng.choice(USERS)
        settings = (
            f'{{"kwargs": {{"model": "m", "default_headers": {{"k": "{header}"}}}}}}---{tools}'
        )
        scope, prompt = json.dumps([said, tools, header, user]), dumps(messages)
        with cache.scope(user=user):
            found = cache.lookup(prompt, settings)
            counts["hits" if found else "misses"] += 1
            if found:
                counts["across"] += found[0].text != scope
            else:
                cache.update(prompt, settings, [Generation(text=scope)])
    return dict(counts)


class Echo(BaseChatModel):
    """Says what of a request is not the question."""

    api_key: SecretStr
    headers: str

    @property
    def _llm_type(self) -> str:
        return "echo"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"headers": self.headers}

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        fields = sorted(kwargs["response_format"].model_fields)
        key = self.api_key.get_secret_value()
        said = [message.text for message in messages[:-1]]
        text = json.dumps([key, self.headers, fields, said])
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def _seam_scopes(calls: int) -> dict[str, int]:
    rng = random.Random(0)
    cache = SemanticCache(
        embeddings=WordEmbeddings(), min_similarity=0.5, settings=CacheSettings(guards=())
    )
    counts: Counter[str] = Counter(across=0)
    schemas = [
        type("Answer", (BaseModel,), {"__annotations__": {name: int}}) for name in ("a", "b", "c")
    ]
    for _ in range(calls):
        model = Echo(api_key=rng.choice(["sk-1", "sk-2"]), headers=rng.choice("xy"))
        bound = model.bind(response_format=rng.choice(schemas))
        _, messages = _conversation(rng)
        user = rng.choice(USERS)
        hits = cache.stats().hits
        said = optimize(bound, cache).invoke(messages, {"metadata": {"user_id": user}}).text
        hit = cache.stats().hits > hits
        counts["hits" if hit else "misses"] += 1
        counts["across"] += said != bound.invoke(messages).text
    return dict(counts)


if __name__ == "__main__":
    what, argument = sys.argv[1:]
    if what == "write":
        write_for_ever(argument)
    run: dict[str, Any] = {"stress": stress, "kills": kills, "scopes": scopes}
    print(json.dumps(run[what](int(float(argument)))))
