"""Fit how much words, meaning and uses count when tools are ranked, before anything was learned.

Run:     python -m tests.benchmarks.fit_tool_prior --data dir [--vectors file]
Data:    Halves that are never judged: MetaTool's tools with an even number in the order of their
         names, and their queries; BFCL's cases with an even number; the build half of the judge's
         tool sets. MetaTool's are ranked three times: cold, and after 0 to 10 uses of each tool.
Fit:     A conditional logit with a ridge and no negative weight; each source counts alike. Then the
         probability that a score means, by logistic regression on the cold requests, those that
         need no tool included.
Output:  ``langchain_tokenopt/tools/prior.json``: weights by name, no text of any data set.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

import langchain_tokenopt.tools
from langchain_tokenopt.embeddings import LocalEmbeddings, foreign_scripts
from langchain_tokenopt.tools.fusion import shares_of
from langchain_tokenopt.tools.learned_tools import LearnedTools
from langchain_tokenopt.tools.ranking import ToolRanking
from langchain_tokenopt.tools.tool_reading import ToolCard, read_tool

RIDGE = 1e-3
QUERIES = 12
"""Of each MetaTool tool."""
MOST_USES = 10
SETS = ("simple_python", "multiple", "parallel_multiple")


class Recorded(LocalEmbeddings):
    """The local embedder, which embeds each text once; *file* keeps vectors between runs.

    It is the local one to whoever asks, so it has no time limit, and no request falls back to words
    because the machine is busy.
    """

    def __init__(self, file: Path | None) -> None:
        super().__init__()
        self._file = file
        self._known: dict[str, np.ndarray] = {}
        if file is not None and file.exists():
            with np.load(file) as kept:
                texts = json.loads(str(kept["texts"]))
                self._known = dict(zip(texts, kept["vectors"], strict=True))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        found = super().embed_documents(missing) if missing else []
        self._known.update(zip(missing, np.array(found, np.float16), strict=True))
        return [self._known[text].tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def save(self) -> None:
        if self._file is not None:
            vectors = np.stack([*self._known.values()])
            np.savez(self._file, texts=np.array(json.dumps([*self._known])), vectors=vectors)


@dataclass
class Problem:
    """One request: the evidence for each tool, and the tools that are needed."""

    source: str
    query: str
    fusion: str
    """``words`` also where the embedder does not read the request."""
    features: np.ndarray
    scores: np.ndarray
    gold: list[list[int]]


def metatool(data: Path, half: int) -> tuple[list[ToolCard], dict[int, list[str]]]:
    """Return the cards of all tools, and the queries of every other one, in a fixed order."""
    described = json.loads((data / "metatool_plugin_des.json").read_text(encoding="utf-8"))
    names = sorted(described)
    cards = [read_tool({"name": n, "description": described[n], "parameters": {}}) for n in names]
    found: dict[str, list[str]] = {}
    with gzip.open(data / "metatool_single_dev.tsv.gz", "rt", encoding="utf-8") as lines:
        for line in list(lines)[1:]:
            query, tool = line.rstrip("\n").split("\t")
            found.setdefault(tool, []).append(query)
    queries = {}
    for at, name in enumerate(names):
        if at % 2 == half and name in found:
            rows = [*dict.fromkeys(found[name])]
            queries[at] = random.Random(name).sample(rows, len(rows))
    return [card for card in cards if card is not None], queries


def bfcl(data: Path, half: int) -> tuple[list[ToolCard], dict[str, list[tuple[str, list[int]]]]]:
    """Return the pool of all functions, and every other case of each set."""
    pool: dict[str, int] = {}
    cases: dict[str, list[tuple[str, list[int]]]] = {}
    for name in SETS:
        answers = _lines(data / f"BFCL_v4_{name}_answers.jsonl")
        truth = {row["id"]: row["ground_truth"] for row in answers}
        for at, row in enumerate(_lines(data / f"BFCL_v4_{name}.jsonl")):
            keys = {f["name"]: json.dumps(f, sort_keys=True) for f in row["function"]}
            for key in keys.values():
                pool.setdefault(key, len(pool))
            gold = sorted({pool[keys[called]] for call in truth[row["id"]] for called in call})
            if at % 2 == half:
                cases.setdefault(name, []).append((row["question"][0][-1]["content"], gold))
    cards = [read_tool(json.loads(key)) for key in pool]
    return [card for card in cards if card is not None], cases


def judged_sets(path: Path) -> Iterator[tuple[list[ToolCard], list[tuple[str, list[list[int]]]]]]:
    """Yield the cards of each set of the judge's build half, and its requests."""
    sets: dict[str, tuple[list[ToolCard], list[Any]]] = {}
    for row in _lines(path):
        if "tools" in row:
            named = [tool for tool in row["tools"] if "name" in tool]
            cards = [
                read_tool(
                    {"name": t["name"], "description": t["text"], "parameters": t["parameters"]}
                )
                for t in named
            ]
            sets[row["set"]] = [card for card in cards if card is not None], []
        elif "id" in row:
            cards, requests = sets[row["set"]]
            at = {card.name: place for place, card in enumerate(cards)}
            needs = [[need] if isinstance(need, str) else need for need in row["gold"]]
            before = [said for who, said in row.get("before", ()) if who == "user"]
            requests.append(
                ("\n".join([*before, row["query"]]), [[at[n] for n in need] for need in needs])
            )
    yield from sets.values()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def problems(data: Path, judge: Path, embedder: LocalEmbeddings | None) -> list[Problem]:
    """Return all requests that weights are fitted on."""
    found = []
    ranking = ToolRanking(embedder)
    cards, cases = bfcl(data, 0)
    for name, rows in cases.items():
        for query, gold in rows:
            found.append(_problem(f"bfcl {name}", ranking, cards, query, [[g] for g in gold]))
    for cards, requests in judged_sets(judge):
        found += [_problem("judge", ranking, cards, query, gold) for query, gold in requests]
    cards, queries = metatool(data, 0)
    even = [*queries]
    pool = [cards[at] for at in even]
    for place, at in enumerate(even):
        for query in queries[at][:QUERIES]:
            found.append(_problem("metatool", ranking, pool, query, [[place]]))
    for seed in range(2):
        learned = LearnedTools()
        ranking = ToolRanking(embedder, learned)
        chance = random.Random(seed)
        for at in even:
            rest = queries[at][QUERIES:]
            for query in chance.sample(rest, min(len(rest), chance.randint(0, MOST_USES))):
                ranking.learn(query, pool, [cards[at].name], "fit")
        for place, at in enumerate(even):
            for query in queries[at][seed:QUERIES:2]:
                found.append(_problem("metatool used", ranking, pool, query, [[place]], "fit"))
    return found if embedder is None else _with_meaning(found, embedder)


