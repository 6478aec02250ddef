"""What is raised for a call that a handler refuses: an error that the host turns into an answer.

A handler can stop a call only by an error. Under ``on_exceed="degrade"`` that must not end the
whole graph: a tool whose model was refused says so to the agent, and a node with messages answers
so itself.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from langchain_core.tools import ToolException

from langchain_tokenopt.core.errors import BudgetExceededError

__all__ = ["RefusedCall", "refused_call"]


class RefusedCall(BudgetExceededError, ToolException):  # noqa: N818  no error ends the run
    """A call of an unstaged model was refused, and the run goes on.

    It is a ``BudgetExceededError`` and, to whatever runs tools, the message of a tool that could
    not do its work: ``ToolNode``, and so ``create_agent``, passes it on to the model.
    """

    def __init__(self, refusal: BudgetExceededError) -> None:
        Exception.__init__(self, str(refusal))
        self.__dict__.update(refusal.__dict__)
        self.message = f"[No answer: {refusal}]"

    def __reduce__(self) -> tuple[Any, ...]:
        return RefusedCall._restored, (str(self), self.__dict__)

    @staticmethod
    def _restored(text: str, fields: dict[str, Any]) -> RefusedCall:
        restored = RefusedCall.__new__(RefusedCall, text)
        restored.__dict__.update(fields)
        return restored


def refused_call(refusal: BudgetExceededError) -> RefusedCall:
    """Return what to raise for a refused call so that its run goes on."""
    return _kind("langgraph.prebuilt.tool_node" in sys.modules)(refusal)


@cache
def _kind(has_tool_node: bool) -> type[RefusedCall]:
    """Return the class to raise.

    ``ToolNode`` by default answers with the message of its own ``ToolInvocationError`` and raises
    every other error again (langgraph/prebuilt/tool_node.py, LangGraph 1.0 to 1.2).
    """
    if not has_tool_node:
        return RefusedCall
    from langgraph.prebuilt.tool_node import ToolInvocationError

    return type("RefusedCall", (RefusedCall, ToolInvocationError), {"__module__": __name__})
