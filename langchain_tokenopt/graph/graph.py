"""A whole graph under a plan, one that you write or one that you only import.

Nothing here skips a node, changes an answer or a message id: a budget acts at the model. A node
names whose account pays, and the account learns which agents can never run again, so that others
get what those have left.

When an agent has finished: its node has ended, and no edge, branch or declared destination of a
``Command`` leads back to it from the nodes that run now
(:mod:`langchain_tokenopt.graph.reachability`); a node without edges ends the graph. A branch
that has decided counts with its decision. An agent that comes back all the same, in the next turn
of a thread or because it was sent for without notice, takes its share back, as far as nobody has
used it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import Send

from langchain_tokenopt.budget.model_callers import reaches_model
from langchain_tokenopt.budget.outlook import note_graph
from langchain_tokenopt.budget.plan import BudgetPlan, check_plan
from langchain_tokenopt.budget.run import current_run
from langchain_tokenopt.graph.host_compat import (
    agent_name_of,
    compiled_like,
    is_helper,
    with_config,
)
from langchain_tokenopt.graph.node import AGENT, NodeWatch, watch_of, watched
from langchain_tokenopt.graph.reachability import GraphEdges, Reachability
from langchain_tokenopt.graph.state import mirror_key

__all__ = ["budget_graph"]

Graph = TypeVar(
    "Graph", bound="StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any]"
)
Agents = Mapping[str, Sequence[str]]
"""Who pays for each node: first the node's own agent, then those inside it."""


def budget_graph(workflow: Graph, plan: BudgetPlan) -> Graph:
    """Return a copy of *workflow* in which every node is an agent of *plan*.

    Each node's model calls are paid by the account of its name; of the agent that it was
    :func:`budgeted` for; of ``tokenopt_agent`` in its metadata; or, in a graph that
    ``create_agent(name=...)`` made, of that name. When an agent can never run again, what it has
    left goes to the others. A channel of type :data:`BudgetState` mirrors the account.

    A ``StateGraph`` gives a ``StateGraph``: compile the copy as you would have compiled the
    original. A compiled graph gives a compiled graph with the same checkpointer, store, cache,
    interrupts, name and config. The original stays as it is.

    Nodes that are graphs themselves stay graphs, and looking into them works as before. Their calls
    are paid by their name here, except those of inner nodes and agents that the plan names.
    (Agents that a function or a tool calls inside cannot be seen: their calls are paid by the node.
    Under ``optimize(model, plan)`` alone, agents made by ``create_agent(name=...)`` pay for
    themselves wherever they are called.)

    Raises:
        ValueError: The plan names agents that the graph does not have, or the graph has no nodes.
        TypeError: *workflow* is neither.

    Example:
        >>> from langgraph.graph import MessagesState
        >>> workflow = StateGraph(MessagesState).add_node("news", lambda state: None)
        >>> plan = BudgetPlan(total_tokens=1_000, agents={"newz": {"tokens": 500}})
        >>> budget_graph(workflow, plan)
        Traceback (most recent call last):
        ...
        ValueError: the plan names 'newz', which the graph does not have. It has: news. Did you \
mean news?
    """
    if not isinstance(workflow, StateGraph | CompiledStateGraph):
        raise TypeError(
            f"budget_graph() needs a StateGraph, compiled or not; got {type(workflow).__name__}. "
            f"What runs behind other things is budgeted at its models: optimize(model, plan)."
        )
    check_plan(plan)
    builder = workflow.builder if isinstance(workflow, CompiledStateGraph) else workflow
    if not builder.nodes:
        raise ValueError("the graph has no nodes, so there is nobody to budget: add_node() first.")
    agents = _agents_of(workflow, plan)
    plan.check_agents(agent for names in agents.values() for agent in names)
    own_calls = {name: _own_calls(spec.runnable, plan) for name, spec in builder.nodes.items()}
    perhaps = _perhaps(builder.nodes, agents, plan)
    reachability = Reachability(GraphEdges.of(builder), agents, own_calls, perhaps)
    note_graph(plan.fingerprint, reachability.coming_first())
    return cast("Graph", _copied(workflow, plan, agents, reachability))


# --- who pays ------------------------------------------------------------------------------------


def _agents_of(workflow: Any, plan: BudgetPlan) -> Agents:
    compiled = isinstance(workflow, CompiledStateGraph)
    whole = agent_name_of(workflow) if compiled else None
    nodes = (workflow.builder if compiled else workflow).nodes
    return {
        name: (_agent_of(name, spec, whole), *_inner_agents(spec.runnable, plan))
        for name, spec in nodes.items()
        if not spec.is_error_handler
    }


def _agent_of(name: str, spec: Any, whole: str | None) -> str:
    """Return who pays for a node, by what is nearest to it."""
    watch, runnable = watch_of(spec.runnable), spec.runnable
    if watch is not None:
        own = watch.agent
    else:
        config = (runnable.config if isinstance(runnable, Pregel) else None) or {}
        own = (config.get("metadata") or {}).get(AGENT)
    return str(own or (spec.metadata or {}).get(AGENT) or whole or name)


