"""What is raised for a call that a handler refuses: an error that the host turns into an answer.

A handler can stop a call only by an error. Under ``on_exceed="degrade"`` that must not end the
whole graph: a tool whose model was refused says so to the agent, and a node with messages answers
so itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from langchain_core.runnables.config import ensure_config
from langchain_core.tools import ToolException

from langchain_tokenopt.core.errors import BudgetExceededError

__all__ = ["AGENT_KEY", "RefusedCall", "in_shortening_hook", "refused_call", "said_refusal"]

AGENT_KEY: Final = "tokenopt_budget"
"""Channel of an agent whose middleware has a budget."""
_REFUSED: Final = "refused"
_READ: Final = "__pregel_read"
"""Under which LangGraph gives a node its channels (LangGraph 1.0 to 1.2)."""


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


def refused_call(refusal: BudgetExceededError, asked: str = "") -> RefusedCall:
    """Return what to raise for a refused call so that its run goes on.

    Args:
        refusal: Why it is refused.
        asked: The text of the last message that was to be sent.
    """
    error = _kind("langgraph.prebuilt.tool_node" in sys.modules)(refusal)
    if in_shortening_hook():
        if _writes_errors() and asked:
            error.message = _unsummed(asked)
        return _left_out(error, {})
    if not _in_hook_of_agent():
        return error
    fields = {key: value for key, value in vars(error).items() if key != "args"}
    return _left_out(error, {AGENT_KEY: {_REFUSED: {"text": str(error), "fields": fields}}})


def said_refusal(state: Mapping[str, Any]) -> RefusedCall | None:
    """Return the refusal of what a hook of this agent has asked; ``None``: there was none."""
    said = (state.get(AGENT_KEY) or {}).get(_REFUSED)
    return None if said is None else RefusedCall._restored(said["text"], said["fields"])


def in_shortening_hook() -> bool:
    """Whether this is a hook that does nothing but to shorten what its agent's model is sent.

    Where its model cannot be paid it is left out, and the budget shortens what is sent: a text that
    says why there is no summary would stand in the place of the conversation, question and all.
    """
    return _node() in _SHORTENING


_SHORTENING: Final = frozenset({"SummarizationMiddleware.before_model"})


@cache
def _writes_errors() -> bool:
    """Whether the host writes the text of any error in the place of a summary (LangChain 1.2).

    Then nothing that is raised leaves the hook out, and the text has to say what it stands for.
    """
    module = sys.modules.get("langchain.agents.middleware.summarization")
    asks = getattr(getattr(module, "SummarizationMiddleware", None), "_create_summary", None)
    texts = getattr(getattr(asks, "__code__", None), "co_consts", ())
    return any(str(text).startswith("Error generating summary") for text in texts)


def _unsummed(prompt: str) -> str:
    """Return the conversation that a prompt asks to be summed up, as material of its last question.

    So it is shortened like any other prompt where it has to be.
    """
    _, _, marked = prompt.rpartition("<messages>")
    text = marked.replace("</messages>", "").replace("Messages to summarize:", "").strip()
    asked = [turn.strip() for turn in _HUMAN.findall(text) if turn.strip()]
    question = asked[-1].rpartition("\n\n")[2] if asked else ""
    return f"The budget has none left for it.\n<turns>\n{text}\n</turns>\n\n{question}".strip()


_HUMAN: Final = re.compile(r"^Human: (.*?)(?=^(?:Human|AI|Tool|System): |\Z)", re.S | re.M)
"""A turn of the user's, as LangChain writes conversations."""


def _node() -> str:
    """Return the node that is at work here; metadata of a caller's own take the place of its."""
    config = ensure_config()
    node = (config.get("metadata") or {}).get("langgraph_node")
    place = str((config.get("configurable") or {}).get("checkpoint_ns") or "")
    return str(node or place.rpartition("|")[2].partition(":")[0])


def _in_hook_of_agent() -> bool:
    """Whether this is a hook before an agent's model, whose middleware will hear of a refusal.

    Nothing can be put in the place of what a hook wanted to know, such as whether a request is
    safe. So the hook is left out, and the agent's model is not asked either.
    """
    read = (ensure_config().get("configurable") or {}).get(_READ)
    if not _node().endswith(".before_model") or read is None:
        return False
    try:
        read([AGENT_KEY])
    except Exception:  # noqa: BLE001  there is no such channel
        return False
    return True


def _left_out(refusal: RefusedCall, update: Mapping[str, Any]) -> RefusedCall:
    """Return an error that ends the node as if it had returned *update*."""
    from langgraph.errors import ParentCommand
    from langgraph.types import Command

    kind: Any = type(refusal)
    left: RefusedCall = _leaving(kind, ParentCommand)(refusal)
    left.message = refusal.message
    left.args = (Command(graph=_node(), update=dict(update)),)
    return left


@cache
def _leaving(kind: type[RefusedCall], parent_command: type[Exception]) -> type[RefusedCall]:
    body = {"__module__": __name__, "__str__": lambda self: self.message}
    return type("RefusedCall", (kind, parent_command), body)


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
