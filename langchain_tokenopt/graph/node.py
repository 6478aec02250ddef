"""One node of a graph under a plan: who pays for it, and when it begins and ends."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.pregel import Pregel
from langgraph.types import Command

from langchain_tokenopt.budget.budget_call import DEGRADED
from langchain_tokenopt.budget.plan import BudgetPlan, check_plan
from langchain_tokenopt.budget.refusals import RefusedCall
from langchain_tokenopt.budget.run import BudgetRun, NoBudgetRunError, current_run
from langchain_tokenopt.budget.run_notes import StepTaken
from langchain_tokenopt.budget.rungs import Step
from langchain_tokenopt.budget.siblings import HOME, here
from langchain_tokenopt.budget.stray_calls import why_outside
from langchain_tokenopt.core.argument_checks import takes_names
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.graph.host_compat import (
    function_of,
    looking_like,
    surrounding_config,
    with_functions,
)
from langchain_tokenopt.graph.reachability import GraphStep, Reachability
from langchain_tokenopt.graph.state import mirror_of, read_mirror, restore

__all__ = [
    "AGENT",
    "NodeWatch",
    "answer_instead",
    "budgeted",
    "is_a",
    "like",
    "running",
    "watch_of",
    "watched",
]

AGENT: Final = "tokenopt_agent"
"""Metadata key under which a node says whose account pays; usage tracking reads it as well."""

Node = TypeVar("Node")


@takes_names
def budgeted(
    node: Node, plan: BudgetPlan, agent: str | None = None, *, finishes: bool = False
) -> Node:
    """Return *node* under *plan*: its model calls are paid by the account of *agent*.

    Signature, injected parameters, return values (``Command`` and ``Send`` too), edges, retries,
    interrupts, async and streaming stay as they are. Models that carry stages are shortened where
    need be; put ``optimize(model)`` around the others, or they can only be refused. A node whose
    model is refused answers so itself, where the state has ``messages``; otherwise the error is
    raised. In a tool, the agent is told.

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
    check_plan(plan)
    if agent is not None and plan.agents and agent not in plan.agents:
        raise ValueError(
            f"the plan {plan.name!r} has no agent {agent!r}; it has {', '.join(plan.agents)}."
        )
    if not callable(node) and not isinstance(node, Runnable):
        raise TypeError(f"a node is a function or a runnable; got {type(node).__name__}.")
    name = getattr(node, "name", None) or getattr(node, "__name__", None) or type(node).__name__
    if isinstance(node, Pregel):  # stays a graph, so that its inner state can still be looked into
        if finishes:
            raise ValueError(
                f"the graph {name!r} stays a graph and is not watched, so it cannot finish an "
                f"agent: leave out finishes=True, or call it in a function node."
            )
        metadata: RunnableConfig = {} if agent is None else {"metadata": {AGENT: agent}}
        return cast("Node", node.with_config(metadata))
    watch = NodeWatch(plan, name, agent, finishes)
    if isinstance(node, Runnable):
        return cast("Node", _WatchedRunnable(node, watch))
    return cast("Node", _watched_function(node, watch))


def running(plan: BudgetPlan, name: str) -> BudgetRun:
    """Return the run of *plan* that is here.

    Raises:
        NoBudgetRunError: There is none; the message names the node *name*.
    """
    run = current_run()
    if run is None or not (run.plan is plan or run.plan == plan):
        raise NoBudgetRunError(
            f"{name!r} is under the plan {plan.name!r}, which is not running here. Call the graph "
            f"inside 'with plan.run(thread_id=...):'.{why_outside()}"
        )
    return run


