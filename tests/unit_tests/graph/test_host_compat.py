"""What a budget reads of LangGraph's private parts is there, and means what we take it for.

A failure says which private part has changed, and what of a budget breaks with it.
"""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.config import ensure_config
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel._utils import find_subgraph_pregel
from langgraph.types import CachePolicy, RetryPolicy

from langchain_tokenopt.graph import host_compat


class State(TypedDict, total=False):
    """A plain state."""

    log: Annotated[list[str], operator.add]


def leave(state: State) -> State:
    """Do nothing much."""
    return {"log": ["here"]}


async def aleave(state: State) -> State:
    """Do nothing much."""
    return {"log": ["here"]}


def chain(**nodes: Any) -> Any:
    """Return these nodes in a row, not compiled."""
    graph: Any = StateGraph(State)
    names = list(nodes)
    for name, node in nodes.items():
        graph.add_node(name, node)
    for first, second in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(first, second)
    return graph


def test_a_builder_tells_its_edges() -> None:
    """Who can come after whom: edges, joins, branches, and a node's own fields."""
    graph: Any = StateGraph(State)
    graph.add_node("a", leave, destinations=("c",), metadata={"x": 1})
    graph.add_node("b", leave, defer=True, error_handler=leave)
    graph.add_node("c", leave)
    graph.add_edge(START, "a")
    graph.add_edge(["a", "b"], "c")
    graph.add_conditional_edges("c", lambda state: "b", {"go": "b"})
    handlers = [name for name, spec in graph.nodes.items() if spec.is_error_handler]

    assert {(START, "a")} == graph.edges, "StateGraph.edges: nobody would be known to come"
    assert {(("a", "b"), "c")} == graph.waiting_edges, "StateGraph.waiting_edges: joins are missed"
    (branch,) = graph.branches["c"].values()
    assert {"go": "b"} == branch.ends, "BranchSpec.ends: decisions of branches are not understood"
    assert "b" == branch.path.invoke({}), "BranchSpec.path: branches cannot be watched"
    assert branch.path is branch._replace(ends=None).path
    assert ("c",) == tuple(graph.nodes["a"].ends), "a node's ends: jumps are not foreseen"
    assert {"x": 1} == graph.nodes["a"].metadata, "a node's metadata: it may name who pays"
    assert graph.nodes["b"].defer, "a node's defer: its agent would be finished too early"
    assert [graph.nodes["b"].error_handler_node] == handlers, "nobody pays for error handlers"


def test_nodes_are_told_their_step_and_their_graph() -> None:
    """Steps count up in a graph; an inner graph has another name for each of its invocations."""
    seen: list[tuple[str, int | None, str]] = []

    def look(name: str) -> Any:
        def node(state: State) -> None:
            metadata = ensure_config()["metadata"]
            step, where = host_compat.step_of(metadata), host_compat.enclosing_graph(metadata)
            seen.append((name, step, where))

        return node

    inner = chain(deep=look("deep"), deeper=look("deeper")).compile()
    chain(first=look("first"), inner=inner, last=look("last")).compile().invoke({})

    steps = [(name, step) for name, step, _ in seen]
    assert [("first", 1), ("deep", 1), ("deeper", 2), ("last", 3)] == steps, (
        "metadata langgraph_step: it is not known where a graph stands, so nobody finishes"
    )
    first, deep, deeper, last = (where for _, _, where in seen)
    assert "" == first == last, "metadata langgraph_checkpoint_ns: of the outermost graph"
    assert deep == deeper != "", "langgraph_checkpoint_ns: inner graphs are taken for outer ones"


def test_an_agent_has_its_name_in_its_config() -> None:
    """``create_agent(name=...)`` writes it there; a plain graph has none."""
    agents = pytest.importorskip("langchain.agents")
    from tests.support.fakes import fake_chat

    named = agents.create_agent(fake_chat(), name="judge")

    assert "judge" == host_compat.agent_name_of(named), "the agent's own account does not pay"
    assert host_compat.agent_name_of(chain(a=leave).compile()) is None


def test_graphs_inside_of_nodes_are_seen() -> None:
    """In sequences, bindings and what a lambda refers to; not where there is none."""
    graph = chain(a=leave).compile()

    def ask(state: State) -> Any:
        return graph.invoke(state)

    holders = {
        "graph": graph,
        "bound": graph.with_config(tags=["x"]),
        "sequence": graph | RunnableLambda(leave),
        "lambda": RunnableLambda(ask),
        "retried": (RunnableLambda(leave) | graph).with_retry(),
    }

    found = {name for name, held in holders.items() if host_compat.contains_graph(held)}
    assert holders.keys() == found, "subgraphs would be wrapped, and could not be looked into"
    assert not host_compat.contains_graph(RunnableLambda(leave))
    assert not host_compat.contains_graph(chain(a=leave).nodes["a"].runnable)