def _with_meaning(rows: Sequence[Problem], embedder: LocalEmbeddings) -> list[Problem]:
    """Return the requests that the embedder reads.

    Raises:
        RuntimeError: If one of them was compared by words alone.
    """
    read = [r for r in rows if not foreign_scripts(r.query) or embedder.reads(r.query[:300])]
    for row in read:
        if row.fusion != "meaning":
            raise RuntimeError(f"The embedder reads it, but it was left to words: {row.query!r}")
    print(f"left out, in scripts that the embedder does not read: {len(rows) - len(read)}")
    return read


def _problem(
    source: str,
    ranking: ToolRanking,
    cards: Sequence[ToolCard],
    query: str,
    gold: list[list[int]],
    namespace: str = "",
) -> Problem:
    evidence = ranking.rank(query, cards, namespace)[0].evidence
    return Problem(source, query, evidence.fusion.name, evidence.features, evidence.scores, gold)


def fit_weights(rows: Sequence[Problem], size: int) -> np.ndarray:
    """Fit the conditional logit; where one of several would do, they share the chance."""
    rows = [row for row in rows if row.gold]
    kinds = [row.source.partition(" ")[0] for row in rows]
    share = [1.0 / kinds.count(kind) for kind in kinds]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = RIDGE * float(weights @ weights), 2 * RIDGE * weights
        for row, part in zip(rows, share, strict=True):
            chances = shares_of(row.features @ weights)
            for needs in row.gold:
                held = chances[needs].sum() + 1e-12
                total -= part / len(row.gold) * np.log(held)
                wanted = (chances[needs] / held) @ row.features[needs]
                gradient = gradient - part / len(row.gold) * (wanted - chances @ row.features)
        return total, gradient

    start = np.full(size, 0.5)
    fitted = minimize(
        loss, start, jac=True, bounds=[(0, None)] * size, method="L-BFGS-B", options={"maxiter": 60}
    )
    return np.asarray(fitted.x)


def fit_probabilities(rows: Sequence[Problem], weights: np.ndarray) -> np.ndarray:
    """Fit intercept, weight of the score and of its logarithmic share, none of them negative."""
    xs, ys, ws = [], [], []
    cold = [row for row in rows if row.source != "metatool used"]
    kinds = [row.source.partition(" ")[0] for row in cold]
    for row, kind in zip(cold, kinds, strict=True):
        scores = row.features @ weights
        needed = np.zeros(len(scores))
        needed[[at for needs in row.gold for at in needs]] = 1.0
        xs.append(
            np.stack([np.ones_like(scores), scores, np.log(shares_of(scores) + 1e-12)], axis=1)
        )
        ys.append(needed)
        ws.append(np.full(len(scores), 1.0 / kinds.count(kind)))
    x, y, w = np.vstack(xs), np.concatenate(ys), np.concatenate(ws)

    def loss(c: np.ndarray) -> tuple[float, np.ndarray]:
        p = 1 / (1 + np.exp(-np.clip(x @ c, -60, 60)))
        value = -(w * (y * np.log(p + 1e-12) + (1 - y) * np.log(1 - p + 1e-12))).sum()
        return float(value), x.T @ (w * (p - y))

    bounds = [(None, None), (0.02, None), (0.0, None)]
    return np.asarray(
        minimize(loss, np.array([0.0, 0.1, 1.0]), jac=True, bounds=bounds, method="L-BFGS-B").x
    )


def main() -> None:
    """Fit, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judge", type=Path, default=Path("tests/judge/tools_build.jsonl"))
    parser.add_argument("--vectors", type=Path)
    args = parser.parse_args()
    embedder = Recorded(args.vectors)
    content: dict[str, Any] = {"about": "Fitted by tests/benchmarks/fit_tool_prior.py; see there."}
    for name, using in (("words", None), ("meaning", embedder)):
        from langchain_tokenopt.tools.fusion import fusion_for

        features = fusion_for(meaning=using is not None).features
        rows = problems(args.data, args.judge, using)
        embedder.save()
        weights = fit_weights(rows, len(features))
        calibration = fit_probabilities(rows, weights)
        content[name] = {
            "rows": {
                source: sum(r.source == source for r in rows)
                for source in sorted({r.source for r in rows})
            },
            "weights": {f: round(float(w), 3) for f, w in zip(features, weights, strict=True)},
            "calibration": {
                k: round(float(c), 4)
                for k, c in zip(("intercept", "score", "share"), calibration, strict=True)
            },
        }
        print(json.dumps(content[name], indent=1))
    out = Path(langchain_tokenopt.tools.__file__).with_name("prior.json")
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