# --- around one execution ------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeWatch:
    """Stands around every execution of one node."""

    plan: BudgetPlan
    name: str
    agent: str | None = None
    finishes: bool = False
    graph: Reachability | None = None
    """What is known about the graph."""
    key: str | None = None
    """State key of the mirror, if the graph has one."""

    @contextmanager
    def execution(self, state: Any, kwargs: dict[str, Any]) -> Iterator[_Execution]:
        """Begin an execution, which may wait for a store; whatever is called in it is paid here.

        Args:
            state: What the node is given.
            kwargs: What it is called with; a ``config`` among it is replaced.
        """
        execution = self._begin(state)
        with execution.underway(kwargs):
            yield execution

    @asynccontextmanager
    async def aexecution(self, state: Any, kwargs: dict[str, Any]) -> AsyncIterator[_Execution]:
        """Begin an execution without making the event loop wait."""
        run = running(self.plan, self.name)
        execution = await _off_the_loop(run, self._begin, state)
        with execution.underway(kwargs):
            yield execution

    def joined_to(self, before: NodeWatch | None) -> NodeWatch:
        """Return this watch for a node that was budgeted before: watched once, and all is kept."""
        return self if before is None else replace(self, finishes=before.finishes)

    def _begin(self, state: Any) -> _Execution:
        run = running(self.plan, self.name)
        if self.key is not None and (mirror := read_mirror(state, self.key)):
            restore(run, mirror, self.key)
        metadata = ensure_config().get("metadata") or {}
        agent = self.agent or attribution_of(metadata).agent
        came_back = run.begin(agent)
        step = None
        if self.graph is not None:
            step = self.graph.node_began(self.name, run, metadata, came_back=came_back)
        return _Execution(self, run, agent, step)


@dataclass(frozen=True)
class _Execution:
    """One execution of a node."""

    watch: NodeWatch
    run: BudgetRun
    agent: str
    step: GraphStep | None

    @contextmanager
    def underway(self, kwargs: dict[str, Any]) -> Iterator[None]:
        """Name the agent to whatever the node calls, and take note of exceptions."""
        HOME.set(here())
        try:
            if self.watch.agent is None:
                yield
                return
            config: RunnableConfig = kwargs.get("config") or ensure_config()
            named = {**(config.get("metadata") or {}), AGENT: self.agent}
            config = {**config, "metadata": named}
            if "config" in kwargs:
                kwargs["config"] = config
            with surrounding_config(config):
                yield
        except BaseException as error:
            self._failed(error)
            if not isinstance(error, GraphBubbleUp):
                self.run.stand_ins.refuse_instead(error, ensure_config().get("metadata") or {})
            raise

    def instead_of(self, refusal: RefusedCall, state: Any) -> Any:
        """Return what the node answers where its model was refused, and the run is to go on.

        Raises:
            RefusedCall: The state has no messages to put the answer in.
            BudgetExceededError: The graph would go on for ever.
        """
        left = refusal.args[0] if refusal.args else None
        if isinstance(left, Command):  # a hook that is left out
            return left.update
        has_messages = isinstance(state, Mapping) and "messages" in state
        if not has_messages and not hasattr(state, "messages"):
            raise refusal
        return {"messages": [answer_instead(self.run, self.agent, refusal)]}

    def ended(self, returned: Any) -> Any:
        """Take note of what the node returned; return it with the mirror, where there is one."""
        watch = self.watch
        self.run.end(self.agent, finished=watch.finishes)
        if watch.graph is not None and self.step is not None:
            watch.graph.node_returned(watch.name, self.step, returned)
        if watch.key is None:
            return returned
        return _with_update(returned, watch.key, mirror_of(self.run))

    async def aended(self, returned: Any) -> Any:
        """Do the same without making the event loop wait."""
        return await _off_the_loop(self.run, self.ended, returned)

    def _failed(self, error: BaseException) -> None:
        """Take note that the node ended by an exception: interrupts and jumps are such."""
        self.run.end(self.agent)
        graph = self.watch.graph
        if graph is None or self.step is None:
            return
        if isinstance(error, ParentCommand):
            graph.node_returned(self.watch.name, self.step, replace(error.args[0], graph=None))
        elif not isinstance(error, GraphBubbleUp):
            graph.node_failed(self.watch.name, self.step)


def answer_instead(run: BudgetRun, agent: str, refusal: RefusedCall) -> AIMessage:
    """Return what *agent* says where its model was refused, and the run is to go on.

    Raises:
        BudgetExceededError: The graph would go on for ever.
    """
    run.note_degraded(agent, StepTaken(Step.FINAL))
    run.note_stand_in(agent, ensure_config().get("metadata") or {}, refusal)
    return AIMessage(refusal.message, response_metadata={DEGRADED: [Step.FINAL]})


async def _off_the_loop(run: BudgetRun, function: Callable[..., Any], argument: Any) -> Any:
    """Call *function*, in a thread if the account waits for a disk."""
    if run.account.blocking:
        return await asyncio.to_thread(function, argument)
    return function(argument)


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


# --- forms of nodes ------------------------------------------------------------------------------


