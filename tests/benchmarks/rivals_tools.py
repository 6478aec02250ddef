"""langgraph-bigtool on the errands of ``bench_tools``.

Run:     PYTHON -m tests.benchmarks.rivals_tools < errands.json
         with a Python that has requirements-rivals-tools.txt; ``bench_tools --rivals PYTHON``
         runs it.
Input:   tools, errands, queries, and the vectors of all texts, which the caller has embedded: the
         same MiniLM for everybody, and no torch here.
Output:  one JSON object on stdout: names that its store finds for each query; what errands cost.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.memory import InMemoryStore
from langgraph_bigtool import create_agent

from tests.benchmarks.tool_loop import Errand, base_tool, cost_of, model_for

LIMIT = 2
"""Tools that one retrieval adds: its default."""


class Given(Embeddings):
    """Vectors that were made beforehand."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self._vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Look each text up."""
        return [self._vectors[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Look one text up."""
        return self._vectors[text]


def main() -> None:
    """Read the errands, run them, print what came of them."""
    given = json.load(sys.stdin)
    size = len(next(iter(given["vectors"].values())))
    store = InMemoryStore(
        index={"embed": Given(given["vectors"]), "dims": size, "fields": ["description"]}
    )
    registry = {each["name"]: base_tool(**each) for each in given["tools"]}
    for name, tool in registry.items():
        store.put(("tools",), name, {"description": f"{name}: {tool.description}"})
    errands = [Errand(e["question"], tuple(e["needed"]), e["words"]) for e in given["errands"]]
    model = model_for(errands)
    agent = create_agent(model, registry, limit=LIMIT).compile(store=store)
    costs = []
    for errand in errands:
        model.calls.clear()
        messages = _run(agent, errand.question)
        costs.append(asdict(cost_of(messages, model.calls, lambda text: 0)))
        costs[-1]["tools"] = [[json.dumps(tool) for tool in each.tools] for each in model.calls]
    found = {
        query: [item.key for item in store.search(("tools",), query=query, limit=10)]
        for query in given["queries"]
    }
    json.dump({"version": version("langgraph-bigtool"), "costs": costs, "found": found}, sys.stdout)


def _run(agent: Any, question: str) -> list[Any]:
    return agent.invoke(
        {"messages": [("user", question)], "selected_tool_ids": []}, {"recursion_limit": 60}
    )["messages"]


if __name__ == "__main__":
    main()
