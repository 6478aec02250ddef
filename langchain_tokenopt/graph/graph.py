"""Budgets in LangGraph: for nodes that you write, and for graphs that you only import.

Nothing here skips a node, changes an answer or a message id: what a budget does, it does at the
model. A node is told whose account pays, and the account is told which agents can never run again,
so that others get what those have left.

When an agent has finished: its node has ended, and no edge, branch or declared destination of a
``Command`` leads back to it from the nodes that run now. A branch that has decided counts with its
decision. Where destinations are not declared, all is possible, and nobody finishes: a branch
without a path map or ``Literal``; a node annotated to return a ``Command`` to anywhere; a node that
has no edge at all and does not say by its annotation that it returns no ``Command`` (give the last
node its edge to ``END``). An agent that comes back all the same, in the next turn of a thread or
because it was sent for without notice, takes its share back, as far as nobody has used it.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    merge_configs,
    var_child_runnable_config,
)
from langgraph.channels import BinaryOperatorAggregate
from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, Send

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.run import BudgetRun, NoBudgetRunError, current_run
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.graph.reachability import Course, Paths, has_graph

__all__ = ["BudgetAllocationNode", "BudgetState", "budget_graph", "budgeted", "merge_budget"]

AGENT: Final = "tokenopt_agent"
"""Metadata key under which a node says whose account pays; usage tracking reads it as well."""

Node = TypeVar("Node")


# --- the channel ---------------------------------------------------------------------------------


def merge_budget(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mirrors of one account: counters only rise, so the larger one is the later.

    Merging twice, or in another order, gives the same; so replays and parallel branches do no harm.

    Example:
        >>> early = {"agents": {"news": {"spent": 100}}}
        >>> late = {"agents": {"news": {"spent": 150}, "judge": {"spent": 20}}}
        >>> merge_budget(merge_budget(early, late), early) == late
        True
    """
    agents: dict[str, dict[str, int]] = {}
    for side in (left, right):
        for agent, told in (side.get("agents") or {}).items():
            line = agents.setdefault(agent, {})
            for name, number in told.items():
                line[name] = max(line.get(name, number), number)
    merged = {**left, **right}
    if agents:
        merged["agents"] = agents
    return merged


BudgetState = Annotated[dict[str, Any], merge_budget]
"""A state channel that mirrors the account, for checkpoints: ``class State(TypedDict): budget:
BudgetState``. What is spent is decided by the account alone; a run in another process, without a
store, goes on from what the mirror says.

Replaying or forking from an older checkpoint is paid again, and what the abandoned branch has spent
stays spent: an account never goes back. Only a new account (another process, or a run without a
``thread_id``) that begins at an older checkpoint knows no more than that checkpoint says; give
``plan.run`` a *store* where that matters."""


def _mirror_of(run: BudgetRun) -> dict[str, Any]:
    """Return what was spent. What is held belongs to nodes that will be run again on resuming."""
    snapshot = run.account.snapshot()
    for told in snapshot["agents"].values():
        told["held"] = 0
    return snapshot


class BudgetAllocationNode:
    """A node that begins a run's budget: it writes each agent's tokens and words into the state.

    Args:
        plan: The plan that is running.
        key: The state key of a :data:`BudgetState` channel.

    Raises:
        NoBudgetRunError: When it is run outside of ``plan.run()``.

    Example:
        >>> from langgraph.graph import START, StateGraph
        >>> from typing import TypedDict
        >>> class State(TypedDict):
        ...     budget: BudgetState
        >>> plan = BudgetPlan(total_tokens=1_000, agents={"judge": {"tokens": 600, "words": 50}})
        >>> graph = StateGraph(State).add_node("budget_allocation", BudgetAllocationNode(plan))
        >>> graph = graph.add_edge(START, "budget_allocation").compile()
        >>> with plan.run():
        ...     graph.invoke({})["budget"]["allocation"]
        {'judge': {'tokens': 600, 'words': 50}}
    """

    def __init__(self, plan: BudgetPlan, key: str = "budget") -> None:
        self.plan = plan
        self.key = key
        self.__name__ = "budget_allocation"

    def __call__(self, state: Any) -> dict[str, Any] | None:
        """Restore what a checkpoint says was spent, and write the shares."""
        run = _running(self.plan, "BudgetAllocationNode")
        mirror = _read(state, self.key)
        if mirror is None:
            return None
        run.restore(_snapshot_of(mirror, self.key))
        report = run.account.report()
        shares = {
            agent: {
                "tokens": report.agents[agent].allocated_tokens,
                "words": self.plan.limits_of(agent).words,
            }
            for agent in self.plan.agents
        }
        return {self.key: {**_mirror_of(run), "allocation": shares}}


