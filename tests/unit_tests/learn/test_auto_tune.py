"""A stage whose settings move: through the real host, within bounds, and never in the way."""

from __future__ import annotations

import asyncio
import re

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import Field

from langchain_tokenopt import (
    CallRecord,
    QualityGuard,
    WordLimit,
    optimize,
    track_usage,
)
from langchain_tokenopt.learn.auto_tune import AutoTune
from tests.support.model_server import ModelServer, Reply

WORDS = {"max_words": (40, 160)}


class Sink:
    """Keeps what it hears."""

    def __init__(self):
        self.events = []

    def record(self, event):
        self.events.append(event)


def asked_in(text: str) -> int:
    """Return how many words a request asks for."""
    return int(re.findall(r"\d+", text)[-1])


def asked_words(request) -> int:
    """Return how many words a request over the wire asks for."""
    return asked_in(str(request.body["messages"][-1]["content"]))


class Obedient(BaseChatModel):
    """Answers in as many words as it is asked for, and reports what that took."""

    asked: list[int] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "obedient"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        words = asked_in(messages[-1].text)
        self.asked.append(words)
        usage = {"input_tokens": 20, "output_tokens": words, "total_tokens": 20 + words}
        message = AIMessage("Ada won in 1952. " + "word " * (words - 4), usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.fixture
def chat(model_server: ModelServer):
    """A real chat model whose answers are as long as they are asked to be."""
    model_server.answer = lambda request: Reply(text="Yes. " + "word " * (asked_words(request) - 1))
    return model_server.chat_openai()


def play(tuner, calls, quality=lambda words: 1.0, bare=None, **metadata):
    """Make calls and judge each; return the limits that they used."""
    bare = bare or Obedient()
    model = optimize(bare, tuner)
    for _ in range(calls):
        answer = model.invoke("Tell me about bridges", {"metadata": metadata})
        assert tuner.record(quality(bare.asked[-1]), answer)
    return bare.asked


def good_from(words):
    """Return a quality: answers of fewer words are of no use."""
    return lambda asked: float(asked >= words)


def test_it_finds_the_cheapest_limit_that_is_good_enough():
    """From the user's own, in steps to neighbours, to the lowest limit of good answers."""
    sink = Sink()
    tuner = AutoTune(WordLimit(160), bounds=WORDS, seed=1, sinks=[sink])
    used = play(tuner, 400, good_from(80))
    ladder = [160, 113, 80, 57, 40]
    assert [one["max_words"] for one in tuner.ladder] == ladder
    assert set(used) <= set(ladder)
    assert set(used[:29]) == {160}
    assert used[-100:].count(80) >= 65
    assert used.count(57) + used.count(40) <= 40
    assert tuner.settings() == {"max_words": 80}
    steps = tuner.history()
    assert [event.after for event in sink.events] == [step.after for step in steps]
    places = [
        (ladder.index(s.before["max_words"]), ladder.index(s.after["max_words"])) for s in steps
    ]
    assert all(abs(before - after) == 1 for before, after in places)
    assert all((step.agent, step.stage) == ("default", "WordLimit") for step in steps)
    assert all(step.reason for step in steps)
    assert "max_words 80 (bounds 40 to 160)" in tuner.explain()


def test_without_verdicts_nothing_moves():
    """Whatever is saved, and however many calls there are: too little is known, and it says so."""
    tuner, bare = AutoTune(WordLimit(160), bounds=WORDS, seed=1), Obedient()
    model = optimize(bare, tuner)
    for _ in range(60):
        model.invoke("Tell me about bridges")
    for _ in range(29):
        assert tuner.record(1.0)
    assert set(bare.asked) == {160}
    assert tuner.history() == []
    assert "your own" in tuner.explain()
    assert "of 30 judged calls that are needed" in tuner.explain()


def agent_of(model):
    """An agent."""
    return create_agent(model, [], name="news")


def graph_of(model):
    """A graph of one node."""
    graph = StateGraph(MessagesState)
    graph.add_node("news", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "news")
    graph.add_edge("news", END)
    return graph.compile()


def chain_of(model):
    """A pipe."""
    return ChatPromptTemplate.from_template("{topic}") | model | StrOutputParser()


def stream(runnable, given):
    """Read a stream to its end."""
    return [*runnable.stream(given)]


async def astream(runnable, given):
    """Read a stream to its end."""
    return [piece async for piece in runnable.astream(given)]


HOSTS = {
    "agent": (agent_of, {"messages": [("human", "Bridges?")]}, "news"),
    "graph": (graph_of, {"messages": [("human", "Bridges?")]}, "news"),
    "chain": (chain_of, {"topic": "Bridges?"}, "default"),
}
WAYS = {
    "invoke": lambda runnable, given: runnable.invoke(given),
    "stream": stream,
    "ainvoke": lambda runnable, given: asyncio.run(runnable.ainvoke(given)),
    "astream": lambda runnable, given: asyncio.run(astream(runnable, given)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", HOSTS)
def test_it_learns_in_every_host(chat, model_server, tmp_path, host, way):
    """Sync, async and streamed, in a file: each call is counted once, under its agent."""
    tuner = AutoTune(WordLimit(160), bounds=WORDS, seed=1, store=tmp_path / "learned.db")
    build, given, agent = HOSTS[host]
    runnable = build(optimize(chat, tuner))
    sink = Sink()
    with track_usage(sinks=[sink]):
        for _ in range(2):
            WAYS[way](runnable, given)
    calls = [event for event in sink.events if isinstance(event, CallRecord)]
    assert [tuner.record(1.0, call.run_id) for call in calls] == [True, True]
    assert tuner.record(1.0) is False
    (found,) = tuner.store.values("tuning")
    judged, quality, _, billed, cost, *_ = found.value["arms"][0]
    assert (found.key, found.value["calls"]) == (agent, 2)
    assert (judged, quality, billed) == pytest.approx((1.99, 1.99, 1.99), rel=0.01)
    spent = [call.cost_nano_usd for call in calls]
    assert cost == pytest.approx(spent[0] + spent[1], rel=0.02)
    assert model_server.requests[0].body.get("stream", False) is True


def test_a_guard_around_it_says_how_good_answers_were():
    """Each trial that the guard makes is a verdict on the setting that was used."""
    tuner = AutoTune(WordLimit(160), bounds=WORDS)
    guard = QualityGuard(tuner, share=1.0, max_extra=9.0)
    bare = Obedient()
    bare_plain = optimize(bare, guard)
    bare_plain.invoke("Answer in at most 200 words about bridges")
    guard.wait(20)
    guard.close()
    (found,) = tuner.store.values("tuning")
    assert found.value["arms"][0][:2] == [1.0, 1.0]
