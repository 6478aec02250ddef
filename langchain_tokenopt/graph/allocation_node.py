"""The node that begins a run's budget in a graph that keeps it in its state."""

from __future__ import annotations

from typing import Any

from langchain_tokenopt.budget.plan import BudgetPlan
from langchain_tokenopt.graph.node import running
from langchain_tokenopt.graph.state import mirror_of, read_mirror, restore

__all__ = ["BudgetAllocationNode"]


class BudgetAllocationNode:
    """A node that begins a run's budget: it writes each agent's tokens and words into the state.

    Args:
        plan: The plan that is running.
        key: The state key of a :data:`~langchain_tokenopt.BudgetState` channel.

    Raises:
        NoBudgetRunError: When it is run outside of ``plan.run()``.

    Example:
        >>> from langgraph.graph import START, StateGraph
        >>> from typing import TypedDict
        >>> from langchain_tokenopt import BudgetState
        >>> State = TypedDict("State", {"budget": BudgetState})
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
        run = running(self.plan, "BudgetAllocationNode")
        mirror = read_mirror(state, self.key)
        if mirror is None:
            return None
        restore(run, mirror, self.key)
        shares = {
            agent: {"tokens": tokens, "words": self.plan.limits_of(agent).words}
            for agent, tokens in self.plan.shares(run.forecaster).items()
        }
        return {self.key: {**mirror_of(run), "allocation": shares}}
