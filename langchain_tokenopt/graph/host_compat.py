"""Private parts of LangGraph that a budget relies on, each in one function, with the reason.

LangGraph publishes how graphs are built and run, not how they are read. A budget has to put itself
around every node of a graph that somebody else has built, and to know which nodes can still come.

Read are, besides what the functions below name: ``StateGraph.nodes`` (what ``add_node`` was given),
``edges``, ``waiting_edges``, ``branches`` and ``channels``; ``CompiledStateGraph.builder`` and
``config``; of a node ``runnable``, ``metadata``, ``ends``, ``defer``, ``is_error_handler`` and
``error_handler_node``; of a branch ``path`` and ``ends``. Seen in LangGraph 1.0 to 1.2.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.load.serializable import Serializable
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import merge_configs, var_child_runnable_config
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from xxhash import xxh3_128_hexdigest

__all__ = [
    "agent_name_of",
    "compiled_like",
    "contains_graph",
    "enclosing_graph",
    "function_of",
    "hashed_node_key",
    "is_cached",
    "is_helper",
    "looking_like",
    "step_of",
    "surrounding_config",
    "with_config",
    "with_functions",
]


def step_of(metadata: Mapping[str, Any]) -> int | None:
    """Return the step of the graph that a run belongs to; ``None`` outside of a graph.

    LangGraph tells it to callbacks only. Nodes of one step run side by side, and the next step
    begins when all of them have ended.
    """
    step = metadata.get("langgraph_step")
    return step if isinstance(step, int) else None


def enclosing_graph(metadata: Mapping[str, Any]) -> str:
    """Return what tells one invocation of an inner graph from another; ``""`` at the outermost.

    The checkpoint namespace of a node is that of its graph, a bar, and the node's own task.
    """
    return str(metadata.get("langgraph_checkpoint_ns") or "").rpartition("|")[0]


def agent_name_of(graph: Any) -> str | None:
    """Return the name that ``create_agent(name=...)`` gave to a compiled graph."""
    return ((getattr(graph, "config", None) or {}).get("metadata") or {}).get("lc_agent_name")


def hashed_node_key(key: str) -> str:
    """Return the key under which LangGraph asks a cache for what a policy has called *key*."""
    return xxh3_128_hexdigest(key.encode())


def is_helper(name: str, runnable: Any) -> bool:
    """Whether a node runs tools or a hook of ``create_agent``, and so asks no model by itself."""
    kinds = {kind.__name__ for kind in type(runnable).__mro__}
    return "ToolNode" in kinds or name.rpartition(".")[2].startswith(("before_", "after_"))


def contains_graph(runnable: Any) -> bool:
    """Whether a node is a graph, or something of which LangGraph sees that it runs one.

    LangGraph looks for subgraphs in the steps of a sequence and in what a ``RunnableLambda`` uses;
    such nodes must stay what they are, or subgraphs cannot be looked into any more.
    """
    inside = (*(getattr(runnable, "steps", None) or ()), *(getattr(runnable, "deps", None) or ()))
    bound = getattr(runnable, "bound", None)
    return (
        isinstance(runnable, Pregel)
        or any(map(contains_graph, inside))
        or (bound is not None and contains_graph(bound))
    )


def function_of(runnable: Any) -> Any:
    """Return the function that a node's runnable calls; ``None`` where there is none."""
    return getattr(runnable, "func", None) or getattr(runnable, "afunc", None)


def with_functions(runnable: Any, replace: Callable[[Any], Any]) -> Any:
    """Return a copy of a function's runnable that calls ``replace(function)`` instead.

    Beside a plain function LangGraph's keeps a coroutine that runs the same function in a thread.
    """
    made = copy.copy(runnable)
    function, coroutine = getattr(runnable, "func", None), getattr(runnable, "afunc", None)
    if function is not None:
        made.func = replace(function)
    if isinstance(coroutine, functools.partial) and function in coroutine.args:
        in_thread = functools.partial(coroutine.func, *coroutine.args[:-1], made.func)
        made.afunc = functools.update_wrapper(in_thread, made.func)
    elif coroutine is not None:
        made.afunc = replace(coroutine)
    return made


def looking_like(runnable: Any, wrapper: Any) -> Any:
    """Return *wrapper*, a runnable around *runnable*, such that LangGraph sees the same in it.

    A function's wrapper is an object of both classes, with the attributes of both. Others cannot
    be: LangGraph takes sequences apart before it runs them. Theirs refers to the runnable as a
    ``RunnableLambda`` refers to what it uses, which is where LangGraph looks for graphs.
    """
    is_function = function_of(runnable) is not None
    both: Any = _of_both
    made: Any = object.__new__(both(type(wrapper), type(runnable), is_function))
    made.__dict__ |= vars(runnable) if is_function else {"deps": [runnable], "afunc": wrapper}
    made.__dict__ |= vars(wrapper)
    return made


@functools.cache
def _of_both(wrapper: type, kind: type[Runnable[Any, Any]], is_function: bool) -> type:
    """Return a class of wrappers around runnables of *kind*, under its name: drawings show it."""
    *module, name = (
        kind.lc_id() if issubclass(kind, Serializable) else (kind.__module__, kind.__name__)
    )
    body = {"__module__": ".".join(module), "__qualname__": name}
    if is_function:
        return type(name, (wrapper, kind), body)
    return type(name, (wrapper, RunnableLambda), {**body, "deps": ()})


def is_cached(builder: Any, spec: Any) -> bool:
    """Whether LangGraph may answer a node from its cache, so that its function is not called."""
    defaults = getattr(builder, "_node_defaults", None)
    return spec.cache_policy is not None or getattr(defaults, "cache_policy", None) is not None


def compiled_like(graph: CompiledStateGraph[Any, Any, Any, Any], builder: Any) -> Any:
    """Compile *builder* as *graph* was; what is not about nodes stays that of *graph*.

    ``compile`` writes a builder's node defaults into its nodes. Of a graph that was compiled before
    they are in the nodes already, and must not be added once more.
    """
    if hasattr(builder, "_node_defaults"):
        builder._node_defaults = type(builder._node_defaults)()
    made = copy.copy(graph)  # its own ``copy`` leaves out what ``compile`` has added
    made.nodes = builder.compile(checkpointer=graph.checkpointer).nodes
    made.builder = builder
    return made


def with_config(graph: Any, config: RunnableConfig) -> Any:
    """Return a compiled graph with more configuration, and all else that ``compile`` gave it."""
    made = copy.copy(graph)
    made.config = merge_configs(graph.config, config)
    return made


@contextmanager
def surrounding_config(config: RunnableConfig) -> Iterator[None]:
    """Make *config* the one that runnables inherit when they are called without.

    langchain-core's own ``set_config_context`` runs a function in another context, which a node
    that yields cannot be.
    """
    outer = var_child_runnable_config.get()
    var_child_runnable_config.set(config)
    try:
        yield
    finally:
        var_child_runnable_config.set(outer)
