"""What is raised for a refused call in a hook of an agent's middleware: the agent goes on.

Such a hook is a node of the agent's graph, around which nobody stands who could answer instead. So
the error itself tells LangGraph what the node answers: before the model, that it was refused; after
it nothing, since a message there would take the place of the answer, or stand between tools that
are called and their results.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, cast

from langchain_core.messages import AIMessage

from langchain_tokenopt.budget.budget_call import DEGRADED
from langchain_tokenopt.budget.refusals import RefusedCall, refused_call
from langchain_tokenopt.budget.rungs import Step
from langchain_tokenopt.core.errors import BudgetExceededError

__all__ = ["refused_call_in"]

_HOOK: Final = re.compile(r"\.(before|after)_(agent|model)$")
"""How ``create_agent`` ends the names of nodes that are hooks of its middleware."""


def refused_call_in(metadata: Mapping[str, Any], refusal: BudgetExceededError) -> RefusedCall:
    """Return what to raise for a refused call so that its run goes on.

    Args:
        metadata: Of the call's run.
        refusal: Why it is refused.
    """
    node = str(metadata.get("langgraph_node"))
    if _HOOK.search(node) and "langchain.agents.factory" in sys.modules:
        return _kind_in_hooks()(refusal, node)
    return refused_call(refusal)


@cache
def _kind_in_hooks() -> Callable[[BudgetExceededError, str], RefusedCall]:
    """Return the class to raise in a hook.

    LangGraph takes a ``ParentCommand`` that names the node itself for what the node returns
    (langgraph/pregel/_retry.py, LangGraph 1.0 to 1.2), and the state of agents has messages.
    """
    from langgraph.errors import ParentCommand
    from langgraph.types import Command

    def init(self: Any, refusal: BudgetExceededError, node: str) -> None:
        RefusedCall.__init__(self, refusal)
        self.text = str(refusal)
        said = []
        if "before" in node.rpartition(".")[2]:
            said = [AIMessage(self.message, response_metadata={DEGRADED: [Step.FINAL]})]
        self.args = (Command(graph=node, update={"messages": said}),)

    body = {"__module__": __name__, "__init__": init, "__str__": lambda self: self.text}
    made: Any = type("RefusedCall", (RefusedCall, ParentCommand), body)
    return cast("Callable[[BudgetExceededError, str], RefusedCall]", made)
