"""Which tools a call was shown, and which it called, where no stage has chosen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from langchain_tokenopt.core.records import UsageEvent
from langchain_tokenopt.ledger import Ledger
from langchain_tokenopt.tracking.callbacks import track_usage
from tests.support.fakes import FakeAnswer, fake_chat


@tool
def search(query: str) -> str:
    """Search."""
    return "found"


@tool
def refund(order: str, reason: str = "none", *, whole: bool = True) -> str:
    """Give money back, for an order that has not been sent yet or has come back."""
    return "done"


ASK = [{"name": "search", "args": {"query": "x"}}] * 2


@pytest.mark.parametrize("methods", [(), ("_agenerate", "_stream", "_astream")], ids=["one", "all"])
@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
def test_a_tracker_sees_what_an_agent_is_shown(in_async: bool, methods: Any) -> None:
    """All tools with their weight, and what the answer calls, once each."""
    model = fake_chat(*methods, answers=[FakeAnswer("", tool_calls=ASK), FakeAnswer("Done.")])
    agent = create_agent(model, [search, refund])
    given: Any = {"messages": [HumanMessage("Begin.")]}
    with track_usage() as usage:
        asyncio.run(agent.ainvoke(given)) if in_async else agent.invoke(given)
    first, last = (record.tool_choice for record in usage.records)

    assert first is not None
    assert last is not None
    assert ["search", "refund"] == [shown.tool for shown in first.offered]
    assert first.offered[0].tokens < first.offered[1].tokens
    assert sum(shown.tokens for shown in first.offered) == first.tokens_after
    assert (("search",), ()) == (first.called, last.called)
    assert (0, 0) == (first.left_out, first.saved_tokens)
    assert (usage.records[0].run_id, usage.records[0].agent) == (first.run_id, first.agent)


def test_streams_tell_what_they_call() -> None:
    """From the pieces of the answer."""
    model = fake_chat("_stream", answers=[FakeAnswer("", tool_calls=ASK)])
    with track_usage() as usage:
        list(model.bind_tools([search]).stream("x"))
    (record,) = usage.records

    assert record.tool_choice is not None
    assert ("search",) == record.tool_choice.called


def test_calls_without_tools_and_cached_ones_show_none() -> None:
    """Of a hit nothing was sent."""
    model = fake_chat(cache=InMemoryCache())
    with track_usage() as usage:
        model.invoke("x")
        for _ in range(2):
            model.bind_tools([search]).invoke("x")

    assert [True, False, True] == [record.tool_choice is None for record in usage.records]


def test_several_trackers_are_one_call_to_a_ledger(tmp_path: Any) -> None:
    """A choice is known by its call, and is no event of its own."""
    events: list[UsageEvent] = []

    class Sink:
        def record(self, event: UsageEvent) -> None:
            events.append(event)

    with (
        Ledger(tmp_path / "a.db") as ledger,
        track_usage([ledger, Sink()]),
        track_usage([ledger]),
    ):
        fake_chat().bind_tools([search]).invoke("x")
        (figures,) = ledger.tools()

    assert (1, 0) == (figures.offered, figures.called)
    assert 1 == len(events)
