"""Budgets in LangGraph: for nodes that you write, and for graphs that you only import.

Nothing here skips a node, changes an answer or a message id: what a budget does, it does at the
model. A node is told whose account pays, and the account is told which agents can never run again,
so that others get what those have left.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    merge_configs,
    var_child_runnable_config,
)
from langgraph.channels import BinaryOperatorAggregate
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.run import BudgetRun, NoBudgetRunError, current_run

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
store, goes on from what the mirror says."""


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
        >>> from langgraph.graph import StateGraph
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
        run.restore(mirror)
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


def _running(plan: BudgetPlan, name: str) -> BudgetRun:
    run = current_run()
    if run is None or run.plan != plan:
        raise NoBudgetRunError(
            f"{name!r} is under the plan {plan.name!r}, which is not running here. Call the graph "
            f"inside 'with plan.run(thread_id=...):'."
        )
    return run


# --- one node ------------------------------------------------------------------------------------


def budgeted(node: Node, plan: BudgetPlan, agent: str | None = None) -> Node:
    """Return *node* under *plan*: its model calls are paid by the account of *agent*.

    Signature, injected parameters, return values (``Command`` and ``Send`` too), edges, retries,
    interrupts, async and streaming stay as they are. Models that carry stages are shortened where
    need be; put ``optimize(model)`` around the others, or they can only be refused.

    Args:
        node: A function, a coroutine function, a callable object, a runnable or a compiled graph.
        plan: Must be running when the node is.
        agent: The name in the plan; by default the name of the node in the graph.

    Raises:
        ValueError: The plan has no such agent.
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
    watch = _NodeWatch(plan, _name_of(node), agent)
    if isinstance(node, Pregel):  # stays a graph, so that its inner state can still be looked into
        named: RunnableConfig = {} if agent is None else {"metadata": {AGENT: agent}}
        return cast("Node", node.with_config(named))
    if isinstance(node, Runnable):
        return cast("Node", _BudgetedRunnable(node, watch))
    return cast("Node", _wrapped(node, watch))


def _name_of(node: Any) -> str:
    return getattr(node, "name", None) or getattr(node, "__name__", None) or type(node).__name__


@dataclass
class _NodeWatch:
    """Stands around every execution of one node."""

    plan: BudgetPlan
    name: str
    agent: str | None = None
    path: _Path | None = None
    """What is known about the graph."""
    key: str | None = None
    """State key of the mirror, if the graph has one."""

    @contextmanager
    def around(self, state: Any, kwargs: dict[str, Any]) -> Iterator[BudgetRun]:
        """Name the agent to whatever the node calls, while it runs."""
        run = _running(self.plan, self.name)
        if self.key is not None and (mirror := _read(state, self.key)):
            run.restore(mirror)
        if self.path is not None:
            self.path.entered(self.name, run)
        if self.agent is None:
            yield run
            return
        named: RunnableConfig = {"metadata": {AGENT: self.agent}}
        config = merge_configs(kwargs.get("config") or ensure_config(), named)
        if "config" in kwargs:
            kwargs["config"] = config
        outer = var_child_runnable_config.get()
        var_child_runnable_config.set(config)
        try:
            yield run
        finally:
            var_child_runnable_config.set(outer)

    def told(self, returned: Any, run: BudgetRun) -> Any:
        """Add the mirror to what the node returns, where the graph keeps one."""
        return returned if self.key is None else _with_update(returned, self.key, _mirror_of(run))


def _with_update(returned: Any, key: str, value: Any) -> Any:
    """Add a state update to whatever form a node has returned."""
    if returned is None:
        return {key: value}
    if isinstance(returned, Command):
        if returned.graph is not None:  # an update of another graph's state
            return returned
        update = returned.update
        if update is None or isinstance(update, Mapping):
            return replace(returned, update={**(update or {}), key: value})
        if isinstance(update, list | tuple) and all(isinstance(u, tuple) for u in update):
            return replace(returned, update=[*update, (key, value)])
        return returned
    if isinstance(returned, Mapping):
        return {**returned, key: value}
    if isinstance(returned, list) and all(isinstance(r, Command | Mapping) for r in returned):
        return [*returned, {key: value}]
    return returned


def _wrapped(node: Callable[..., Any], watch: _NodeWatch) -> Callable[..., Any]:
    """Wrap a function; ``functools.wraps`` keeps the signature that LangGraph injects by."""
    call = node if inspect.isroutine(node) else getattr(node, "__call__", node)  # noqa: B004
    if inspect.isasyncgenfunction(call):

        async def agenerating(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            with watch.around(_first(args, kwargs), kwargs):
                async for piece in node(*args, **kwargs):
                    yield piece

        return _like(node, agenerating)
    if inspect.isgeneratorfunction(call):

        def generating(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with watch.around(_first(args, kwargs), kwargs):
                yield from node(*args, **kwargs)

        return _like(node, generating)
    unbound = call.func if isinstance(call, functools.partial) else call
    if inspect.iscoroutinefunction(unbound):

        async def awaiting(*args: Any, **kwargs: Any) -> Any:
            with watch.around(_first(args, kwargs), kwargs) as run:
                return watch.told(await node(*args, **kwargs), run)

        return _like(node, awaiting)

    def calling(*args: Any, **kwargs: Any) -> Any:
        with watch.around(_first(args, kwargs), kwargs) as run:
            return watch.told(node(*args, **kwargs), run)

    return _like(node, calling)


def _like(node: Any, wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Make *wrapper* look like *node*, whose signature and hints LangGraph reads."""
    if inspect.isroutine(node):
        return functools.wraps(node)(wrapper)
    if isinstance(node, functools.partial):
        functools.update_wrapper(wrapper, node.func)
        wrapper.__signature__ = inspect.signature(node)  # type: ignore[attr-defined]
        return wrapper
    functools.update_wrapper(wrapper, node.__call__)
    wrapper.__name__ = getattr(node, "__name__", type(node).__name__)
    return wrapper