@pytest.mark.parametrize("node", [leave, aleave, functools.partial(leave)])
async def test_the_function_of_a_node_can_be_replaced(node: Any) -> None:
    """In LangGraph's own form, beside which a thread runs it for async graphs."""
    runnable = chain(a=node).nodes["a"].runnable
    wrapped: list[Any] = []

    def wrap(function: Any) -> Any:
        wrapped.append(function)

        @functools.wraps(getattr(function, "func", function))
        def other(state: State) -> State:
            return {"log": ["other"]}

        @functools.wraps(getattr(function, "func", function))
        async def aother(state: State) -> State:
            return other(state)

        return aother if node is aleave else other

    made = host_compat.with_functions(runnable, wrap)

    assert node is host_compat.function_of(runnable), "a node's function is not found"
    assert [node] == wrapped, "a function would be watched twice, or not at all"
    assert type(runnable) is type(made), "subgraphs in functions are no longer found"
    assert {"log": ["other"]} == await made.ainvoke({}), "async graphs call the unwatched function"
    if node is not aleave:
        assert {"log": ["other"]} == made.invoke({})
    assert {"log": ["here"]} == await runnable.ainvoke({}), "the original graph was changed"


def test_a_wrapper_is_taken_for_what_it_wraps() -> None:
    """Where LangGraph looks for graphs, and in what it draws."""
    graph = chain(a=leave).compile(name="inner")

    @functools.wraps(leave)
    def ask(state: State) -> Any:
        return graph.invoke(state)

    class Wrapper(RunnableLambda):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.mine = True

    held = [chain(a=ask).nodes["a"].runnable, RunnableLambda(ask), RunnableLambda(leave) | graph]
    for runnable in held:
        made = host_compat.looking_like(runnable, Wrapper())

        assert made.mine
        assert find_subgraph_pregel(runnable) is find_subgraph_pregel(made)
        assert type(runnable).__name__ == type(made).__name__
    assert find_subgraph_pregel(held[-1]) is graph


def test_cached_nodes_are_known() -> None:
    """By their own policy, or by the graph's default, where LangGraph has one."""
    graph: Any = StateGraph(State).add_node("a", leave, cache_policy=CachePolicy())
    graph.add_node("b", leave)

    assert host_compat.is_cached(graph, graph.nodes["a"]), "agents would be waited for in vain"
    assert not host_compat.is_cached(graph, graph.nodes["b"])
    if hasattr(graph, "set_node_defaults"):
        graph.set_node_defaults(cache_policy=CachePolicy())
        assert host_compat.is_cached(graph, graph.nodes["b"]), "StateGraph._node_defaults"


def test_a_copy_is_compiled_as_the_original_was() -> None:
    """Checkpointer, store, cache, interrupts, name and config stay; defaults are added once."""
    builder = chain(a=leave, b=leave)
    if hasattr(builder, "set_node_defaults"):
        builder.set_node_defaults(retry_policy=RetryPolicy(max_attempts=7))
    saver, cache = InMemorySaver(), InMemoryCache()
    graph = builder.compile(
        checkpointer=saver, cache=cache, interrupt_before=["b"], name="desk"
    ).with_config(tags=["x"])

    made = host_compat.compiled_like(graph, builder)

    assert made is not graph
    same = ("checkpointer", "cache", "interrupt_before_nodes", "name", "config")
    for name in same:
        assert getattr(graph, name) == getattr(made, name), f"{name} is lost in the copy"
    retries = [node.retry_policy for node in graph.nodes.values()]
    assert retries == [node.retry_policy for node in made.nodes.values()], "retries are multiplied"


def test_what_is_called_without_a_config_inherits_the_surrounding_one() -> None:
    """A model inside a function node is paid by the node's agent."""
    with host_compat.surrounding_config({"metadata": {"tokenopt_agent": "judge"}}):
        inside = RunnableLambda(lambda _: ensure_config()["metadata"]).invoke({})
    outside = ensure_config().get("metadata") or {}

    assert "judge" == inside.get("tokenopt_agent"), "var_child_runnable_config: calls are unnamed"
    assert "tokenopt_agent" not in outside
