"""A model that is shown some of its tools, in real agents and graphs, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_tokenopt import ToolSelector, optimize, track_usage
from tests.support.forty_tools import FORTY, shown_in
from tests.support.model_server import ModelServer, Reply, ToolCall

PROVIDERS = ["chat_openai", "chat_anthropic", "chat_gemini"]
INVOICES = [f"{verb}_invoice" for verb in ("create", "find", "delete", "update")]
SEARCH = ToolCall("find_more_tools", {"query": "the weather forecast"})
FORECAST = ToolCall("find_weather", {"what": "Oslo"})


def selector(**settings):
    """A selector without an embedder, which shows four tools a turn."""
    return ToolSelector(**({"max_tools": 4, "embeddings": False} | settings))


def asked(text="Delete the invoice 17"):
    return {"messages": [("user", text)]}


def run(agent, text, how):
    """Run an agent in one of four ways; return its messages, and all that was streamed."""
    if how == "invoke":
        return agent.invoke(asked(text))["messages"], []
    if how == "ainvoke":
        return asyncio.run(agent.ainvoke(asked(text)))["messages"], []
    streamed, state = [], {}
    if how == "stream":
        for mode, value in agent.stream(asked(text), stream_mode=["messages", "values"]):
            streamed += [value[0]] if mode == "messages" else []
            state = value if mode == "values" else state
        return state["messages"], streamed

    async def stream():
        nonlocal state
        async for mode, value in agent.astream(asked(text), stream_mode=["messages", "values"]):
            streamed.extend([value[0]] if mode == "messages" else [])
            state = value if mode == "values" else state

    asyncio.run(stream())
    return state["messages"], streamed


HOWS = ["invoke", "ainvoke", "stream", "astream"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_agent_is_shown_few_tools_and_finds_the_others(model_server: ModelServer, provider, how):
    """The model searches; the application sees the call of what was found, and nothing else."""
    model_server.script(
        Reply(text="Let me look.", tool_calls=[SEARCH]),
        Reply(text="", tool_calls=[FORECAST]),
        Reply(text="It rains."),
    )
    agent = create_agent(optimize(getattr(model_server, provider)(), selector()), FORTY)
    with track_usage() as usage:
        messages, streamed = run(agent, "Delete the invoice 17", how)
    first, second, third = [shown_in(request.body) for request in model_server.requests]
    assert first == ["find_more_tools", *INVOICES]
    assert second[:5] == first
    assert "find_weather" in second
    assert third == second
    assert [type(message) for message in messages] == [
        HumanMessage,
        AIMessage,
        ToolMessage,
        AIMessage,
    ]
    assert [call["name"] for call in messages[1].tool_calls] == ["find_weather"]
    assert messages[2].content == "find weather Oslo of the user: done"
    assert messages[3].text == "It rains."
    assert "find_more_tools" not in repr(messages) + repr(streamed)
    called = usage.records[0].tool_choice
    assert called.called == ("find_weather",)
    assert called.searches == 1
    assert "find_weather" in called.found
    if provider != "chat_openai" or "stream" not in how:  # there no usage is streamed
        billed = model_server.billed
        assert (
            usage.records[0].usage.input_tokens == billed[0].input_tokens + billed[1].input_tokens
        )
        assert usage.totals().output_tokens == sum(each.output_tokens for each in billed)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_beginning_of_the_tools_keeps_its_bytes_over_a_loop(model_server, provider):
    """Six calls of one turn, with a search in between: each begins with what the last one had."""
    calls = [ToolCall(name, {"what": str(n)}) for n, name in enumerate(INVOICES)]
    replies = [Reply(text="", tool_calls=[call]) for call in (*calls[:2], SEARCH, FORECAST)]
    model_server.script(*replies, Reply(text="", tool_calls=[calls[2]]), Reply(text="Done."))
    agent = create_agent(optimize(getattr(model_server, provider)(), selector()), FORTY)
    agent.invoke(asked())
    sent = [_functions(request.body) for request in model_server.requests]
    assert len(sent) == 6
    for before, after in pairwise(sent):
        assert after.startswith(before[:-1])


def _functions(body):
    tools = body["tools"]
    return json.dumps(tools[0].get("functionDeclarations", tools))
