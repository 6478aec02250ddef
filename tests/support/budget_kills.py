"""A budgeted graph in processes that are killed at every step, each going on where the last stood.

``python -m tests.support.budget_kills URL STORE CHECKPOINTS MODE`` waits for lines on its input.
For each it forks a process that runs the graph from its last checkpoint; it tells the process's
number, and in the end its exit status. A line says where that process is to end without a word:
``market before`` its model call; ``after`` it; when what the node returned has been ``written``;
when the step has been ``saved``; ``nobody`` for nowhere. Who is to be killed in the middle of a
call is killed by the server that it has called. (A template that forks spares each of them the
seconds that imports take.)
"""

from __future__ import annotations

import ast
import asyncio
import operator
import os
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.graph import BudgetState, budget_graph

NODES = ("market", "news", "debate", "judge")
PHASES = ("before", "in flight", "after", "written", "saved")
PLAN = BudgetPlan(
    total_tokens=20_000, name="killed", agents={name: {"tokens": 4_000} for name in NODES}
)


class State(TypedDict, total=False):
    """What the nodes have said."""

    log: Annotated[list[str], operator.add]


class Mirrored(State, total=False):
    """The same with the account's mirror."""

    budget: BudgetState


class FileSaver(InMemorySaver):
    """Checkpoints that outlive the process: plain tuples and bytes, written as Python literals.

    Args:
        path: The file.
        last: Ends the process behind a node: its name, and ``"written"`` or ``"saved"``.
    """

    def __init__(self, path: str, last: tuple[str, str]) -> None:
        super().__init__()
        self._path = Path(path)
        self._last = last
        self._writing = threading.Lock()  # LangGraph saves from several threads
        if self._path.exists():
            storage, writes, blobs = ast.literal_eval(self._path.read_text())
            for thread, spaces in storage.items():
                for space, kept in spaces.items():
                    self.storage[thread][space].update(kept)
            self.writes.update(writes)
            self.blobs.update(blobs)

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """Keep a checkpoint, and write all of them."""
        with self._writing:
            made = super().put(config, checkpoint, metadata, new_versions)
            self._write()
        if self._last[1] == "saved" and self._last[0] in checkpoint["versions_seen"]:
            os._exit(9)
        return made

    def put_writes(self, config: Any, writes: Any, *args: Any, **kwargs: Any) -> None:
        """Keep what a task has written, and write everything."""
        with self._writing:
            super().put_writes(config, writes, *args, **kwargs)
            self._write()
        if self._last[1] == "written" and ("log", [f"{self._last[0]} has spoken"]) in writes:
            os._exit(9)

    def _write(self) -> None:
        parts = self.storage, self.writes, self.blobs
        partial = self._path.with_suffix(".part")
        partial.write_text(repr(_plain(parts)))
        partial.replace(self._path)


def _plain(value: Any) -> Any:
    if isinstance(value, defaultdict | dict):
        return {key: _plain(inner) for key, inner in list(value.items())}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def build(url: str, mode: str, last: tuple[str, str]) -> Any:
    """Return the graph; its models talk to *url*."""
    model = ChatOpenAI(
        model="gpt-4.1-mini",
        api_key="test",
        base_url=f"{url}/v1",
        max_retries=0,
        streaming=mode == "stream",
        stream_usage=True,
    )
    staged = optimize(model, PLAN)

    def node(name: str) -> Any:
        def end_at(phase: str) -> None:
            if last == (name, phase):
                os._exit(9)

        def ask(state: State) -> State:
            end_at("before")
            staged.invoke(f"You are {name}. Go on.")
            end_at("after")
            return {"log": [f"{name} has spoken"]}

        async def aask(state: State) -> State:
            end_at("before")
            await staged.ainvoke(f"You are {name}. Go on.")
            end_at("after")
            return {"log": [f"{name} has spoken"]}

        return aask if mode == "async" else ask

    graph: Any = StateGraph(Mirrored if mode == "mirror" else State)
    previous = START
    for name in NODES:
        graph.add_node(name, node(name))
        graph.add_edge(previous, name)
        previous = name
    graph.add_edge(previous, END)
    return budget_graph(graph, PLAN)


def run(url: str, store: str, checkpoints: str, mode: str, last: tuple[str, str]) -> None:
    """Run the graph from where it stands."""
    start: Any = None if Path(checkpoints).exists() else {}
    graph = build(url, mode, last).compile(checkpointer=FileSaver(checkpoints, last))
    thread: Any = {"configurable": {"thread_id": "t"}}
    with PLAN.run(thread_id="t", path=store):
        if mode == "async":
            asyncio.run(graph.ainvoke(start, thread, durability="sync"))
        else:
            graph.invoke(start, thread, durability="sync")


def main(url: str, store: str, checkpoints: str, mode: str) -> None:
    """Fork a process for every line of input."""
    counter_for("gpt-4.1-mini").count("Loaded once, here.")
    PLAN.run(thread_id="t", path=store).account.close()
    build(url, mode, ("", "")).compile()
    for line in sys.stdin:
        name, _, phase = line.strip().partition(" ")
        child = os.fork()
        if child == 0:
            try:
                run(url, store, checkpoints, mode, (name, phase))
                os._exit(0)
            finally:
                os._exit(1)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