def watched(runnable: Any, watch: NodeWatch) -> Any:
    """Return what a node of a graph runs, under *watch*.

    LangGraph draws a node, and looks for graphs inside of it, by what its runnable is: so it stays
    all that it was.
    """
    before, node = watch_of(runnable), runnable
    if isinstance(runnable, _WatchedRunnable):
        node = runnable.bound
    elif before is not None:
        node = with_functions(runnable, lambda function: function.__budgeted__[0])
    return looking_like(node, _WatchedRunnable(node, watch.joined_to(before)))


def watch_of(runnable: Any) -> NodeWatch | None:
    """Return the watch of a node that is budgeted already."""
    if isinstance(runnable, _WatchedRunnable):
        return runnable.watch
    _, watch = getattr(function_of(runnable), "__budgeted__", (None, None))
    return watch


class _WatchedRunnable(Runnable[Any, Any]):
    """A runnable as a node under a plan."""

    # Whatever its class does otherwise: only these two are called.
    stream, astream = Runnable.stream, Runnable.astream
    transform, atransform = Runnable.transform, Runnable.atransform

    def __init__(self, bound: Runnable[Any, Any], watch: NodeWatch) -> None:
        self.bound = bound
        self.name = getattr(bound, "name", None)
        self.watch = watch

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the runnable itself."""
        return self.bound.get_name(suffix, name=name)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it."""
        passed = {**kwargs, "config": config or ensure_config()}
        with self.watch.execution(input, passed) as execution:
            try:
                returned = self.bound.invoke(input, **passed)
            except RefusedCall as refusal:
                returned = execution.instead_of(refusal, input)
        return execution.ended(returned)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it."""
        passed = {**kwargs, "config": config or ensure_config()}
        async with self.watch.aexecution(input, passed) as execution:
            try:
                returned = await self.bound.ainvoke(input, **passed)
            except RefusedCall as refusal:
                returned = execution.instead_of(refusal, input)
        return await execution.aended(returned)


def _watched_function(node: Any, watch: NodeWatch) -> Callable[..., Any]:
    """Wrap a function in one of the same kind, whose signature and hints LangGraph reads."""

    def calling(*args: Any, **kwargs: Any) -> Any:
        state = _state_in(args, kwargs)
        with watch.execution(state, kwargs) as execution:
            try:
                returned = node(*args, **kwargs)
            except RefusedCall as refusal:
                returned = execution.instead_of(refusal, state)
        return execution.ended(returned)

    async def awaiting(*args: Any, **kwargs: Any) -> Any:
        state = _state_in(args, kwargs)
        async with watch.aexecution(state, kwargs) as execution:
            try:
                returned = await node(*args, **kwargs)
            except RefusedCall as refusal:
                returned = execution.instead_of(refusal, state)
        return await execution.aended(returned)

    # LangGraph adds up what generators yield, so there is nothing to add to that.
    def generating(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with watch.execution(_state_in(args, kwargs), kwargs) as execution:
            yield from node(*args, **kwargs)
        execution.ended(None)

    async def agenerating(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with watch.aexecution(_state_in(args, kwargs), kwargs) as execution:
            async for piece in node(*args, **kwargs):
                yield piece
        await execution.aended(None)

    wrapper: Callable[..., Any] = calling
    if is_a(inspect.iscoroutinefunction, node):
        wrapper = awaiting
    elif is_a(inspect.isasyncgenfunction, node):
        wrapper = agenerating
    elif is_a(inspect.isgeneratorfunction, node):
        wrapper = generating
    wrapper = like(node, wrapper)
    wrapper.__budgeted__ = (node, watch)  # type: ignore[attr-defined]
    return wrapper


def is_a(kind: Callable[[Any], bool], node: Any) -> bool:
    """Whether a function, a partial of one, or what a callable object does, is of this kind."""
    return kind(node) or kind(getattr(node, "__call__", None))  # noqa: B004  its own method


def _state_in(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else kwargs.get("state")


def like(node: Any, wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Make *wrapper* look like the function *node*."""
    if inspect.isroutine(node):
        functools.update_wrapper(wrapper, node)
        # LangGraph looks for graphs in what stands directly behind a decorator.
        wrapper.__wrapped__ = getattr(node, "__wrapped__", node)  # type: ignore[attr-defined]
    elif isinstance(node, functools.partial):
        functools.update_wrapper(wrapper, node.func)
        wrapper.__signature__ = inspect.signature(node)  # type: ignore[attr-defined]
    else:
        functools.update_wrapper(wrapper, node.__call__)
        wrapper.__name__ = getattr(node, "__name__", type(node).__name__)
    return wrapper