def _read(state: Any, key: str) -> Mapping[str, Any] | None:
    value = state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)
    return value if isinstance(value, Mapping) else None


def _snapshot_of(mirror: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a mirror as the account reads it; one that was made by hand may say less.

    Raises:
        ValueError: It says what is no number of tokens.
    """
    agents = {}
    for agent, told in (mirror.get("agents") or {}).items():
        counters = {name: told.get(name, 0) for name in _COUNTERS}
        for name, count in counters.items():
            if not isinstance(count, int) or count < 0:
                raise ValueError(
                    f"the state's {key!r} says that {agent!r} has {name} {count!r}; it must be a "
                    f"whole number of at least 0. Leave it to budget_graph() to write it."
                )
        agents[agent] = counters
    return {"agents": agents}


_COUNTERS: Final = ("spent", "held", "surplus", "spent_nano_usd")


def _running(plan: BudgetPlan, name: str) -> BudgetRun:
    run = current_run()
    if run is None or not (run.plan is plan or run.plan == plan):
        raise NoBudgetRunError(
            f"{name!r} is under the plan {plan.name!r}, which is not running here. Call the graph "
            f"inside 'with plan.run(thread_id=...):'."
        )
    return run


# --- one node ------------------------------------------------------------------------------------


def budgeted(
    node: Node, plan: BudgetPlan, agent: str | None = None, *, finishes: bool = False
) -> Node:
    """Return *node* under *plan*: its model calls are paid by the account of *agent*.

    Signature, injected parameters, return values (``Command`` and ``Send`` too), edges, retries,
    interrupts, async and streaming stay as they are. Models that carry stages are shortened where
    need be; put ``optimize(model)`` around the others, or they can only be refused.

    A node alone does not know the graph around it: its agent keeps what it has left until the run
    ends, unless *finishes* says that it is done. :func:`budget_graph` finds that out by itself,
    also for nodes that are budgeted already.

    Args:
        node: A function, a coroutine function, a callable object, a runnable or a compiled graph.
        plan: Must be running when the node is.
        agent: The name in the plan; by default the name of the node in the graph.
        finishes: The agent is done when the node has returned: what it has left goes to the others.
            Not for loops. Should it run again, it takes back what nobody has used.

    Raises:
        ValueError: The plan has no such agent, or *finishes* is said of a compiled graph.
        TypeError: *node* is none of those.

    Example:
        >>> plan = BudgetPlan(total_tokens=1_000)
        >>> def news(state: dict) -> dict:
        ...     return {"report": "Nothing happened."}
        >>> with plan.run():
        ...     budgeted(news, plan)({})
        {'report': 'Nothing happened.'}
    """
    if agent is not None and plan.agents and agent not in plan.agents:
        raise ValueError(
            f"the plan {plan.name!r} has no agent {agent!r}; it has {', '.join(plan.agents)}."
        )
    if not callable(node) and not isinstance(node, Runnable):
        raise TypeError(f"a node is a function or a runnable; got {type(node).__name__}.")
    watch = _NodeWatch(plan, _name_of(node), agent, finishes)
    if isinstance(node, Pregel):  # stays a graph, so that its inner state can still be looked into
        if finishes:
            raise ValueError(
                f"the graph {_name_of(node)!r} stays a graph and is not watched, so it cannot "
                f"finish an agent: leave out finishes=True, or call it in a function node."
            )
        named: RunnableConfig = {} if agent is None else {"metadata": {AGENT: agent}}
        return cast("Node", node.with_config(named))
    if isinstance(node, Runnable):
        return cast("Node", _BudgetedRunnable(node, watch))
    return cast("Node", _wrapped(node, watch))


def _name_of(node: Any) -> str:
    return getattr(node, "name", None) or getattr(node, "__name__", None) or type(node).__name__


@dataclass(frozen=True)
class _NodeWatch:
    """Stands around every execution of one node."""

    plan: BudgetPlan
    name: str
    agent: str | None = None
    finishes: bool = False
    paths: Paths | None = None
    """What is known about the graph."""
    key: str | None = None
    """State key of the mirror, if the graph has one."""

    def enter(self, state: Any) -> _Visit:
        """Begin an execution. It may wait for a store."""
        run = _running(self.plan, self.name)
        if self.key is not None and (mirror := _read(state, self.key)):
            run.restore(_snapshot_of(mirror, self.key))
        metadata = ensure_config().get("metadata") or {}
        agent = self.agent or attribution_of(metadata).agent
        came_back = run.begin(agent)
        course = None
        if self.paths is not None:
            course = self.paths.entered(self.name, run, metadata, came_back=came_back)
        return _Visit(self, run, agent, course)


@dataclass(frozen=True)
class _Visit:
    """One execution of a node."""

    watch: _NodeWatch
    run: BudgetRun
    agent: str
    course: Course | None

    @contextmanager
    def named(self, kwargs: dict[str, Any]) -> Iterator[None]:
        """Name the agent to whatever the node calls."""
        if self.watch.agent is None:
            yield
            return
        named: RunnableConfig = {"metadata": {AGENT: self.agent}}
        config = merge_configs(kwargs.get("config") or ensure_config(), named)
        if "config" in kwargs:
            kwargs["config"] = config
        outer = var_child_runnable_config.get()
        var_child_runnable_config.set(config)
        try:
            yield
        finally:
            var_child_runnable_config.set(outer)

    def failed(self, error: BaseException) -> None:
        """Take note that the node ended by an exception: interrupts and jumps are such."""
        self.run.end(self.agent)
        paths = self.watch.paths
        if paths is None or self.course is None:
            return
        if isinstance(error, ParentCommand):
            paths.left(self.watch.name, self.course, replace(error.args[0], graph=None))
        elif not isinstance(error, GraphBubbleUp):
            paths.failed(self.watch.name, self.course)

    def ended(self, returned: Any) -> Any:
        """Take note of what the node returned; return it with the mirror, where there is one."""
        watch, run = self.watch, self.run
        run.end(self.agent, finished=watch.finishes)
        if watch.paths is not None and self.course is not None:
            watch.paths.left(watch.name, self.course, returned)
        return returned if watch.key is None else _with_update(returned, watch.key, _mirror_of(run))


def _with_update(returned: Any, key: str, value: Any) -> Any:
    """Add a state update to whatever form a node has returned."""
    if returned is None:
        return {key: value}
    if isinstance(returned, Mapping):
        return {**returned, key: value}
    if isinstance(returned, Command) and returned.graph is not None:  # not of this graph's state
        return returned
    if isinstance(returned, Command) and isinstance(returned.update, Mapping | None):
        return replace(returned, update={**(returned.update or {}), key: value})
    # LangGraph takes a list of updates of every form if one of them is a command.
    many = returned if isinstance(returned, list | tuple) else [returned]
    return [*many, Command(update={key: value})]


def _wrapped(node: Callable[..., Any], watch: _NodeWatch) -> Callable[..., Any]:
    """Wrap a function; ``functools.wraps`` keeps the signature that LangGraph injects by."""
    if _is_a(inspect.isasyncgenfunction, node) or _is_a(inspect.isgeneratorfunction, node):
        return _like(node, _generating(node, watch), watch)
    if _is_a(inspect.iscoroutinefunction, node):

        async def awaiting(*args: Any, **kwargs: Any) -> Any:
            visit = await _entered(watch, _first(args, kwargs))
            try:
                with visit.named(kwargs):
                    returned = await node(*args, **kwargs)
            except BaseException as error:
                visit.failed(error)
                raise
            return await _off_the_loop(visit.run, visit.ended, returned)

        return _like(node, awaiting, watch)

    def calling(*args: Any, **kwargs: Any) -> Any:
        visit = watch.enter(_first(args, kwargs))
        try:
            with visit.named(kwargs):
                returned = node(*args, **kwargs)
        except BaseException as error:
            visit.failed(error)
            raise
        return visit.ended(returned)

    return _like(node, calling, watch)


def _generating(node: Callable[..., Any], watch: _NodeWatch) -> Callable[..., Any]:
    """Wrap a generator function. LangGraph adds up what it yields, so there is nothing to add."""

    def generating(*args: Any, **kwargs: Any) -> Iterator[Any]:
        visit = watch.enter(_first(args, kwargs))
        try:
            with visit.named(kwargs):
                yield from node(*args, **kwargs)
        except BaseException as error:
            visit.failed(error)
            raise
        visit.ended(None)

    async def agenerating(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        visit = await _entered(watch, _first(args, kwargs))
        try:
            with visit.named(kwargs):
                async for piece in node(*args, **kwargs):
                    yield piece
        except BaseException as error:
            visit.failed(error)
            raise
        await _off_the_loop(visit.run, visit.ended, None)

    return agenerating if _is_a(inspect.isasyncgenfunction, node) else generating


def _is_a(kind: Callable[[Any], bool], node: Any) -> bool:
    """Whether a function, a partial of one, or what a callable object does, is of this kind."""
    return kind(node) or kind(getattr(node, "__call__", None))  # noqa: B004  its own method


async def _entered(watch: _NodeWatch, state: Any) -> _Visit:
    run = _running(watch.plan, watch.name)
    return cast("_Visit", await _off_the_loop(run, watch.enter, state))


async def _off_the_loop(run: BudgetRun, function: Callable[..., Any], *args: Any) -> Any:
    """Call *function*, in a thread if the account waits for a disk."""
    if run.account.blocking:
        return await asyncio.to_thread(function, *args)
    return function(*args)


def _like(node: Any, wrapper: Callable[..., Any], watch: _NodeWatch) -> Callable[..., Any]:
    """Make *wrapper* look like *node*, whose signature and hints LangGraph reads."""
    if inspect.isroutine(node):
        functools.update_wrapper(wrapper, node)
    elif isinstance(node, functools.partial):
        functools.update_wrapper(wrapper, node.func)
        wrapper.__signature__ = inspect.signature(node)  # type: ignore[attr-defined]
    else:
        functools.update_wrapper(wrapper, node.__call__)
        wrapper.__name__ = getattr(node, "__name__", type(node).__name__)
    wrapper.__budgeted__ = (node, watch)  # type: ignore[attr-defined]
    return wrapper


def _first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else kwargs.get("state")


class _BudgetedRunnable(Runnable[Any, Any]):
    """A runnable as a node under a plan."""

    def __init__(self, bound: Runnable[Any, Any], watch: _NodeWatch) -> None:
        self.bound = bound
        self.name = getattr(bound, "name", None)
        self.watch = watch

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the runnable itself."""
        return self.bound.get_name(suffix, name=name)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it."""
        passed = {"config": config or ensure_config()}
        visit = self.watch.enter(input)
        try:
            with visit.named(passed):
                returned = self.bound.invoke(input, passed["config"], **kwargs)
        except BaseException as error:
            visit.failed(error)
            raise
        return visit.ended(returned)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it."""
        passed = {"config": config or ensure_config()}
        visit = await _entered(self.watch, input)
        try:
            with visit.named(passed):
                returned = await self.bound.ainvoke(input, passed["config"], **kwargs)
        except BaseException as error:
            visit.failed(error)
            raise
        return await _off_the_loop(visit.run, visit.ended, returned)


# --- a whole graph -------------------------------------------------------------------------------

Graph = TypeVar(
    "Graph", bound="StateGraph[Any, Any, Any, Any] | CompiledStateGraph[Any, Any, Any, Any]"
)


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
        ValueError: the plan has 1 agents, and 1 of them are not among the graph's 1: newz. The \
graph has: news.
    """
    if not isinstance(workflow, StateGraph | CompiledStateGraph):
        raise TypeError(
            f"budget_graph() needs a StateGraph, compiled or not; got {type(workflow).__name__}. "
            f"What runs behind other things is budgeted at its models: optimize(model, plan)."
        )
    builder = workflow.builder if isinstance(workflow, CompiledStateGraph) else workflow
    if not builder.nodes:
        raise ValueError("the graph has no nodes, so there is nobody to budget: add_node() first.")
    agents = _agents_of(workflow, plan)
    plan.check_agents(agent for names in agents.values() for agent in names)
    return cast("Graph", _copied(workflow, plan, agents, Paths.of(builder, agents)))


def _agents_of(workflow: Any, plan: BudgetPlan) -> dict[str, tuple[str, ...]]:
    """Return who pays for each node: first the node's own agent, then those inside it."""
    compiled = isinstance(workflow, CompiledStateGraph)
    whole = (workflow.config or {}).get("metadata", {}).get("lc_agent_name") if compiled else None
    nodes = (workflow.builder if compiled else workflow).nodes
    return {
        name: (_agent_of(name, spec, whole), *_inner_agents(spec.runnable, plan))
        for name, spec in nodes.items()
        if not spec.is_error_handler
    }


def _agent_of(name: str, spec: Any, whole: str | None) -> str:
    """Return who pays for a node, by what is nearest to it."""
    watch = _watch_of(spec.runnable)
    told = watch.agent if watch is not None else _agent_in(spec.runnable)
    return str(told or (spec.metadata or {}).get(AGENT) or whole or name)


def _agent_in(graph: Any) -> str | None:
    """Return the agent that a graph was :func:`budgeted` for."""
    config = graph.config if isinstance(graph, Pregel) else None
    return ((config or {}).get("metadata") or {}).get(AGENT)


def _inner_agents(runnable: Any, plan: BudgetPlan) -> tuple[str, ...]:
    """Return the agents of the plan that are nodes of a graph inside a node."""
    if not isinstance(runnable, CompiledStateGraph):
        return ()
    inside = _agents_of(runnable, plan)
    return tuple(agent for names in inside.values() for agent in names if agent in plan.agents)


def _watch_of(runnable: Any) -> _NodeWatch | None:
    """Return the watch of a node that is budgeted already."""
    if isinstance(runnable, _BudgetedRunnable):
        return runnable.watch
    function = getattr(runnable, "func", None) or getattr(runnable, "afunc", None)
    _, watch = getattr(function, "__budgeted__", (None, None))
    return watch


def _copied(
    workflow: Any, plan: BudgetPlan, agents: Mapping[str, Sequence[str]], paths: Paths | None
) -> Any:
    """Return a copy whose nodes are watched; without a path, only those that the plan names."""
    compiled = isinstance(workflow, CompiledStateGraph)
    builder = workflow.builder if compiled else workflow
    made = copy.copy(builder)
    key = _mirror_key(builder)
    payers = _payers(builder.nodes, agents)
    made.nodes = {
        name: _budgeted_spec(name, spec, payers.get(name, (name,)), plan, paths, key)
        for name, spec in builder.nodes.items()
    }
    if paths is not None:
        made.branches = copy.copy(builder.branches)
        for start, branches in builder.branches.items():
            made.branches[start] = {
                name: spec._replace(path=_Decision(start, spec, plan, paths))
                for name, spec in branches.items()
            }
    made.compiled = False
    return _compiled_like(workflow, made) if compiled else made


def _payers(
    nodes: Mapping[str, Any], agents: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    """Return who pays for each node: for an error handler the node of which it is."""
    handling = {name: spec.error_handler_node for name, spec in nodes.items() if name in agents}
    shared = Counter(handling.values())
    own = {handler: agents[name] for name, handler in handling.items() if shared[handler] == 1}
    return {**own, **agents}


def _compiled_like(graph: CompiledStateGraph[Any, Any, Any, Any], made: Any) -> Any:
    """Compile *made* as *graph* was; everything that is not about nodes is that of *graph*."""
    if hasattr(made, "_node_defaults"):  # they are in the nodes since the first time
        made._node_defaults = type(made._node_defaults)()
    nodes = made.compile(checkpointer=graph.checkpointer).nodes
    return graph.copy({"nodes": nodes, "builder": made})


def _mirror_key(workflow: StateGraph[Any, Any, Any, Any]) -> str | None:
    for key, channel in workflow.channels.items():
        if isinstance(channel, BinaryOperatorAggregate) and channel.operator is merge_budget:
            return key
    return None


def _budgeted_spec(
    name: str,
    spec: Any,
    agents: Sequence[str],
    plan: BudgetPlan,
    paths: Paths | None,
    key: str | None,
) -> Any:
    own = agents[0]
    if paths is None and own not in plan.agents:  # inside another node, which pays for it
        return replace(spec, runnable=_with_inner(spec.runnable, plan))
    runnable = spec.runnable
    if not has_graph(runnable):
        watch = _NodeWatch(plan, name, own, paths=paths, key=key)
        return replace(spec, runnable=_watched(runnable, watch))
    if isinstance(runnable, Pregel):  # named as a graph: a node's metadata would be drawn
        named = _with_inner(runnable, plan).with_config({"metadata": {AGENT: own}})
        return replace(spec, runnable=named)
    return replace(spec, metadata={**(spec.metadata or {}), AGENT: own})


def _watched(runnable: Any, watch: _NodeWatch) -> Any:
    if isinstance(runnable, _BudgetedRunnable):
        return _BudgetedRunnable(runnable.bound, _joined(watch, runnable.watch))
    if not hasattr(runnable, "func") or not hasattr(runnable, "afunc") or _is_lambda(runnable):
        return _BudgetedRunnable(runnable, watch)
    wrapped = copy.copy(runnable)  # LangGraph's own form of a function
    function, coroutine = runnable.func, runnable.afunc
    if function is not None:
        wrapped.func = _watched_function(function, watch)
    if isinstance(coroutine, functools.partial) and function in coroutine.args:
        in_thread = functools.partial(coroutine.func, *coroutine.args[:-1], wrapped.func)
        wrapped.afunc = functools.update_wrapper(in_thread, wrapped.func)
    elif coroutine is not None:
        wrapped.afunc = _watched_function(coroutine, watch)
    return wrapped


def _watched_function(function: Any, watch: _NodeWatch) -> Any:
    node, before = getattr(function, "__budgeted__", (function, None))
    return _wrapped(node, _joined(watch, before))


def _joined(watch: _NodeWatch, before: _NodeWatch | None) -> _NodeWatch:
    """Return the watch of a node that was budgeted before: watched once, and all is kept."""
    return watch if before is None else replace(watch, finishes=before.finishes)


def _with_inner(runnable: Any, plan: BudgetPlan) -> Any:
    """Let inner nodes pay for themselves, where the plan names them."""
    if not _inner_agents(runnable, plan):
        return runnable
    return _copied(runnable, plan, _agents_of(runnable, plan), None)


def _is_lambda(runnable: Any) -> bool:
    return type(runnable).__module__.startswith("langchain_core.")


class _Decision(Runnable[Any, Any]):
    """A conditional edge that tells what it has decided."""

    def __init__(self, node: str, branch: Any, plan: BudgetPlan, paths: Paths) -> None:
        self.bound = branch.path
        self.name = getattr(branch.path, "name", None)
        self._node = node
        self._ends = branch.ends
        self._plan = plan
        self._paths = paths

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the edge itself."""
        return str(self.bound.get_name(suffix, name=name))

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Decide."""
        return self._told(self.bound.invoke(input, config, **kwargs), config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Decide."""
        return self._told(await self.bound.ainvoke(input, config, **kwargs), config)

    def _told(self, decided: Any, config: RunnableConfig | None) -> Any:
        run = current_run()
        if run is not None and run.plan == self._plan:
            many = decided if isinstance(decided, list | tuple) else [decided]
            ends = (
                one.node if isinstance(one, Send) else (self._ends or {}).get(one, one)
                for one in many
            )
            self._paths.decided(self._node, run, (config or {}).get("metadata") or {}, ends)
        return decided
