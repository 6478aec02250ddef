"""Fit what the semantic cache believes before it has evidence of its own.

Run:     python -m tests.benchmarks.fit_cache_prior --data dir [--vectors dir]
Data:    The halves on which ``bench_cache`` fits, never those on which it judges: QQP by connected
         component of questions, banking77's train file with every other intent.
Fit:     Logistic regression with all products of features and a ridge; both data sets count alike.
Output:  ``langchain_tokenopt/cache/prior.json``: weights by name, no text of any data set.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import langchain_tokenopt.cache
from langchain_tokenopt.cache.features import FEATURES, NEIGHBOURS, Neighbour, features_of
from langchain_tokenopt.cache.guards import DOUBTS, profile_of, vetoes_between
from langchain_tokenopt.cache.probability import design_matrix, term_names
from tests.benchmarks.bench_cache import pair_features
from tests.benchmarks.cache_sets import Precomputed, banking, halves, pairs

RIDGE = 3.0
REQUESTS = 10_000.0
"""What each data set counts for."""
THRESHOLDS = (0.85, 0.9, 0.97)
"""Cosines from which the streams are served: caches that hold little, more, and nearly all."""


def stream_features(
    texts: Sequence[str], labels: Sequence[str], vectors: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ask *texts* one by one; return features and truth of each nearest stored answer."""
    held: list[int] = []
    features, right = [], []
    cosines = vectors @ vectors.T
    numbers = {label: number for number, label in enumerate(sorted(set(labels)))}
    answers = [numbers[label] for label in labels]

    def nearest(to: int) -> list[Neighbour]:
        row = cosines[to][held]
        order = np.argsort(-row)[: NEIGHBOURS + 1]
        found = [Neighbour(held[i], float(row[i]), answers[held[i]]) for i in order]
        return [n for n in found if n.entry != to]

    for at, text in enumerate(texts):
        near = nearest(at)[:NEIGHBOURS] if held else []
        if near and near[0].cosine >= 0.5:
            stored = near[0].entry
            one, other = profile_of(texts[stored]), profile_of(text)
            if not vetoes_between(one, other):
                around = nearest(stored)[:NEIGHBOURS]
                features.append(features_of(near, around, other, one, DOUBTS))
                right.append(labels[stored] == labels[at])
                if near[0].cosine >= threshold:
                    continue
        held.append(at)
    return np.array(features), np.array(right)


def banking_features(data: Path, embedder: Precomputed) -> tuple[np.ndarray, np.ndarray]:
    """Streams over every other intent of the train file."""
    train = banking(data, "train")
    embedder.read("banking", [t for t, _ in train + banking(data, "test")])
    judged = set(sorted({label for _, label in train})[1::2])
    pool = [row for row in train if row[1] not in judged]
    parts = []
    for seed in range(2):
        for threshold in THRESHOLDS:
            order = random.Random(seed).sample(pool, len(pool))
            texts, labels = [t for t, _ in order], [label for _, label in order]
            vectors = np.array([embedder.of(text) for text in texts])
            parts.append(stream_features(texts, labels, vectors, threshold))
    return np.vstack([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def ridge(sets: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Fit weights to several sets, each of which counts for :data:`REQUESTS` rows."""
    x = np.vstack([design_matrix(features) for features, _ in sets])
    y = np.concatenate([right for _, right in sets])
    rows = np.concatenate([np.full(len(right), REQUESTS / len(right)) for _, right in sets])
    pull = np.full(x.shape[1], RIDGE)
    pull[-1] = 1e-3
    weights = np.zeros(x.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (rows * (y - p)) - pull * weights
        hessian = (x * (rows * p * (1 - p))[:, None]).T @ x + np.diag(pull)
        step = np.linalg.solve(hessian, gradient)
        weights = weights + step
        if abs(step).max() < 1e-5:
            break
    return weights


def main() -> None:
    """Fit, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    embedder = Precomputed(args.vectors)
    rows = pairs(args.data, "qqp_dev.tsv.gz")
    embedder.read("qqp", [t for row in rows for t in (row["text_a"], row["text_b"])])
    fitted = np.flatnonzero(halves(rows, lambda _: "qqp") == 0)
    sets = [pair_features(rows, fitted, embedder), banking_features(args.data, embedder)]
    weights = ridge(sets)
    content = {
        "about": "Fitted by tests/benchmarks/fit_cache_prior.py; see there.",
        "rows": [len(right) for _, right in sets],
        "features": list(FEATURES),
        "weights": {
            name: round(float(w), 3) for name, w in zip(term_names(), weights, strict=True)
        },
    }
    path = Path(langchain_tokenopt.cache.__file__).with_name("prior.json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(path, content["rows"])


if __name__ == "__main__":
    main()
