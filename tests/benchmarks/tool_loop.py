"""A scripted agent that needs certain tools, and what its loop cost: for all who select tools.

Imports nothing but LangChain: rivals run it in an environment of their own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool

from tests.judge.tools_model import Call, ScriptedToolModel, call

__all__ = ["Cost", "Errand", "base_tool", "cost_of", "worker"]

ASKS = ("find_more_tools", "retrieve_tools")
DONE = "finished"
STUCK = "I have no tool for that."
Count = Callable[[str], int]


@dataclass(frozen=True)
class Errand:
    """What a user asks, the tools that it takes, and how the agent would describe each of them."""

    question: str
    needed: tuple[str, ...]
    words: dict[str, list[str]]

    def as_json(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)


def base_tool(name: str, text: str, parameters: dict[str, Any]) -> StructuredTool:
    """A tool that says that it was called."""

    def run(**arguments: Any) -> str:
        return f"done: {name}"

    return StructuredTool(name=name, description=text, args_schema=parameters, func=run)


def worker(errands: Sequence[Errand]) -> Callable[[Call], AIMessage]:
    """A model that calls what is needed, one after the other; what it cannot see it asks for.

    It asks in the words of the errand, one wording after the other, and gives up after the last.
    """
    by_question = {errand.question: errand for errand in errands}

    def step(asked: Call) -> AIMessage:
        said = asked.messages
        errand = by_question[next(str(m.content) for m in said if isinstance(m, HumanMessage))]
        done = {str(m.content) for m in said if isinstance(m, ToolMessage)}
        left = [name for name in errand.needed if f"done: {name}" not in done]
        if not left:
            return AIMessage(DONE)
        ident = f"call{len(said)}"
        for name in left:
            if name in asked.names:
                return call(name, id=ident)
        offers = [name for name in ASKS if name in asked.names]
        tried = sum(_asks_for(left[0], errand, message) for message in said)
        if not offers or tried >= len(errand.words[left[0]]):
            return AIMessage(STUCK)
        return call(offers[0], id=ident, query=errand.words[left[0]][tried])

    return step


def _asks_for(name: str, errand: Errand, message: BaseMessage) -> int:
    made = message.tool_calls if isinstance(message, AIMessage) else []
    return sum(
        each["name"] in ASKS and each["args"].get("query") in errand.words[name] for each in made
    )


@dataclass(frozen=True)
class Cost:
    """What one errand took."""

    finished: bool
    model_calls: int
    tool_tokens: int
    """Of the schemas that the main model was sent, all calls together."""
    steps: int
    """Pairs of consecutive calls of the main model."""
    kept_prefix: int
    """Those of them in which the later list of tools begins with the earlier one."""
    other_calls: int = 0
    """Calls of another model, which chooses tools."""
    other_tokens: int = 0
    """What that one was sent."""


def cost_of(messages: Sequence[BaseMessage], asked: Sequence[Call], count: Count) -> Cost:
    """Sum up the calls of the main model."""
    lists = [[json.dumps(tool) for tool in each.tools] for each in asked]
    pairs = list(itertools.pairwise(lists))
    return Cost(
        finished=bool(messages) and messages[-1].content == DONE,
        model_calls=len(asked),
        tool_tokens=sum(count(tool) for tools in lists for tool in tools),
        steps=len(pairs),
        kept_prefix=sum(after[: len(before)] == before for before, after in pairs),
    )


def summed(costs: Sequence[Cost]) -> dict[str, Any]:
    """Means over errands, and sums over their steps."""
    if not costs:
        return {}
    n, steps = len(costs), sum(each.steps for each in costs)
    return {
        "errands": n,
        "finished": sum(each.finished for each in costs),
        "model_calls": round(sum(each.model_calls for each in costs) / n, 2),
        "tool_tokens": round(sum(each.tool_tokens for each in costs) / n),
        "other_calls": round(sum(each.other_calls for each in costs) / n, 2),
        "other_tokens": round(sum(each.other_tokens for each in costs) / n),
        "steps": steps,
        "kept_prefix": sum(each.kept_prefix for each in costs),
    }


def model_for(errands: Sequence[Errand]) -> ScriptedToolModel:
    """The worker as a chat model."""
    return ScriptedToolModel(script=[worker(errands)])
