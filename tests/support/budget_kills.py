"""A budgeted graph in a process of its own, to be killed at any step and started again.

``python -m tests.support.budget_kills URL STORE CHECKPOINTS KILL_AT``: asks the model server at URL
once in each of four nodes, and ends the process without a word inside the node number KILL_AT,
after its model call; -1 for none. Run again, it goes on from the checkpoint.
"""

from __future__ import annotations

import ast
import operator
import os
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.graph import budget_graph
from langchain_tokenopt.model import optimize

NODES = ("market", "news", "debate", "judge")
PLAN = BudgetPlan(
    total_tokens=20_000, name="killed", agents={name: {"tokens": 4_000} for name in NODES}
)


class State(TypedDict, total=False):
    """What the nodes have said."""

    log: Annotated[list[str], operator.add]


class FileSaver(InMemorySaver):
    """Checkpoints that outlive the process: plain tuples and bytes, written as Python literals."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)
        self._writing = threading.Lock()  # LangGraph saves from several threads
        if self._path.exists():
            storage, writes, blobs = ast.literal_eval(self._path.read_text())
            for thread, spaces in storage.items():
                for space, kept in spaces.items():
                    self.storage[thread][space].update(kept)
            self.writes.update(writes)
            self.blobs.update(blobs)

    def put(self, *args: Any, **kwargs: Any) -> Any:
        """Keep a checkpoint, and write all of them."""
        with self._writing:
            made = super().put(*args, **kwargs)
            self._write()
        return made

    def put_writes(self, *args: Any, **kwargs: Any) -> None:
        """Keep what a task has written, and write everything."""
        with self._writing:
            super().put_writes(*args, **kwargs)
            self._write()

    def _write(self) -> None:
        parts = self.storage, self.writes, self.blobs
        partial = self._path.with_suffix(".part")
        partial.write_text(repr(_plain(parts)))
        partial.replace(self._path)


def _plain(value: Any) -> Any:
    if isinstance(value, defaultdict | dict):
        return {key: _plain(inner) for key, inner in list(value.items())}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def build(url: str, kill_at: int) -> Any:
    """Return the graph; its models talk to *url*."""
    model = ChatOpenAI(model="gpt-4.1-mini", api_key="test", base_url=f"{url}/v1", max_retries=0)
    staged = optimize(model, PLAN)

    def node(number: int) -> Any:
        def ask(state: State) -> State:
            answer = staged.invoke(f"You are {NODES[number]}. Go on.").text
            if number == kill_at:
                os._exit(9)
            return {"log": [answer]}

        return ask

    graph: Any = StateGraph(State)
    previous = START
    for number, name in enumerate(NODES):
        graph.add_node(name, node(number))
        graph.add_edge(previous, name)
        previous = name
    return budget_graph(graph, PLAN)


def main(url: str, store: str, done: str, kill_at: str) -> None:
    """Run the graph from where it stood."""
    start: Any = None if Path(done).exists() else {}
    graph = build(url, int(kill_at)).compile(checkpointer=FileSaver(done))
    with PLAN.run(thread_id="t", store=store):
        graph.invoke(start, {"configurable": {"thread_id": "t"}}, durability="sync")


if __name__ == "__main__":
    main(*sys.argv[1:])
