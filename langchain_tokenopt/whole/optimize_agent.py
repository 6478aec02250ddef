"""One call that puts every part around a model, an agent or a graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from langchain_core.caches import BaseCache
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from langchain_tokenopt.budget.plan import BudgetPlan, check_plan
from langchain_tokenopt.chat_model.optimize import put_inside
from langchain_tokenopt.chat_model.staged_call import given_seam
from langchain_tokenopt.chat_model.staged_model import staged_model
from langchain_tokenopt.chat_model.stages import as_stages, missing_in
from langchain_tokenopt.core.argument_checks import refuse_class, shown, takes_names
from langchain_tokenopt.core.levels import Level
from langchain_tokenopt.stage import Stage, StageGroup
from langchain_tokenopt.whole.explanation import Explanation
from langchain_tokenopt.whole.graph_runs import GraphRuns
from langchain_tokenopt.whole.optimized_graph import is_optimized_graph, optimized_graph
from langchain_tokenopt.whole.path import Path, path_of

__all__ = ["optimize_agent"]

Agent = TypeVar("Agent", bound=Runnable[Any, Any])
Given = bool | Mapping[str, Any] | Stage | StageGroup | None
"""What a part takes: what its level does, off, on, arguments of its stage, or a stage."""


@takes_names
def optimize_agent(
    agent: Agent,
    *stages: Stage | StageGroup,
    level: Level = "balanced",
    plan: BudgetPlan | None = None,
    cache: Given | BaseCache = None,
    tools: Given = None,
    context: Given = None,
    compression: Given = None,
    routing: Given = None,
    limits: Given = None,
    run: Mapping[str, Any] | None = None,
) -> Agent:
    """Return *agent* with every part of this package around the models that it asks.

    What comes back is of the same class and behaves the same: an agent is called, streamed, stopped
    by interrupts, resumed from checkpoints and put into other graphs as before. The one that was
    given is untouched. ``.explain()`` prints what runs around it, why, and how each part is
    switched off.

    Of a graph every chat model is covered that is called while it runs, in nodes, tools, subgraphs
    and other agents; what is not, ``.explain()`` names once it was called: text models, and clients
    that go round LangChain.

    Args:
        agent: An agent of ``create_agent``, any compiled LangGraph graph, or a chat model, a
            binding of one, or an ``init_chat_model`` model with configurable fields.
        stages: Stages besides the parts, or in the place of one.
        level: ``"none"`` changes no byte, ``"balanced"`` loses nothing, ``"aggressive"`` and
            ``"maximum"`` leave out more; ``docs/agents.md`` has the table.
        plan: What may be spent. Around a graph each run of it is a run of the plan, an interrupted
            one the same when it goes on; a model is called inside of ``with plan.run():``.
        cache: ``None``: no cache. ``True``: equal requests and the same words, of users that the
            metadata (``user_id``) or a ``token_scope`` name, in memory. Or arguments of
            ``SemanticCache``, or a cache.
        tools: ``None``: what the level says. ``False``: off. ``True``: on, at any level. Or
            arguments of ``ToolSelector``, over those of the level, or a stage.
        context: The same with ``ContextCompressor``.
        compression: The same with ``PromptCompressor``.
        routing: ``None``: the models are those that the agent asks. Or models for ``ModelRouter``,
            by tier, or a router.
        limits: As *tools*, with ``WordLimit``.
        run: Arguments of ``BudgetPlan.run`` for the runs of a graph, such as
            ``{"store": "postgresql://..."}``.

    Raises:
        TypeError: *agent* is none of those, or what is given for a part is nothing of that.
        ValueError: It was through this already, stages contradict each other, there is no such
            level, or *run* is given without a plan.

    Example:
        >>> from langchain_tokenopt.testing import ExtractiveChatModel
        >>> model = optimize_agent(ExtractiveChatModel(), limits={"max_words": 5})
        >>> model.invoke("<notes>Ada won by a minute. It rained.</notes> Who won?").text
        'Ada won by a minute.'
    """
    refuse_class("an agent", agent)
    if plan is not None:
        check_plan(plan)
    given = {
        "cache": cache,
        "tools": tools,
        "context": context,
        "compression": compression,
        "routing": routing,
        "limits": limits,
    }
    path = path_of(level, given, stages, plan)
    if run is not None and plan is None:
        raise ValueError("run= has options for the runs of a plan: give plan=BudgetPlan(...), too.")
    made: Agent = _around(agent, path, run or {})
    return made


def _around(agent: Any, path: Path, run: Mapping[str, Any]) -> Any:
    """Return *agent* with the path around the graph or the model inside of it.

    Raises:
        TypeError: There is none.
        ValueError: It has a path already.
    """
    if is_optimized_graph(agent):
        raise ValueError(_TWICE)
    if isinstance(agent, Pregel):
        runs = None if path.plan is None else GraphRuns(path.plan, run)
        return optimized_graph(agent, path, runs)
    if isinstance(agent, RunnableBindingBase):
        return agent.model_copy(update={"bound": _around(agent.bound, path, run)})
    if isinstance(agent, StateGraph):
        raise TypeError("optimize_agent() needs a compiled graph: optimize_agent(graph.compile()).")
    try:
        return put_inside(agent, partial(_staged, path=path))
    except TypeError as error:
        if isinstance(agent, BaseChatModel | str):
            raise
        raise TypeError(
            f"optimize_agent() needs a chat model, an agent of create_agent or a compiled graph; "
            f"got {shown(agent)}. Around anything else: with stage_all(level=...)."
        ) from error


_TWICE = (
    "this went through optimize_agent already: a second time would put every part around it twice. "
    "Give all arguments to one call, and the original to it."
)


def _staged(model: BaseChatModel, path: Path) -> BaseChatModel:
    """Return *model* with the stages of *path* that it does not have itself."""
    seam = given_seam(model)
    if seam is not None and seam.origin is not None:
        raise ValueError(_TWICE)
    plans = [] if path.plan is None else [path.plan]
    own = () if seam is None else seam.stages
    added = tuple(missing_in(own, as_stages([*path.stages, *plans])))
    return staged_model(model, added, False, origin=_Origin(path))


class _Origin:
    """Tells of a model what stands around it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def explain(self) -> Explanation:
        """Print what stands around this model, and why; return it."""
        notes: tuple[str, ...] = ()
        if self._path.plan is not None:
            notes = ("A model is paid from a run: call it inside of `with plan.run():`.",)
        explanation = Explanation(self._path.level, self._path.parts, notes)
        print(explanation)  # noqa: T201  that is what it is for
        return explanation
