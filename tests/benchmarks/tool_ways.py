"""Ways to find tools, side by side: plain BM25, plain MiniLM, their equal-weight fusion, ours."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokenopt import optimize
from tests.benchmarks.tool_data import Asked, Field, key_of, name_of
from tests.judge.tools import Bm25, Remembered, indexed
from tests.judge.tools_model import ScriptedToolModel

__all__ = ["Remembered", "plain_ways", "recall", "selector_way", "spread", "taught", "wilson"]

DEPTHS = (1, 5, 10)
RRF = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)."""
Way = Callable[[str], list[str]]
"""From a query to keys of tools, best first."""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return (0.0, 1.0)
    z, p = 1.96, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """A share with its sample size and interval."""
    low, high = wilson(sum(hits), len(hits))
    return {
        "value": round(sum(hits) / max(1, len(hits)), 4),
        "n": len(hits),
        "interval": [round(low, 4), round(high, 4)],
    }


def recall(way: Way, queries: Sequence[Asked], names: Mapping[str, str]) -> dict[str, Any]:
    """Recall of the needed tools at each depth; ``same_name``: a tool of equal name counts, too."""
    orders = [(asked, way(asked.text)) for asked in queries]
    found: dict[str, Any] = {}
    for k in DEPTHS:
        found[f"@{k}"] = share([set(a.gold) <= set(order[:k]) for a, order in orders])
    for k in DEPTHS if len(set(names.values())) < len(names) else ():
        hits = [
            {names[key] for key in a.gold} <= {names[key] for key in order[:k]}
            for a, order in orders
        ]
        found[f"same_name@{k}"] = share(hits)
    return found


def plain_ways(tools: Sequence[dict[str, Any]], embed: Embeddings) -> dict[str, Way]:
    """BM25, MiniLM over "name: description", and reciprocal rank fusion of the two."""
    keys = [key_of(tool) for tool in tools]
    words = Bm25([indexed(tool) for tool in tools])
    said = [f"{name_of(tool)}: {tool['function']['description']}" for tool in tools]
    vectors = np.array(embed.embed_documents(said))

    def by_words(query: str) -> np.ndarray:
        return np.argsort(-np.array(words.scores(query)), kind="stable")

    def by_meaning(query: str) -> np.ndarray:
        return np.argsort(-(vectors @ np.array(embed.embed_query(query))), kind="stable")

    def fused(query: str) -> np.ndarray:
        scores = np.zeros(len(keys))
        for order in (by_words(query), by_meaning(query)):
            scores[order] += 1 / (RRF + np.arange(1, len(keys) + 1))
        return np.argsort(-scores, kind="stable")

    def as_way(order: Callable[[str], np.ndarray]) -> Way:
        return lambda query: [keys[place] for place in order(query)[: max(DEPTHS)]]

    return {"BM25": as_way(by_words), "MiniLM": as_way(by_meaning), "RRF": as_way(fused)}


def selector_way(selector: Any, tools: Sequence[dict[str, Any]]) -> Way:
    """The order of all tools, by ``explain``."""
    keys = [key_of(tool) for tool in tools]
    names = [name_of(tool) for tool in tools]

    def way(query: str) -> list[str]:
        ranked = selector.explain(query, tools)[: max(DEPTHS)]
        assert all(names[each.position] == each.card.name for each in ranked)
        return [keys[each.position] for each in ranked]

    return way


def taught(selector: Any, field: Field, uses: int, have: int = 0) -> None:
    """Let an application really use each tool for queries number *have* to *uses* of its past."""
    model = ScriptedToolModel(script=["Done."])
    bound = optimize(model, selector).bind_tools(field.tools)
    names = {key_of(tool): name_of(tool) for tool in field.tools}
    for turn in range(have, uses):
        for key, past in field.uses.items():
            if turn < len(past):
                model.calls.clear()
                bound.invoke(used(past[turn], names[key]))


def used(query: str, name: str) -> list[BaseMessage]:
    """A question, the call it led to, and the result."""
    called = AIMessage("", tool_calls=[{"name": name, "args": {}, "id": "use"}])
    return [HumanMessage(query), called, ToolMessage("ok", tool_call_id="use")]


def learned_vectors(field: Field, embed: Embeddings, uses: int) -> Way:
    """The published rival: 0.3 x the description + 0.7 x the mean of past queries (Tool2Vec)."""
    keys = [key_of(tool) for tool in field.tools]
    said = [f"{name_of(tool)}: {tool['function']['description']}" for tool in field.tools]
    vectors = np.array(embed.embed_documents(said))
    for place, key in enumerate(keys):
        past = field.uses.get(key, [])[:uses]
        if past:
            mean = np.mean(embed.embed_documents(past), axis=0)
            vectors[place] = 0.3 * vectors[place] + 0.7 * mean / np.linalg.norm(mean)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def way(query: str) -> list[str]:
        order = np.argsort(-(vectors @ np.array(embed.embed_query(query))), kind="stable")
        return [keys[place] for place in order[: max(DEPTHS)]]

    return way


def spread(values: Sequence[float], digits: int = 2) -> dict[str, Any]:
    """Median, 95th percentile and sample size."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), digits),
        "p95": round(ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)], digits),
        "n": len(ordered),
    }
