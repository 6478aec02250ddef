"""A label of the application's own, through LangChain and LangGraph, to the ledger."""

from __future__ import annotations

from typing import TypedDict

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import START, StateGraph

from langchain_tokenopt import Ledger, Usage, track_usage
from tests.support.fakes import FakeAnswer, fake_chat


def _graph(model):
    def write(state):
        return {"text": model.invoke("Hi").text}

    async def awrite(state):
        return {"text": (await model.ainvoke("Hi")).text}

    from langchain_core.runnables import RunnableLambda

    graph = StateGraph(TypedDict("State", {"text": str}))
    graph.add_node("writer", RunnableLambda(write, awrite))
    return graph.add_edge(START, "writer").compile()


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "batch"])
@pytest.mark.parametrize("host", ["chain", "graph"])
async def test_a_tag_in_the_metadata_is_a_dimension(host, way, tmp_path):
    """Whatever calls the model below, sync or async, is found under the tag."""
    model = fake_chat(answers=[FakeAnswer("Four.", Usage(10, 2))])
    prompt = ChatPromptTemplate.from_template("{text}")
    app = prompt | model if host == "chain" else _graph(model)
    config = {"metadata": {"tokenopt_tag": "<check>out"}}
    with Ledger(tmp_path / "x.db") as ledger, track_usage(sinks=[ledger]) as usage:
        model.invoke("outside")
        if way == "ainvoke":
            await app.ainvoke({"text": "Hi"}, config)
        elif way == "stream":
            list(app.stream({"text": "Hi"}, config))
        elif way == "batch":
            app.batch([{"text": "Hi"}], config)
        else:
            app.invoke({"text": "Hi"}, config)

        assert {"<check>out": 1, "(none)": 1} == {k: t.calls for k, t in usage.by("tag").items()}
        assert 1 == ledger.totals(tag="<check>out").calls
        assert {("(none)",): 1, ("<check>out",): 1} == {
            key[:1]: totals.calls for key, totals in ledger.by("tag", "agent").items()
        }
