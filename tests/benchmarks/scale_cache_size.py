"""A cache of many entries in PostgreSQL: how long look-ups take, and what the index does not find.

Data:    real questions with real vectors (MiniLM, 384 numbers) as far as there are any; the rest
         lie between two real ones, with noise: `w a + (1 - w) b`, w from 0.6 to 0.95. They stand in
         scopes of very different sizes: half of all, ten of 4 %, four of 0.5 %, ten of 0.1 %, and
         7 % in scopes of some twenty.
Queries: a stored question in other words: its vector, moved to a cosine of about 0.93 with it.
Time:    wall time of one process, without embedding; the server stands on the same machine.
Recall:  of the nearest, and of the nearest 16, against all vectors of the scope, one by one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from langchain_core.load import dumps
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.outputs import Generation

from langchain_tokenopt.cache import CacheSettings, SemanticCache
from langchain_tokenopt.cache.answer_json import pack
from langchain_tokenopt.cache.key import question_in
from langchain_tokenopt.cache.stored_row import checksum_of
from tests.benchmarks.cache_sets import LLM, Precomputed, banking, pairs
from tests.support.postgres_server import PostgresServer, database_of

__all__ = ["measure_size"]

_TIMED = 200
_CHUNK = 20_000
_SHARES = (("half", 1, 0.5), ("4 %", 10, 0.4), ("0.5 %", 4, 0.02), ("0.1 %", 10, 0.01))
_ANSWER = "In Settings, under Cards. " * 8


def _asked(system: str, question: str) -> str:
    return dumps([SystemMessage(system), HumanMessage(question)])


def _ms(seconds: Iterable[float]) -> dict[str, float]:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2)

    return {"p50_ms": at(0.5), "p95_ms": at(0.95)}


def _real(data: Path, embedder: Precomputed) -> tuple[list[str], np.ndarray]:
    """Return questions that people asked, and their vectors."""
    sets = {"banking": [t for part in ("train", "test") for t, _ in banking(data, part)]}
    for name in ("checklist", "qqp"):
        rows = pairs(data, f"{name}_dev.tsv.gz")
        sets[name] = [t for row in rows for t in (row["text_a"], row["text_b"])]
    known = [embedder.read(name, texts) for name, texts in sets.items()]
    return [t for texts in sets.values() for t in dict.fromkeys(texts)], np.vstack(known)


class _Stock:
    """The entries that are made: systems, questions, vectors (16-bit floats, one row each)."""

    def __init__(self, data: Path, embedder: Precomputed, size: int) -> None:
        self.size = size
        rng, chance = np.random.default_rng(0), random.Random(0)
        texts, known = _real(data, embedder)
        first = {" ".join(text.split()).casefold(): n for n, text in enumerate(texts)}
        order = rng.permutation(list(first.values()))
        real, texts = _unit(known[order]), [texts[n] for n in order]
        self.real = min(len(real), size)
        self.vectors = np.empty((size, real.shape[1]), dtype=np.float16)
        self.vectors[: self.real] = real[: self.real]
        for start in range(self.real, size, _CHUNK):
            count = min(_CHUNK, size - start)
            one, other = (real[rng.integers(len(real), size=count)] for _ in range(2))
            w = rng.uniform(0.6, 0.95, size=(count, 1)).astype(np.float32)
            self.vectors[start : start + count] = moved(w * one + (1 - w) * other, 0.005, rng)
        self.questions = [
            texts[n] if n < self.real else f"{texts[n % len(texts)].rstrip('?.!')} ref{n}?"
            for n in range(size)
        ]
        self.systems = [self._system(chance) for _ in range(size)]

    def _system(self, chance: random.Random) -> str:
        drawn = chance.random()
        for name, number, share in _SHARES:
            if drawn < share:
                return f"{name}, {chance.randrange(number)}"
            drawn -= share
        return f"few, {chance.randrange(max(1, self.size * 7 // 2_000))}"


def _unit(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def moved(vectors: np.ndarray, by: float, rng: np.random.Generator) -> np.ndarray:
    """Return unit vectors near others: noise of *by* in each coordinate."""
    return _unit(vectors + rng.standard_normal(vectors.shape, dtype=np.float32) * by)


def _fill(url: str, cache: SemanticCache, stock: _Stock) -> dict[str, float]:
    """Copy entries into the tables as the cache would write them, and index them at once."""
    repository: Any = cache._repository
    cache._embedder.vector("Where is my PIN?")  # now vectors have a length
    packed, salt = pack([Generation(text=_ANSWER)]), repository._entries._server.tables.salt
    scopes = {
        system: cache._reader.question(_asked(system, "x"), LLM).scope
        for system in set(stock.systems)
    }

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, (system, text) in enumerate(zip(stock.systems, stock.questions, strict=True)):
            one = question_in(scopes[system], text)
            checksum = checksum_of(salt, one.exact, one.scope, one.text, None, packed)
            size = len(packed) + stock.vectors.shape[1] * 2 + len(text) + 96
            row = number + 1, one.exact, one.scope, one.near, one.text, packed, checksum
            yield (*row, 60, size, 0.0, 0.0)

    began = time.perf_counter()
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        ((index,),) = cursor.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'cache_vectors_near'"
        ).fetchall()
        cursor.execute("DROP INDEX cache_vectors_near")
        with cursor.copy(
            "COPY cache_entries (id, exact, scope, near, question, answers, checksum, tokens, "
            "size, created, worth) FROM STDIN (FORMAT binary)"
        ) as copy:
            copy.set_types(
                ["int8", *["bytea"] * 3, "text", "bytea", "bytea", "int8", "int8", *["float8"] * 2]
            )
            for row in rows():
                copy.write_row(row)
        with cursor.copy("COPY cache_vectors FROM STDIN (FORMAT binary)") as copy:
            for part in _copied_vectors(stock, scopes):
                copy.write(part)
        cursor.execute("UPDATE cache_numbers SET next = %s", (stock.size + 1,))
        filled = time.perf_counter()
        cursor.execute(index)
        indexed = time.perf_counter()
        cursor.execute("VACUUM ANALYZE cache_entries")
        cursor.execute("VACUUM ANALYZE cache_vectors")
    return {"fill_seconds": round(filled - began, 1), "index_seconds": round(indexed - filled, 1)}


def _copied_vectors(stock: _Stock, scopes: dict[str, bytes]) -> Iterator[bytes]:
    """Yield what ``COPY ... (FORMAT binary)`` reads: entry, scope and vector of each row."""
    numbers, scope = stock.vectors.shape[1], len(next(iter(scopes.values())))
    fields = [("columns", ">i2"), ("entry_bytes", ">i4"), ("entry", ">i8")]
    fields += [("scope_bytes", ">i4"), ("scope", f"V{scope}"), ("vector_bytes", ">i4")]
    fields += [("numbers", ">i2"), ("unused", ">i2"), ("vector", ">f2", (numbers,))]  # type: ignore[list-item]
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for start in range(0, stock.size, _CHUNK):
        vectors = stock.vectors[start : start + _CHUNK]
        rows = np.zeros(len(vectors), dtype=fields)
        rows["columns"], rows["entry_bytes"], rows["scope_bytes"] = 3, 8, scope
        rows["vector_bytes"], rows["numbers"] = 4 + 2 * numbers, numbers
        rows["entry"] = np.arange(start, start + len(vectors)) + 1
        places = b"".join(scopes[name] for name in stock.systems[start : start + _CHUNK])
        rows["scope"] = np.frombuffer(places, dtype=f"V{scope}")
        rows["vector"] = vectors
        yield rows.tobytes()
    yield b"\xff\xff"


def measure_size(
    server: PostgresServer, size: int, data: Path, embedder: Precomputed, timed: int = _TIMED
) -> dict[str, Any]:
    """Measure one process on *size* entries."""
    stock = _Stock(data, embedder, size)
    url = server.new_database()
    cache = SemanticCache(
        url,
        embeddings=embedder,
        max_entries=2 * size,
        max_wrong_per_request=0.2,
        settings=CacheSettings(seed=0, wait_seconds=0),
    )
    figures: dict[str, Any] = {"entries": size, "of which real questions and vectors": stock.real}
    figures |= _fill(url, cache, stock)
    print(figures, flush=True)
    chance = random.Random(1)

    def look(asked: Iterable[tuple[str, str]]) -> tuple[dict[str, float], int]:
        taken, hits = [], 0
        for system, question in asked:
            prompt = _asked(system, question)
            began = time.perf_counter()
            hits += cache.lookup(prompt, LLM) is not None
            taken.append(time.perf_counter() - began)
        return _ms(taken), hits

    chosen = chance.sample(range(size), timed)
    same = [(stock.systems[n], stock.questions[n]) for n in chosen]
    figures["equal, read from the server"], found = look(same)
    figures["equal, copied"], again = look(same * 5)
    figures["equal requests that were found"] = f"{found} of {timed}, {again} of {5 * timed}"
    places: dict[str, list[int]] = {}
    for number, system in enumerate(stock.systems):
        places.setdefault(system, []).append(number)
    for name in ("half, 0", "4 %, 3", "0.5 %, 2", "0.1 %, 7", "few, 7"):
        figures[f"scope of {name.partition(',')[0]}"] = _scope(
            cache, stock, name, np.array(places[name]), embedder, look, timed
        )
        print(name, figures[f"scope of {name.partition(',')[0]}"], flush=True)
    cache.close()
    figures["megabytes"] = {
        name: round(int(bytes_used) / 2**20)
        for name, bytes_used in server.execute(
            "SELECT 'all', pg_database_size(current_database()) UNION ALL "
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class "
            "WHERE relname IN ('cache_entries', 'cache_vectors') UNION ALL "
            "SELECT relname, pg_relation_size(oid) FROM pg_class "
            "WHERE relname = 'cache_vectors_near'",
            database_of(url),
        )
    }
    return figures


def _scope(
    cache: SemanticCache,
    stock: _Stock,
    name: str,
    inside: np.ndarray,
    embedder: Any,
    look: Any,
    timed: int,
) -> dict[str, Any]:
    """Measure look-ups in one scope, and compare what is found with all vectors there."""
    rng = np.random.default_rng(2)
    repository: Any = cache._repository
    asked = rng.choice(inside, size=timed)
    queries = moved(stock.vectors[asked].astype(np.float32), 0.02, rng)
    wordings = [f"{stock.questions[n].rstrip('?.!')} thanks {k}?" for k, n in enumerate(asked)]
    embedder._known.update(zip(wordings, queries, strict=True))
    whole, _ = look((name, wording) for wording in wordings)
    scope = cache._reader.question(_asked(name, "x"), LLM).scope
    exact = _nearest(stock.vectors, inside, queries)
    nearest = all_found = wanted = others = 0
    took = []
    for query, (best, cosines) in zip(queries, exact, strict=True):
        began = time.perf_counter()
        rows = repository._entries.neighbours.of(query, scope, 0.0, 16).rows
        took.append(time.perf_counter() - began)
        got = [stored.id - 1 for stored, _ in rows]
        nearest += bool(got and (got[0] == best[0] or rows[0][1] >= cosines[0] - 1e-3))
        all_found += len(set(got) & set(best.tolist()))
        wanted += len(best)
        others += sum(stock.systems[n] != name for n in got)
    return {
        "entries": len(inside),
        "look-up in other words": whole,
        "of which neighbours": _ms(took),
        "recall of the nearest": round(float(nearest) / timed, 4),
        "recall of the nearest 16": round(all_found / wanted, 4),
        "neighbours of other scopes": others,
    }


def _nearest(
    vectors: np.ndarray, inside: np.ndarray, queries: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the nearest 16 of each query, compared one by one, with their cosines."""
    best: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in queries]
    for start in range(0, len(inside), _CHUNK):
        part = inside[start : start + _CHUNK]
        cosines = queries @ vectors[part].astype(np.float32).T
        for found, row in zip(best, cosines, strict=True):
            first = np.argsort(-row)[:16]
            found.append((part[first], row[first]))
    joined = []
    for found in best:
        entries, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
        first = np.argsort(-cosines)[:16]
        joined.append((entries[first], cosines[first]))
    return joined
