"""What stands in one list of middleware, and whether it can work together.

Middleware is made by itself and learns of no other. ``create_agent`` has all of it in hand when it
reads the first attribute, so there mistakes can be named where they are made.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

from langchain.agents.middleware import AgentMiddleware
from langchain_core.language_models import BaseChatModel

from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.chat_model.optimize import put_inside
from langchain_tokenopt.chat_model.staged_model import staged_view
from langchain_tokenopt.chat_model.stages import refuse_contradictions
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.routing import ModelRouter

__all__ = ["check_neighbours"]


class _AgentInTheMaking(NamedTuple):
    model: Any
    middleware: list[Any]
    name: str | None
    tools: tuple[str, ...]


def check_neighbours(own: Any) -> None:
    """Compare the middleware of the agent that is being made, if one is; once, by our first one.

    Raises:
        TypeError: The agent's model is none that stages can stand around.
        ValueError: Stages contradict each other, or no model of a router can call the tools.
    """
    agent = _agent_in_the_making()
    ours = [m for m in agent.middleware if hasattr(m, "stages")] if agent else []
    if agent is None or ours[:1] != [own]:
        return
    given = (stage for middleware in ours for stage in middleware.stages)
    stages = tuple(sorted(given, key=lambda stage: stage.phase))
    refuse_contradictions(stages)
    put_inside(agent.model, partial(staged_view, stages=stages))
    if agent.tools:
        put_inside(agent.model, _warned_of_tools)
    for middleware in ours:
        middleware.check_names(agent.name, agent.tools)
    for stage in stages:
        if isinstance(stage, ModelRouter):
            stage.check_agent(bool(agent.tools))
    budget = next((m for m in ours if any(isinstance(s, BudgetStage) for s in m.stages)), None)
    if budget is not None:
        _warn_of_unpaid(budget, agent.middleware)


def _warned_of_tools(model: BaseChatModel) -> BaseChatModel:
    """Say that the agent's tools are of no use to *model*, where that is known."""
    profile = getattr(model, "profile", None) or {}
    bindable = type(model).bind_tools is not BaseChatModel.bind_tools
    if not bindable or profile.get("tool_calling") is False:
        _warn(
            f"the agent has tools, and {model_name_of(model)} cannot call "
            f"any: {'its profile says so' if bindable else 'it has no bind_tools'}. Give the "
            f"agent a model that can, or no tools."
        )
    return model


def _warn_of_unpaid(budget: Any, middleware: list[Any]) -> None:
    """Name models that middleware asks by itself, where the run of a plan does not reach."""
    for one in middleware:
        if not isinstance(getattr(one, "model", None), BaseChatModel):
            continue
        name, mend = type(one).__name__, ""
        if _defines(one, "wrap_model_call", "wrap_tool_call"):
            if middleware.index(one) > middleware.index(budget):
                continue
            mend = f"put {budget.name} before it, or "
        _warn(
            f"{name} asks a model by itself, which {budget.name} cannot charge: {mend}call the "
            f"agent inside 'with plan.run():', and all of it is one run."
        )


def _warn(text: str) -> None:
    warnings.warn(text, TokenOptWarning, stacklevel=2)


def _defines(middleware: Any, *hooks: str) -> bool:
    """Whether a class has any of these hooks, sync or async, itself."""
    return any(
        getattr(type(middleware), name) is not getattr(AgentMiddleware, name)
        for hook in hooks
        for name in (hook, f"a{hook}")
    )


def _agent_in_the_making() -> _AgentInTheMaking | None:
    """Return what ``create_agent`` has been given, if it is what asks; else ``None``.

    It hands the list to nobody: it is a variable of its frame (``langchain/agents/factory.py``,
    langchain 1.2 to 1.5). Where that is not so, nothing is compared, and what contradicts itself
    is said by the first call.
    """
    frame: FrameType | None = sys._getframe(3)
    if frame is not None and frame.f_code.co_name == "<listcomp>":  # Python 3.11
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "create_agent":
        return None
    given = frame.f_locals
    model, middleware = given.get("model"), given.get("middleware")
    if model is None or middleware is None:
        return None
    others = (m for m in middleware if not hasattr(m, "stages"))  # ours ask who is asking
    tools = [given.get("tools"), *(getattr(other, "tools", None) for other in others)]
    names = tuple(_name_of_tool(tool) for some in tools for tool in _listed(some))
    return _AgentInTheMaking(model, list(middleware), given.get("name"), names)


def _listed(tools: Any) -> Iterable[Any]:
    """Return tools; of what is no list of them, LangChain will complain."""
    return tools if isinstance(tools, Iterable) else ()


def _name_of_tool(tool: Any) -> str:
    """Return the name of a tool, a function, or the schema of either."""
    if isinstance(tool, Mapping):
        declared = tool.get("function", tool)
        return str(declared.get("name", tool.get("type")))
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", tool))
