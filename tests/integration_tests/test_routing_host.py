"""The router through the real hosts: chains, agents, several providers, resumed threads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_tokenopt import (
    BudgetPlan,
    ModelRouter,
    ModelRoutingMiddleware,
    RateCard,
    StageMiddleware,
    optimize,
    track_usage,
)
from langchain_tokenopt.core.usage import Usage
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

EASY = "What is the capital of France?"
HARD = (
    "Urgent: production is down. Analyse why the deployment fails, compare 3 ways to repair it, "
    "and plan the steps; each must work without a restart."
)


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return f"{word}: a word"


class Verdict(BaseModel):
    """A verdict."""

    good: bool


def asked(server: ModelServer) -> list[str]:
    """The models that were asked, in order."""
    return [request.model for request in server.requests]


def looks_up(request: Request) -> Reply:
    """Call the tool, then answer."""
    roles = [message["role"] for message in request.body["messages"]]
    if roles[-1] == "tool":
        return Reply(text="It is a word.")
    return Reply(tool_calls=[ToolCall("lookup", {"word": "x"}, id=f"c{len(roles)}")])


@pytest.fixture
def openai(model_server: ModelServer) -> dict[str, Any]:
    return {
        "cheap": model_server.chat_openai(model="gpt-4.1-nano"),
        "strong": model_server.chat_openai(model="gpt-4.1"),
    }


@pytest.mark.parametrize("form", ["invoke", "stream", "ainvoke", "astream"])
def test_each_request_asks_the_model_it_is_for(
    model_server: ModelServer, openai: dict[str, Any], form: str
) -> None:
    """In every way of calling; the record, its price and the bill are those of that model."""
    model = optimize(openai["strong"], ModelRouter(openai))

    async def collected(question: str) -> None:
        async for _ in model.astream(question):
            pass

    with track_usage() as usage:
        for question in (EASY, HARD):
            if form == "invoke":
                model.invoke(question)
            elif form == "stream":
                list(model.stream(question))
            else:
                asyncio.run(
                    model.ainvoke(question) if form == "ainvoke" else collected(question)  # type: ignore[arg-type]
                )

    assert ["gpt-4.1-nano", "gpt-4.1"] == asked(model_server)
    assert ["gpt-4.1-nano", "gpt-4.1"] == [record.model for record in usage.records]
    card = RateCard()
    for record in usage.records:
        assert (
            record.cost_nano_usd == card.price(record.usage, record.model, "openai").cost_nano_usd
        )


def test_a_budget_is_charged_with_the_price_of_the_model_that_answers(
    model_server: ModelServer, openai: dict[str, Any]
) -> None:
    """The cheap one's, though the call was made for the strong one."""
    model_server.script(Reply(usage=Usage(1_000, 100)))
    plan = BudgetPlan(total_tokens=100_000, total_usd=1)
    with plan.run() as run:
        optimize(openai["strong"], ModelRouter(openai), plan).invoke(EASY)

    expected = RateCard().price(Usage(1_000, 100), "gpt-4.1-nano", "openai").cost_nano_usd
    assert expected == run.report().account.spent_nano_usd


def test_tools_and_schemas_go_to_another_provider_in_its_own_format(
    model_server: ModelServer,
) -> None:
    """Bound to the one that is called, answered by the other, read by the first one's parser."""
    claude = model_server.chat_anthropic(model="claude-haiku-4-5")
    gpt = model_server.chat_openai(model="gpt-4.1")
    model = optimize(gpt, ModelRouter([claude, gpt]))

    model_server.script(Reply(tool_calls=[ToolCall("lookup", {"word": "x"})]))
    answer = model.bind_tools([lookup]).invoke(EASY)
    model_server.script(Reply(tool_calls=[ToolCall("Verdict", {"good": True})]))
    verdict = model.with_structured_output(Verdict, method="function_calling").invoke(EASY)

    assert [("lookup", {"word": "x"})] == [(c["name"], c["args"]) for c in answer.tool_calls]
    assert Verdict(good=True) == verdict
    assert ["claude-haiku-4-5"] * 2 == asked(model_server)
    first, second = (request.body["tools"][0] for request in model_server.requests)
    assert ("lookup", "Verdict") == (first["name"], second["name"])
    assert "word" in first["input_schema"]["properties"]
    assert "tool" == model_server.requests[1].body["tool_choice"]["type"]


def test_a_form_of_one_provider_alone_stays_with_its_models(model_server: ModelServer) -> None:
    """OpenAI's response format means nothing to Anthropic's class."""
    claude = model_server.chat_anthropic(model="claude-haiku-4-5")
    gpt = model_server.chat_openai(model="gpt-4.1")
    model = optimize(gpt, ModelRouter([claude, gpt]))
    model_server.script(Reply(text='{"good": true}'))

    assert Verdict(good=True) == model.with_structured_output(Verdict).invoke(EASY)
    assert ["gpt-4.1"] == asked(model_server)


@pytest.mark.parametrize("way", ["optimize", "middleware"])
def test_a_tool_loop_stays_with_the_model_that_has_begun_it(
    model_server: ModelServer, openai: dict[str, Any], way: str
) -> None:
    """Each turn is decided anew, and none of its calls goes elsewhere."""
    model_server.answer = looks_up
    if way == "optimize":
        agent: Any = create_agent(optimize(openai["strong"], ModelRouter(openai)), [lookup])
    else:
        routing = ModelRoutingMiddleware(openai)
        agent = create_agent(openai["strong"], [lookup], middleware=[routing])

    first = agent.invoke({"messages": [("user", EASY)]})
    agent.invoke({"messages": [*first["messages"], ("user", HARD)]})

    assert ["gpt-4.1-nano"] * 2 + ["gpt-4.1"] * 2 == asked(model_server)


def test_a_loop_goes_on_with_its_model_in_another_process(
    model_server: ModelServer, openai: dict[str, Any]
) -> None:
    """Another router knows from the checkpoint who has begun it, whatever it would choose."""
    model_server.answer = looks_up
    saver, config = InMemorySaver(), {"configurable": {"thread_id": "t"}}
    for policy in ("cheap", 1.0):
        routing = StageMiddleware(ModelRouter(openai, policy=policy))
        agent: Any = create_agent(
            openai["strong"], [lookup], middleware=[routing], checkpointer=saver,
            interrupt_before=["tools"],
        )  # fmt: skip
        agent.invoke({"messages": [("user", EASY)]} if policy == "cheap" else None, config)

    assert ["gpt-4.1-nano"] * 2 == asked(model_server)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"tokenopt_tier": "cheap"}, "gpt-4.1-nano"),
        ({"model_name": "gpt-4.1-nano-2025-04-14"}, "gpt-4.1-nano"),
        ({"model_name": "gpt-4.1-2025-04-14"}, "gpt-4.1"),
        ({}, "gpt-4.1"),
    ],
    ids=["mark", "provider's name", "another's name", "nothing said"],
)
def test_who_has_begun_a_loop_stands_in_its_messages(
    model_server: ModelServer, openai: dict[str, Any], metadata: dict[str, str], expected: str
) -> None:
    """By our mark or the provider's name; where nothing is said the strongest goes on."""
    call = {"name": "lookup", "args": {"word": "x"}, "id": "c1"}
    history = [
        HumanMessage(EASY),
        AIMessage("", tool_calls=[call], response_metadata=metadata),  # type: ignore[list-item]
        ToolMessage("x: a word", tool_call_id="c1"),
    ]
    optimize(openai["strong"], ModelRouter(openai)).bind_tools([lookup]).invoke(history)

    assert [expected] == asked(model_server)