def _perhaps(nodes: Mapping[str, Any], agents: Agents, plan: BudgetPlan) -> frozenset[str]:
    """Return the agents of whom nobody knows whether they call a model.

    Of nobody that is said where no node visibly reaches one: they come from where one cannot see.
    """
    known = {
        own
        for name, names in agents.items()
        if AGENT in (nodes[name].metadata or {}) or reaches_model(nodes[name].runnable)
        for own in names
    }
    everybody = {own for names in agents.values() for own in names}
    return frozenset(everybody - known - plan.agents.keys() if known else ())


def _inner_agents(runnable: Any, plan: BudgetPlan) -> tuple[str, ...]:
    """Return the agents of the plan that are nodes of a graph inside a node."""
    if not isinstance(runnable, CompiledStateGraph):
        return ()
    nodes, inside = runnable.builder.nodes, _agents_of(runnable, plan)
    return tuple(
        agent
        for name, names in inside.items()
        if not is_helper(name, nodes[name].runnable)
        for agent in names
        if agent in plan.agents
    )


def _own_calls(runnable: Any, plan: BudgetPlan) -> int:
    """Return how many calls of a node, or of nodes inside it, it pays for itself."""
    if not isinstance(runnable, CompiledStateGraph):
        return 1
    inside = _agents_of(runnable, plan)
    unsure = _perhaps(runnable.builder.nodes, inside, plan)
    return sum(
        _own_calls(spec.runnable, plan)
        for name, spec in runnable.builder.nodes.items()
        if not (plan.agents.keys() & inside.get(name, ()) or is_helper(name, spec.runnable))
        and not unsure.intersection(inside.get(name, ()))
    )


def _payers(nodes: Mapping[str, Any], agents: Agents) -> dict[str, Sequence[str]]:
    """Return who pays for each node: for an error handler the node of which it is."""
    handling = {name: spec.error_handler_node for name, spec in nodes.items() if name in agents}
    shared = Counter(handling.values())
    own = {handler: agents[name] for name, handler in handling.items() if shared[handler] == 1}
    return {**own, **agents}


# --- the copy ------------------------------------------------------------------------------------


def _copied(
    workflow: Any, plan: BudgetPlan, agents: Agents, reachability: Reachability | None
) -> Any:
    """Return a copy whose nodes are watched.

    Without *reachability* it is a graph inside of a node: only the nodes that the plan names are
    watched, and nobody finishes.
    """
    compiled = isinstance(workflow, CompiledStateGraph)
    builder = workflow.builder if compiled else workflow
    made = copy.copy(builder)
    key = mirror_key(builder)
    payers = _payers(builder.nodes, agents)
    made.nodes = {}
    for name, spec in builder.nodes.items():
        own = payers.get(name, (name,))[0]
        if reachability is None and own not in plan.agents:  # the outer node pays for it
            made.nodes[name] = replace(spec, runnable=_with_inner(spec.runnable, plan))
        else:
            watch = NodeWatch(plan, name, own, graph=reachability, key=key)
            made.nodes[name] = _watched_spec(spec, watch)
    if reachability is not None:
        made.branches = copy.copy(builder.branches)
        for start, branches in builder.branches.items():
            made.branches[start] = {
                name: spec._replace(path=_WatchedBranch(start, spec, plan, reachability))
                for name, spec in branches.items()
            }
    made.compiled = False
    return compiled_like(workflow, made) if compiled else made


def _watched_spec(spec: Any, watch: NodeWatch) -> Any:
    runnable = spec.runnable
    if not isinstance(runnable, Pregel):
        return replace(spec, runnable=watched(runnable, watch))
    payer: RunnableConfig = {"metadata": {AGENT: watch.agent}}  # a node's own would be drawn
    return replace(spec, runnable=with_config(_with_inner(runnable, watch.plan), payer))


def _with_inner(runnable: Any, plan: BudgetPlan) -> Any:
    """Let inner nodes pay for themselves, where the plan names them."""
    if not _inner_agents(runnable, plan):
        return runnable
    return _copied(runnable, plan, _agents_of(runnable, plan), None)


class _WatchedBranch(Runnable[Any, Any]):
    """A conditional edge whose decisions are noted."""

    def __init__(
        self, node: str, branch: Any, plan: BudgetPlan, reachability: Reachability
    ) -> None:
        self.bound = branch.path
        self.name = getattr(branch.path, "name", None)
        self._node = node
        self._ends = branch.ends or {}
        self._plan = plan
        self._reachability = reachability

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the edge itself."""
        return str(self.bound.get_name(suffix, name=name))

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Decide."""
        with self._explained(config):
            decided = self.bound.invoke(input, config, **kwargs)
        self._note(decided, config)
        return decided

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Decide."""
        with self._explained(config):
            decided = await self.bound.ainvoke(input, config, **kwargs)
        self._note(decided, config)
        return decided

    @contextmanager
    def _explained(self, config: RunnableConfig | None) -> Iterator[None]:
        """Say so where it cannot decide because no model has said anything."""
        try:
            yield
        except Exception as error:
            run = current_run()
            if run is not None:
                run.stand_ins.refuse_instead(error, (config or {}).get("metadata") or {})
            raise

    def _note(self, decided: Any, config: RunnableConfig | None) -> None:
        run = current_run()
        if run is None or run.plan != self._plan:
            return
        many: Iterable[Any] = decided if isinstance(decided, list | tuple) else [decided]
        ends = [one if isinstance(one, Send) else self._ends.get(one, one) for one in many]
        self._reachability.branch_decided(
            self._node, run, (config or {}).get("metadata") or {}, ends
        )