def _first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else kwargs.get("state")


class _BudgetedRunnable(Runnable[Any, Any]):
    """A runnable as a node under a plan."""

    def __init__(self, bound: Runnable[Any, Any], watch: _NodeWatch) -> None:
        self.bound = bound
        self.name = getattr(bound, "name", None)
        self._watch = watch

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the runnable itself."""
        return self.bound.get_name(suffix, name=name)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it."""
        passed = {"config": config or ensure_config()}
        with self._watch.around(input, passed) as run:
            return self._watch.told(self.bound.invoke(input, passed["config"], **kwargs), run)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it."""
        passed = {"config": config or ensure_config()}
        with self._watch.around(input, passed) as run:
            returned = await self.bound.ainvoke(input, passed["config"], **kwargs)
            return self._watch.told(returned, run)


# --- a whole graph -------------------------------------------------------------------------------


def budget_graph(workflow: StateGraph[Any, Any, Any, Any], plan: BudgetPlan) -> Any:
    """Return a copy of *workflow* in which every node is an agent of *plan*.

    Each node's model calls are paid by the account of its name (or of ``tokenopt_agent`` in its
    metadata). When the graph's edges show that an agent can never run again, what it has left goes
    to the others. A channel of type :data:`BudgetState` mirrors the account.

    Compile the copy as you would have compiled the original, which stays as it is. Nodes that are
    graphs themselves are not wrapped: their calls are paid by their name here, and looking into
    them works as before.

    Raises:
        ValueError: The plan names agents that the graph does not have.
        TypeError: *workflow* is no ``StateGraph``.

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
    if not isinstance(workflow, StateGraph):
        raise TypeError(
            f"budget_graph() needs a StateGraph that is not compiled; got "
            f"{type(workflow).__name__}. A compiled graph has the one it was made from: "
            f"budget_graph(compiled.builder, plan).compile(...)."
        )
    agents = {
        name: (spec.metadata or {}).get(AGENT, name)
        for name, spec in workflow.nodes.items()
        if not spec.is_error_handler
    }
    plan.check_agents(agents.values())
    made = copy.copy(workflow)
    path = _Path.of(workflow, agents)
    key = _mirror_key(workflow)
    made.nodes = {
        name: _budgeted_spec(name, spec, agents.get(name, name), plan, path, key)
        for name, spec in workflow.nodes.items()
    }
    made.compiled = False
    return made


