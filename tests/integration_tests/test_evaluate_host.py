"""Comparing and guarding what people really build, over HTTP: chains, graphs, agents, objects."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_tokenopt import Case, PromptCompressor, WordLimit, optimize, track_usage
from langchain_tokenopt.evaluate import (
    ContainsReference,
    JsonEqual,
    QualityGuard,
    ToolCallsEqual,
    acompare,
    compare,
)
from tests.support.model_server import ModelServer, Reply, Request, ToolCall

FILLER = " ".join(f"On day {n} it rained in the valley." for n in range(60))
CASES = [
    Case(
        {"notes": f"{FILLER} Runner{n} won race {n}. {FILLER}", "question": f"Who won race {n}?"},
        reference=f"Runner{n}",
    )
    for n in range(60)
]
PROMPT = ChatPromptTemplate.from_template("{notes}\n\nQuestion: {question}")


def answer(request: Request) -> Reply:
    """Answer from what stands in the prompt, at length."""
    text = " ".join(request.texts)
    number = re.findall(r"race (\d+)\?", text)[-1]
    found = re.search(rf"(Runner{number}) won", text)
    said = found[1] if found else "Nobody"
    return Reply(text=f"{said} won the race. " + "It rained all day long. " * 8)


@pytest.fixture
def server(model_server: ModelServer) -> ModelServer:
    model_server.answer = answer
    return model_server


def test_a_chain_with_stages_is_as_good_and_cheaper(server: ModelServer) -> None:
    plain = PROMPT | server.chat_openai() | StrOutputParser()
    short = PROMPT | optimize(server.chat_openai(), PromptCompressor(150), WordLimit(12))
    with track_usage() as usage:
        found = compare(CASES, plain, short, margin=0.1, judges=ContainsReference())
    assert found.verdict == "not worse"
    assert found.savings["input tokens"].low > 0.7
    assert found.savings["output tokens"].low > 0.2
    assert usage.totals().calls == 3 * found.cases


def test_a_prompt_that_loses_the_answer_is_worse(server: ModelServer) -> None:
    plain = PROMPT | server.chat_openai()
    cut = (
        PROMPT | (lambda asked: asked.to_string()[:300] + asked.to_string()[-40:])
    ) | server.chat_openai()
    assert compare(CASES, plain, cut, margin=0.1, judges=ContainsReference()).verdict == "worse"


def test_graphs_are_compared_async(server: ModelServer) -> None:
    def graph(model: Any) -> Any:
        async def reply(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        built = StateGraph(MessagesState)
        built.add_node("reply", reply)
        built.add_edge(START, "reply")
        built.add_edge("reply", END)
        return built.compile()

    cases = [
        Case({"messages": [("user", f"{c.input['notes']} {c.input['question']}")]}, c.reference)
        for c in CASES
    ]
    plain, short = (
        graph(server.chat_openai()),
        graph(optimize(server.chat_openai(), PromptCompressor(150))),
    )
    found = asyncio.run(acompare(cases, plain, short, margin=0.1, judges=ContainsReference()))
    assert found.verdict == "not worse"
    assert found.savings["input tokens"].low > 0.7


@tool
def winner_of(race: int) -> str:
    """Look up who won a race."""
    return f"Runner{race}"


def test_agents_are_compared_by_the_tools_they_call(model_server: ModelServer) -> None:
    def calling(shift: int) -> Any:
        def reply(request: Request) -> Reply:
            race = int(re.findall(r"race (\d+)\?", " ".join(request.texts))[-1])
            if "Runner" in request.last_text:
                return Reply(text=f"Runner{race}")
            return Reply(tool_calls=[ToolCall("winner_of", {"race": race + shift})])

        return reply

    agent = create_agent(model_server.chat_openai(), [winner_of])

    def asked(shift: int) -> Any:
        def ask(given: Any) -> Any:
            model_server.answer = calling(shift)
            return agent.invoke(given)

        return ask

    cases = [{"messages": [("user", f"Who won race {n}?")]} for n in range(60)]
    options: dict[str, Any] = {"margin": 0.2, "judges": ToolCallsEqual(), "max_concurrency": 1}
    assert compare(cases, asked(0), asked(0), **options).verdict == "not worse"
    found = compare(cases, asked(0), asked(1), **options)
    assert found.verdict == "worse"
    assert found.trials[0].trial.baseline.calls == 2


class Winner(BaseModel):
    """Who won."""

    name: str


def test_objects_are_compared_as_data(model_server: ModelServer) -> None:
    model_server.answer = lambda request: Reply(text='{"name": "Runner7"}')
    plain = PROMPT | model_server.chat_openai().with_structured_output(Winner)
    found = compare(CASES[:20], plain, plain, judges=JsonEqual(), margin=0.3)
    assert found.judges[0].judged == found.cases
    assert found.verdict == "not worse"


def test_a_guard_watches_a_chain(server: ModelServer) -> None:
    guard = QualityGuard(
        PromptCompressor(150), share=1.0, max_extra=99.0, judges=ContainsReference()
    )
    chain = PROMPT | optimize(server.chat_openai(), guard)
    for case in CASES[:5]:
        assert case.reference in chain.invoke(case.input).text
    guard.wait(20)
    guard.close()
    bodies = [" ".join(request.texts) for request in server.requests]
    assert len(bodies) == 15
    assert sum(len(text) > 3_000 for text in bodies) == 10
