"""A plan as middleware: its run begins and ends with the agent."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NotRequired,
    TypedDict,
    TypeVar,
    Unpack,
)

from langchain.agents.middleware import AgentState
from langchain.agents.middleware.types import (
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    OmitFromSchema,
)
from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from langchain_tokenopt.agents.agent_runs import AgentRuns
from langchain_tokenopt.agents.stage_middleware import StageMiddleware, with_signature
from langchain_tokenopt.budget.plan import BudgetPlan, check_plan
from langchain_tokenopt.budget.refusals import RefusedCall, said_refusal
from langchain_tokenopt.budget.run import BudgetRun, current_run
from langchain_tokenopt.chat_model.stages import as_stages
from langchain_tokenopt.core.argument_checks import did_you_mean
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.event_loop import done_beside_loop
from langchain_tokenopt.graph.node import answer_instead
from langchain_tokenopt.tools.budgeted_tool import BudgetedTool
from langchain_tokenopt.tools.tool_limits import ToolLimits, checked_limits

if TYPE_CHECKING:
    from langchain_tokenopt.budget.alerts import AlertCallback, BudgetAlert
    from langchain_tokenopt.budget.forecast_need import History
    from langchain_tokenopt.budget.performance import Performance
    from langchain_tokenopt.core.records import UsageSink
    from langchain_tokenopt.forecast import UsageForecaster
    from langchain_tokenopt.pricing.rate_card import RateCard

__all__ = ["REPORT", "RunOptions", "TokenBudgetMiddleware"]

Result = TypeVar("Result")
REPORT: Final = "token_budget"
"""Of the agent's result: the report of its run."""


class RunOptions(TypedDict, total=False):
    """What ``BudgetPlan.run`` takes besides the thread, which the agent knows."""

    user: str | None
    organization: str | None
    path: str | Path | None
    store: str | None
    sinks: Iterable[UsageSink]
    alert: BudgetAlert | AlertCallback | None
    forecaster: UsageForecaster | None
    history: History
    performance: Performance | None
    rate_card: RateCard | None
    on_store_error: Literal["closed", "open"]


class _BudgetedState(AgentState[Any]):
    """The state of an agent, and which run it is in."""

    tokenopt_budget: NotRequired[Annotated[dict[str, Any] | None, OmitFromSchema()]]


class _ReportedState(_BudgetedState):
    """And the report of that run, for whoever has called the agent."""

    token_budget: NotRequired[Annotated[dict[str, Any] | None, OmitFromSchema(output=False)]]


