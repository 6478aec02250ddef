"""The shape of a graph, as far as a plan is concerned: which agents it has, and who reads whom.

Read from what ``get_graph()`` draws, which LangGraph publishes. An agent is a node, under the name
by which ``budget_graph`` lets it pay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokenopt.budget.model_callers import reaches, reaches_model

__all__ = ["AgentShape", "shape_of"]

_START, _END = "__start__", "__end__"
_TURNS: Final = 3
"""How often an agent is taken to call that can come again: nobody knows."""


@dataclass(frozen=True, slots=True)
class AgentShape:
    """Where one agent stands in a graph."""

    name: str
    calls: int
    """How often it is likely to call a model."""
    reads: frozenset[str]
    """Agents that come before it: their answers may be in its prompt."""
    comes_again: bool
    """It stands in a loop."""
    is_last: bool
    """The graph can end with it."""
    is_sure: bool
    """There is no way through the graph without it."""
    is_sent: bool = False
    """It is called as often, side by side, as a branch sends to it: nobody knows how often."""
    calls_model: bool = True
    """It visibly reaches a model, or was named as an agent; else nobody knows."""


def shape_of(graph: Any) -> dict[str, AgentShape]:
    """Return the agents of a graph, in the order of its nodes.

    Nodes that only run tools are left out: what their tools ask is paid from what nobody claims.

    Raises:
        TypeError: It is no graph of LangGraph's.
        ValueError: LangGraph refuses it, or it has no nodes.
    """
    if not hasattr(graph, "compile") and not hasattr(graph, "get_graph"):
        raise TypeError(f"a StateGraph is needed, compiled or not; got {type(graph).__name__}.")
    compiled = copy.copy(graph).compile() if hasattr(graph, "compile") else graph
    drawn = compiled.get_graph()
    ends: dict[str, set[str]] = {name: set() for name in drawn.nodes}
    for edge in drawn.edges:
        ends[edge.source].add(edge.target)
    config = getattr(compiled, "config", None) or {}
    whole = (config.get("metadata") or {}).get("lc_agent_name")
    payers = {
        name: _payer(name, node, whole)
        for name, node in drawn.nodes.items()
        if name not in (_START, _END) and not _only_runs_tools(node.data)
    }
    if not payers:
        raise ValueError("the graph has no nodes that could ask a model: add_node() first.")
    below = {name: _reached(ends[name], ends) for name in ends}
    sent = _sent_to(compiled, ends)
    shapes: dict[str, AgentShape] = {}
    for name, agent in payers.items():
        above = {payers[other] for other in payers if name in below[other]} - {agent}
        again = name in below[name]
        shape = AgentShape(
            agent,
            (_TURNS if again else 1) * _calls_in(drawn.nodes[name].data),
            frozenset(above),
            again,
            _END in ends[name],
            _END not in _reached([_START], {n: to - {name} for n, to in ends.items() if n != name}),
            name in sent,
            agent != name or reaches_model(drawn.nodes[name].data),
        )
        shapes[agent] = shape if agent not in shapes else _both(shapes[agent], shape)
    return shapes


def _sent_to(compiled: Any, ends: Mapping[str, set[str]]) -> set[str]:
    """Return the nodes that a branch, or a node, visibly sends to (``Send``)."""
    from langgraph.types import Send

    builder, found = getattr(compiled, "builder", None), set[str]()
    branches = getattr(builder, "branches", {}).items()
    for source, path in [(at, spec) for at, named in branches for spec in named.values()]:
        if reaches(getattr(path, "path", None), Send):
            found |= {*(getattr(path, "ends", None) or {}).values()} or ends.get(source, set())
    for name, node in getattr(builder, "nodes", {}).items():
        if getattr(node, "ends", ()) and reaches(node.runnable, Send):
            found |= ends.get(name, set())
    return found - {_END}


def _payer(name: str, node: Any, whole: str | None) -> str:
    """Return who pays for a node, by what is nearest to it."""
    function = getattr(node.data, "func", None) or getattr(node.data, "afunc", None)
    watch = getattr(function, "__budgeted__", (None, None))[1] or getattr(node.data, "watch", None)
    config = getattr(node.data, "config", None) or {}
    named = (config.get("metadata") or {}) if isinstance(config, Mapping) else {}
    agent = getattr(watch, "agent", None) or named.get("tokenopt_agent")
    return str(agent or (node.metadata or {}).get("tokenopt_agent") or whole or name)


def _only_runs_tools(runnable: Any) -> bool:
    return any(kind.__name__ == "ToolNode" for kind in type(runnable).__mro__)


def _calls_in(runnable: Any) -> int:
    """Return how many calls one execution of a node makes: a graph inside has agents of its own."""
    if not (hasattr(runnable, "get_graph") and hasattr(runnable, "builder")):
        return 1
    shapes = shape_of(runnable).values()
    return sum(s.calls for s in shapes if s.calls_model) or sum(s.calls for s in shapes)


def _both(one: AgentShape, other: AgentShape) -> AgentShape:
    """Return the shape of an agent that has several nodes."""
    return AgentShape(
        one.name,
        one.calls + other.calls,
        one.reads | other.reads,
        one.comes_again or other.comes_again,
        one.is_last or other.is_last,
        one.is_sure or other.is_sure,
        one.is_sent or other.is_sent,
        one.calls_model or other.calls_model,
    )


def _reached(starts: Iterable[str], ends: Mapping[str, set[str]]) -> set[str]:
    found, waiting = set(starts), list(starts)
    while waiting:
        for name in ends.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found
