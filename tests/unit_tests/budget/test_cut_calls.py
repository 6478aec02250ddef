"""Calls of tools that the budget's cap has cut off: left out, or completed where they are forms."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import PydanticToolsParser
from pydantic import BaseModel

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.budget.rungs import Step
from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.graph import budget_graph
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

WAYS = ("invoke", "ainvoke", "stream", "astream")
SHORT = "The old mole was mended in May."
LONG = " ".join(f"Bollard {number} was painted in the spring." for number in range(60))


class Ship(BaseModel):
    """A ship that is named in a text."""

    name: str
    remarks: str
    masts: int = 0


def _calls(tool: str, arguments: list[dict[str, Any]]) -> Reply:
    return Reply(
        tool_calls=[ToolCall(tool, each, id=f"c{at}") for at, each in enumerate(arguments)]
    )


def _asked(model: Any, asked: Any, way: str) -> Any:
    if way == "ainvoke":
        return asyncio.run(model.ainvoke(asked))
    if way == "invoke":
        return model.invoke(asked)
    pieces = list(model.stream(asked)) if way == "stream" else asyncio.run(_all(model, asked))
    whole, *others = pieces
    for piece in others:
        whole += piece
    return whole


async def _all(model: Any, asked: Any) -> list[Any]:
    return [piece async for piece in model.astream(asked)]


def _model(server: ModelServer, way: str) -> BaseChatModel:
    return server.chat_openai(model=f"ft:gpt-4.1-mini:{way}", streaming="stream" in way)


@pytest.mark.parametrize("way", WAYS)
def test_no_tool_is_called_with_half_of_its_arguments(model_server: ModelServer, way: str) -> None:
    """What the cap has cut off is not done; what stands before it is, and the model goes on."""
    done: list[tuple[str, str]] = []

    def file(title: str, text: str) -> str:
        """File a note."""
        done.append((title, text))
        return "It is filed."

    def answer(request: Request) -> Reply:
        if any(message["role"] == "tool" for message in request.body["messages"]):
            return Reply(text="The note is filed.")
        notes = [{"title": "mole", "text": SHORT}, {"title": "bollards", "text": LONG}]
        return _calls("file", notes)

    model_server.answer = answer
    plan = BudgetPlan(total_tokens=100_000, max_output_tokens_per_call=100)
    graph = budget_graph(create_agent(optimize(_model(model_server, way), plan), [file]), plan)
    asked = {"messages": [("user", "File what you know.")]}
    with plan.run() as run:
        if way == "invoke":
            state = graph.invoke(asked)
        elif way == "ainvoke":
            state = asyncio.run(graph.ainvoke(asked))
        elif way == "stream":
            *_, state = graph.stream(asked, stream_mode="values")
        else:

            async def last() -> Any:
                return [each async for each in graph.astream(asked, stream_mode="values")][-1]

            state = asyncio.run(last())

    assert done == [("mole", SHORT)]
    assert state["messages"][-1].text == "The note is filed."
    assert Step.NO_CALL in str(run.report())


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_is_cut_off_alone_is_said(model_server: ModelServer, way: str) -> None:
    """An answer of nothing says nothing: neither an empty text nor three dots."""
    model_server.answer = lambda request: _calls("file", [{"title": "all", "text": LONG}])
    plan = BudgetPlan(total_tokens=100_000, max_output_tokens_per_call=60)
    tool = {"name": "file", "parameters": {"type": "object", "properties": {"title": {}}}}
    model = optimize(_model(model_server, way), plan).bind_tools(
        [{"type": "function", "function": tool}]
    )
    with plan.run():
        message = _asked(model, "File it.", way)

    assert "did not fit into the budget" in message.text
    assert not message.tool_calls


@pytest.mark.parametrize("choice", [None, "any", "Ship"])
@pytest.mark.parametrize("way", WAYS)
def test_objects_before_one_that_is_cut_are_kept(
    model_server: ModelServer, way: str, choice: str | None
) -> None:
    """Forms are read and not done: those that are whole stay, and the last is completed."""
    ships = [{"name": "Heron", "remarks": SHORT}, {"name": "Tern", "remarks": SHORT, "masts": 2}]
    model_server.answer = lambda request: _calls(
        "Ship", [*ships, {"name": "Gull", "remarks": LONG}]
    )
    plan = BudgetPlan(total_tokens=100_000, max_output_tokens_per_call=120)
    bound = {} if choice is None else {"tool_choice": choice}
    model = optimize(_model(model_server, way), plan).bind_tools([Ship], **bound)
    with plan.run():
        message = _asked(model, "Heron, Tern and Gull lie at the quay.", way)
    read = PydanticToolsParser(tools=[Ship]).invoke(AIMessage("", tool_calls=message.tool_calls))

    assert [Ship(**each) for each in ships] == read[:2]
    assert (read[2].name, read[2].remarks[-1]) == ("Gull", ".")
    assert LONG.startswith(read[2].remarks)


@pytest.mark.parametrize("choice", [None, "Ship"])
def test_what_is_to_be_read_is_shortened_before_nothing_is_read(
    model_server: ModelServer, choice: str | None
) -> None:
    """Forms are not taken away for a text that nobody reads: what they are read from is cut."""
    heron = {"name": "Heron", "remarks": SHORT}
    said = " ".join(f"Bollard {number} was painted in the spring." for number in range(40))
    model_server.answer = lambda request: (
        _calls("Ship", [heron]) if request.body.get("tools") else Reply(text="It is a quiet day.")
    )
    bound = {} if choice is None else {"tool_choice": choice}
    asked = f"It rained. {said} The Heron lies at the quay."
    model_server.chat_openai().bind_tools([Ship], **bound).invoke(asked)
    need = model_server.billed[0].total_tokens
    plan = BudgetPlan(total_tokens=round(0.9 * need))
    model = optimize(_model(model_server, str(choice)), plan).bind_tools([Ship], **bound)
    with plan.run():
        message = model.invoke(asked)
    (sent,) = model_server.requests[1:]

    assert [heron] == [call["args"] for call in message.tool_calls]
    assert model_server.billed[1].total_tokens <= plan.total_tokens < need
    assert "The Heron lies at the quay." in sent.texts[0]