def _mirror_key(workflow: StateGraph[Any, Any, Any, Any]) -> str | None:
    for key, channel in workflow.channels.items():
        if isinstance(channel, BinaryOperatorAggregate) and channel.operator is merge_budget:
            return key
    return None


def _budgeted_spec(
    name: str, spec: Any, agent: str, plan: BudgetPlan, path: _Path, key: str | None
) -> Any:
    watch = _NodeWatch(plan, name, path=path, key=key)
    runnable = spec.runnable
    if _has_graph(runnable):
        wrapped = runnable
    elif hasattr(runnable, "func") and hasattr(runnable, "afunc") and not _is_lambda(runnable):
        wrapped = copy.copy(runnable)  # LangGraph's own form of a function
        for part in ("func", "afunc"):
            function = getattr(runnable, part)
            if function is not None:
                setattr(wrapped, part, _wrapped(function, watch))
    else:
        wrapped = _BudgetedRunnable(runnable, watch)
    return replace(spec, runnable=wrapped, metadata={**(spec.metadata or {}), AGENT: agent})


def _is_lambda(runnable: Any) -> bool:
    return type(runnable).__module__.startswith("langchain_core.")


def _has_graph(runnable: Any) -> bool:
    """Whether a node is a graph, or a sequence with a graph in it."""
    steps = getattr(runnable, "steps", None) or ()
    bound = getattr(runnable, "bound", None)
    return (
        isinstance(runnable, Pregel)
        or any(map(_has_graph, steps))
        or (bound is not None and _has_graph(bound))
    )


@dataclass
class _Path:
    """Which nodes can still come, from which have been: the graph's edges, and where a run stands.

    LangGraph works in steps: a step begins when all nodes of the one before have ended. So when a
    node of the next step begins, the nodes of the last one are known, and whatever cannot be
    reached from them will never run again.
    """

    agents: Mapping[str, str]
    """Agents by node."""
    after: Mapping[str, frozenset[str]]
    """Every node that can come after a node, at any distance."""
    always: frozenset[str]
    """Nodes that can come at any time: deferred ones, and those after nodes that are not seen."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, workflow: StateGraph[Any, Any, Any, Any], agents: Mapping[str, str]) -> _Path:
        """Read a graph's edges; where a branch does not say where it leads, all is possible."""
        names = frozenset(workflow.nodes)
        direct: dict[str, set[str]] = {name: set() for name in (*names, START)}
        for start, end in workflow.edges:
            direct[start].add(end)
        for starts, end in workflow.waiting_edges:
            for start in starts:
                direct[start].add(end)
        for start, branches in workflow.branches.items():
            for branch in branches.values():
                direct[start] |= set(branch.ends.values()) if branch.ends else names
        for name, spec in workflow.nodes.items():
            direct[name] |= set(spec.ends or ())
            if spec.error_handler_node is not None:
                direct[name].add(spec.error_handler_node)
            if spec.is_error_handler:
                direct[name] |= names
        after = {name: _reach(name, direct) for name in direct}
        unseen = {name for name, spec in workflow.nodes.items() if _has_graph(spec.runnable)}
        always = {name for name, spec in workflow.nodes.items() if spec.defer} | unseen
        beyond = frozenset().union(*(after[name] for name in always)) if always else frozenset()
        return cls(agents, after, frozenset(always) | beyond)

    def entered(self, name: str, run: BudgetRun) -> None:
        """Take note that a node begins; end the accounts of those that cannot come any more."""
        metadata = ensure_config().get("metadata") or {}
        step = metadata.get("langgraph_step")
        if not isinstance(step, int):
            return
        where = (id(self), metadata.get("thread_id"))
        with self._lock:
            steps = run.steps.setdefault(where, {})
            steps.setdefault(step, set()).add(name)
            before = steps.pop(step - 1, None)
            for other in [other for other in steps if other != step]:
                del steps[other]
        if before is None:
            return
        possible = self.always | {name} | frozenset().union(*(self.after[b] for b in before))
        coming = {self.agents[node] for node in possible if node in self.agents}
        for agent in set(self.agents.values()) - coming:
            if agent in run.plan.agents:
                run.finish(agent)


def _reach(start: str, direct: Mapping[str, set[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in direct.get(waiting.pop(), ()):
            if name not in found and name != END:
                found.add(name)
                waiting.append(name)
    return frozenset(found)
