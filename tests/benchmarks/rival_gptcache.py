"""GPTCache, run in an environment of its own; see bench_cache.py. Prints one JSON object.

Uses GPTCache's own adapter, SQLite and FAISS, its default evaluation and threshold; vectors are
handed in, so that both caches use one embedder.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from gptcache import Cache, Config
from gptcache.adapter.api import get, put
from gptcache.manager import CacheBase, VectorBase, get_data_manager
from gptcache.processor.pre import get_prompt
from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation


def make(vector_of, size=384):
    """A cache as GPTCache's README builds it."""
    folder = tempfile.mkdtemp()
    manager = get_data_manager(
        CacheBase("sqlite", sql_url=f"sqlite:///{folder}/s.db"),
        VectorBase("faiss", dimension=size, index_path=f"{folder}/f.index"),
        max_size=10_000_000,
    )
    cache = Cache()
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=vector_of,
        data_manager=manager,
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(log_time_func=None),
    )
    return cache, manager


def quality(folder):
    """Streams of requests: hits and answers of another label."""
    data = np.load(f"{folder}/in.npz")
    hits = wrong = asked = 0
    for order in data["orders"][:2]:
        cache, _ = make(lambda text, **_: data["vectors"][int(text)])
        for at in order:
            asked += 1
            found = get(str(at), cache_obj=cache)
            if found is None:
                put(str(at), str(data["labels"][at]), cache_obj=cache)
            else:
                hits += 1
                wrong += int(found) != int(data["labels"][at])
    return {"hits": hits, "wrong": wrong, "asked": asked}


def speed(size):
    """Bulk import and lookups that hit."""
    vectors = np.random.default_rng(0).standard_normal((size, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cache, manager = make(lambda text, **_: vectors[int(text)])
    began = time.thread_time()
    for start in range(0, size, 1_000):
        part = range(start, min(start + 1_000, size))
        manager.import_data(
            [str(i) for i in part], [f"a{i}" for i in part], list(vectors[part]), [None] * len(part)
        )
    seconds = time.thread_time() - began
    taken = []
    for i in np.random.default_rng(1).integers(0, size, 200):
        began = time.thread_time()
        get(str(i), cache_obj=cache)
        taken.append(1e3 * (time.thread_time() - began))
    return {
        "bulk_per_cpu_second": round(size / seconds),
        "lookup_p50_ms": round(float(np.median(taken)), 3),
    }


if __name__ == "__main__":
    print(json.dumps(quality(sys.argv[2]) if sys.argv[1] == "quality" else speed(int(sys.argv[2]))))
