"""A compiled graph whose models go through stages, of a class of its own that is the graph's own.

A graph hands its models to nobody: they are made in nodes, tools, other packages. So the copy
opens a :class:`stage_all` block around whatever runs it, and that is ``stream`` and ``astream``:
LangGraph itself calls one of them for every other way to run a graph. All else is the graph's own,
state and subgraphs, interrupts and checkpoints included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import wraps
from typing import Any, Final

from langgraph.pregel import Pregel

from langchain_tokenopt.scope import stage_all
from langchain_tokenopt.whole.explanation import Explanation
from langchain_tokenopt.whole.graph_runs import GraphRuns
from langchain_tokenopt.whole.path import Path

__all__ = ["is_optimized_graph", "optimized_graph"]

_PATH: Final = "_tokenopt_path"


def is_optimized_graph(graph: object) -> bool:
    """Whether a graph, or what it was copied from, is of :func:`optimized_graph`."""
    return hasattr(type(graph), _PATH)


def optimized_graph(graph: Pregel[Any, Any, Any, Any], path: Path, runs: GraphRuns | None) -> Any:
    """Return a copy of *graph* around whose runs stand the stages of *path*.

    Its copies (``with_config``) are of its class, and so have the same path.
    """
    base: Any = type(graph)
    everything = stage_all(*path.stages)

    @wraps(base.stream)
    def stream(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:
        if runs is None:
            yield from base.stream(self, input, config, **kwargs)
            return
        with runs.around(self, input, config) as config:
            yield from base.stream(self, input, config, **kwargs)

    @wraps(base.astream)
    async def astream(
        self: Any, input: Any, config: Any = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        if runs is None:
            async for part in base.astream(self, input, config, **kwargs):
                yield part
            return
        async with runs.aaround(self, input, config) as config:
            async for part in base.astream(self, input, config, **kwargs):
                yield part

    def explain(self: Any) -> Explanation:
        """Print what stands around this graph, and why; return it."""
        explanation = Explanation(path.level, path.parts, tuple(everything.uncovered()))
        print(explanation)  # noqa: T201  that is what it is for
        return explanation

    body = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "stream": everything(stream),
        "astream": everything(astream),
        "explain": explain,
        _PATH: path,
    }
    made = object.__new__(type(base)(base.__name__, (base,), body))
    made.__dict__.update(graph.__dict__)
    return made
