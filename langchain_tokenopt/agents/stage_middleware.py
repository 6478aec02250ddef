"""Stages around the model of an agent that ``create_agent`` makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import signature
from typing import Any, TypeVar

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.caches import BaseCache
from langchain_core.tools import BaseTool

from langchain_tokenopt.agents.neighbours import check_neighbours
from langchain_tokenopt.agents.staged_request import StagedRequest, Views
from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.budget.stage import BudgetStage
from langchain_tokenopt.chat_model.presets import stages_of
from langchain_tokenopt.chat_model.stages import (
    as_stages,
    missing_in,
    name_of_stage,
    refuse_contradictions,
)
from langchain_tokenopt.core.levels import Level
from langchain_tokenopt.stage import Stage, StageGroup

__all__ = ["StageMiddleware", "with_signature"]

Hook = TypeVar("Hook", bound=Callable[..., Any])


def with_signature(hook: Hook) -> Hook:
    """Write down the signature of a hook: LangChain's tracing asks for it in every call."""
    hook.__signature__ = signature(hook)  # type: ignore[attr-defined]
    return hook


class StageMiddleware(AgentMiddleware[Any, Any, Any]):
    """Any stages as middleware: the agent behaves as one whose model went through ``optimize``.

    Several can stand in one list, in any order and among LangChain's own: stages sort themselves,
    and whichever model the others choose, goes through them. What cannot work together is said
    when the agent is made.

    Args:
        stages: As for ``optimize``; a plan goes into a :class:`TokenBudgetMiddleware`.
        level: As for ``optimize``.
        observe: As for ``optimize``.

    Raises:
        TypeError: A stage is no stage, or a plan.
        ValueError: Stages contradict each other, or there is no such level.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_tokenopt import PromptCompressor, WordLimit
        >>> from langchain_tokenopt.testing import ExtractiveChatModel
        >>> shorter = StageMiddleware(WordLimit(6), PromptCompressor(keep=0.5))
        >>> agent = create_agent(ExtractiveChatModel(), middleware=[shorter])
        >>> asked = "<notes>It rained all day. Ada won by a minute.</notes> Who won?"
        >>> agent.invoke({"messages": [("user", asked)]})["messages"][-1].text
        'Ada won by a minute.'
    """

    def __init__(
        self,
        *stages: Stage | StageGroup | BudgetPlan | BaseCache,
        level: Level | None = None,
        observe: bool = False,
    ) -> None:
        own = as_stages(stages)
        made = (*own, *missing_in(own, stages_of(level or "none")))
        if any(isinstance(stage, BudgetStage) for stage in made):
            raise TypeError(
                "a plan needs a run, which begins and ends with the agent: "
                "TokenBudgetMiddleware(plan)."
            )
        self._set(made, observe)

    def _set(self, stages: tuple[Stage, ...], observe: bool) -> None:
        self.stages = tuple(sorted(stages, key=lambda stage: stage.phase))
        self.observe = observe
        self._views = Views()
        refuse_contradictions(self.stages)

    @property
    def name(self) -> str:
        """The name in traces; an agent takes one middleware of each."""
        own = type(self).__name__
        return own if type(self) is not StageMiddleware else f"{own}({', '.join(self._names())})"

    def _names(self) -> list[str]:
        return [name_of_stage(stage) for stage in self.stages]

    @property
    def tools(self) -> Sequence[BaseTool]:  # type: ignore[override]
        """None; but ``create_agent`` asks for them first, with the whole list before it."""
        check_neighbours(self)
        return ()

    def check_names(self, agent: str | None, tools: Sequence[str]) -> None:
        """Warn where settings name what an agent of this name and with these tools has not."""

    @with_signature
    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> Any:
        """Put the stages around the model that is asked."""
        return handler(StagedRequest.of(request, self.stages, self.observe, self._views))

    @with_signature
    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> Any:
        """Put the stages around the model that is asked."""
        return await handler(StagedRequest.of(request, self.stages, self.observe, self._views))