class TokenBudgetMiddleware(StageMiddleware):
    """A plan whose run begins and ends with the agent: its models and tools are paid from it.

    Each invocation is a run. An interrupted one is the same run when it is resumed, here or in
    another process: what was spent stands in the agent's checkpoints, or in a store. A plan
    ``per="thread"`` has one account for all turns of a conversation. Inside of ``plan.run()``, or
    of an agent under the same plan, the agent is part of that run.

    Where nothing is left, the agent ends with a message that says so: the last word of
    ``response_metadata["tokenopt_degraded"]`` is ``"answered in the model's place"``. With
    ``on_exceed="raise"`` it ends with ``BudgetExceededError``.

    Middleware that asks models around the agent's model or tools is paid where it stands behind;
    what asks them elsewhere, as summaries are made, where the agent is called inside of
    ``plan.run()``. Whatever cannot be charged is warned of when the agent is made.

    Args:
        plan: Whose run it is.
        tool_limits: Of each tool, or by the names of tools. Models that such tools call, and those
            whose names the plan has among its agents, are paid by an account of that name.
        report: Whether the result has the run's report, under ``"token_budget"``.
        observe: Change nothing, as for ``optimize``.
        run: As for ``BudgetPlan.run``.

    Raises:
        TypeError: *plan* is none, *tool_limits* are none, or ``BudgetPlan.run`` takes no such
            option.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_tokenopt.testing import ExtractiveChatModel
        >>> budget = TokenBudgetMiddleware(BudgetPlan(total_tokens=5_000), report=True)
        >>> agent = create_agent(ExtractiveChatModel(), middleware=[budget])
        >>> result = agent.invoke({"messages": [("user", "The sky is blue. Is it blue?")]})
        >>> 0 < result["token_budget"]["account"]["spent_tokens"] < 200
        True
    """

    def __init__(
        self,
        plan: BudgetPlan,
        *,
        tool_limits: ToolLimits | Mapping[str, ToolLimits] | None = None,
        report: bool = False,
        observe: bool = False,
        **run: Unpack[RunOptions],
    ) -> None:
        check_plan(plan)
        names = (*("tool_limits", "report", "observe"), *RunOptions.__annotations__)
        for unknown in run.keys() - set(names):
            raise TypeError(
                f"{type(self).__name__}() takes no {unknown!r}.{did_you_mean(unknown, names)} "
                f"It takes plan, {', '.join(names)}."
            )
        self._set(as_stages([plan]), observe)
        self.plan = plan
        self.report = report
        self.state_schema = _ReportedState if report else _BudgetedState
        self._runs = AgentRuns(plan, run)
        self._limits: Mapping[str, ToolLimits] = {}
        self._limits_of_all: ToolLimits | None = None
        if isinstance(tool_limits, Mapping):
            self._limits = {
                name: limits
                for name, given in tool_limits.items()
                if (limits := checked_limits(given, f"tool_limits of {name}")) is not None
            }
        else:
            self._limits_of_all = checked_limits(tool_limits, "tool_limits")
        self._budgeted: dict[str, tuple[BaseTool, BaseTool]] = {}

    def check_names(self, agent: str | None, tools: Sequence[str]) -> None:
        """Warn of limits of tools that the agent has not, and of slips in the plan's names."""
        for name in self._limits.keys() - set(tools):
            has = f"it has {', '.join(tools)}" if tools else "it has none"
            _warn(
                f"tool_limits name {name!r}, and the agent has no such tool when it is made: "
                f"{has}.{did_you_mean(name, tools)}"
            )
        planned, plan = self.plan.agents, f"the plan {self.plan.name!r}"
        meant = {_letters(name): name for name in planned}
        for tool in tools:
            if tool not in planned and (near := meant.get(_letters(tool))):
                _warn(f"{plan} has an agent {near!r}, and the tool is named {tool!r}.")
        if agent and agent not in planned and (question := did_you_mean(agent, planned)):
            _warn(f"{plan} has no agent {agent!r}.{question} It has {', '.join(planned)}.")

    # Beginning and end

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """Begin a run."""
        return self._runs.begin(state)

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """Begin a run."""
        return await self._off_the_loop(lambda: self._runs.begin(state))

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """End the run, and report where that is asked for."""
        run, update = self._runs.end(state)
        if self.report:
            update[REPORT] = None if run is None else run.report().as_dict()
        return update

    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """End the run, and report where that is asked for."""
        return await self._off_the_loop(lambda: self.after_agent(state, runtime))

    async def _off_the_loop(self, work: Callable[[], Result]) -> Result:
        return await done_beside_loop(work) if self._runs.blocking else work()

    # Models

    @with_signature
    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> Any:
        """Let the run pay for the model that is asked."""
        found = self._run_in(request.state)
        with _paid_by(found):
            try:
                _refuse_again(request.state)
                response = super().wrap_model_call(request, handler)
            except RefusedCall as refusal:
                response = _answered_instead(refusal)
            return self._with_spent(response, found)

    @with_signature
    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> Any:
        """Let the run pay for the model that is asked."""
        found = await self._off_the_loop(lambda: self._run_in(request.state))
        with _paid_by(found):
            try:
                _refuse_again(request.state)
                response = await super().awrap_model_call(request, handler)
            except RefusedCall as refusal:
                response = _answered_instead(refusal)
            return self._with_spent(response, found)

    def _run_in(self, state: Any) -> tuple[BudgetRun, str] | None:
        """Return the agent's own run; ``None`` where it is part of another."""
        return self._runs.here(state) if current_run() is None else None

    def _with_spent(self, response: Any, found: tuple[BudgetRun, str] | None) -> Any:
        """Have the checkpoint say what was spent."""
        if found is None:
            return response
        return ExtendedModelResponse(response, Command(update=self._runs.update(*found)))

    # Tools

    @with_signature
    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """Let the run pay for models that a tool asks."""
        with _paid_by(self._run_in(request.state)):
            return handler(self._with_account(request))

    @with_signature
    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Let the run pay for models that a tool asks."""
        found = await self._off_the_loop(lambda: self._run_in(request.state))
        with _paid_by(found):
            return await handler(self._with_account(request))

    def _with_account(self, request: ToolCallRequest) -> ToolCallRequest:
        """Return *request* with a tool that has an account of its own, where it is to have one."""
        tool = request.tool
        if tool is None:
            return request
        limits = self._limits.get(tool.name, self._limits_of_all)
        if limits is None and tool.name not in self.plan.agents:
            return request
        of, budgeted = self._budgeted.get(tool.name, (None, None))
        if of is not tool or budgeted is None:
            budgeted = BudgetedTool.wrap(tool, limits)
            self._budgeted[tool.name] = tool, budgeted
        return request.override(tool=budgeted)


def _warn(text: str) -> None:
    warnings.warn(text, TokenOptWarning, stacklevel=2)


def _letters(name: str) -> str:
    """Return what is left of a name by which it cannot be confused: neither case nor dashes."""
    return "".join(filter(str.isalnum, name)).casefold()


@contextmanager
def _paid_by(found: tuple[BudgetRun, str] | None) -> Iterator[None]:
    """Let this run pay for what is called inside; whoever pays here, if there is none."""
    if found is None:
        yield
    else:
        with found[0].inside():
            yield


def _refuse_again(state: Any) -> None:
    """Refuse an agent's model where what a hook wanted to ask before it was refused.

    Raises:
        RefusedCall: It was.
    """
    refusal = said_refusal(state) if current_run() is not None else None
    if refusal is not None:
        raise refusal


def _answered_instead(refusal: RefusedCall) -> ModelResponse[Any]:
    """Answer in the place of a model that was refused, so that the agent ends.

    Raises:
        BudgetExceededError: It would go on for ever.
    """
    run = current_run()
    assert run is not None  # who else has refused it?
    agent = attribution_of(ensure_config().get("metadata") or {}).agent
    return ModelResponse([answer_instead(run, agent, refusal)])
