"""LangChain's response caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumps, loads
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import Generation
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import fake_chat
from tests.support.model_server import count_tokens
from tests.support.scenarios.graphs import Notes, asks
from tests.support.scenarios.registry import (
    PIECES,
    TIGHT,
    A,
    B,
    C,
    answers,
    drain,
    reports,
    scenario,
    total,
)


class JsonCache(BaseCache):
    """Keeps answers as text, as caches on disk do, so that a hit is never the same object."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Read an answer back."""
        kept = self.kept.get((prompt, llm_string))
        return None if kept is None else loads(kept, allowed_objects="all")

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Write an answer."""
        self.kept[prompt, llm_string] = dumps(list(return_val))

    def clear(self, **kwargs: Any) -> None:
        """Forget all answers."""
        self.kept.clear()


@scenario("response caches")
def global_cache(bench: Bench) -> Outcome:
    """Of three equal calls one is paid, two come from LangChain's cache."""
    set_llm_cache(InMemoryCache())
    bench.server.script(*reports(A))
    model = bench.server.chat_openai()
    for _ in range(3):
        model.invoke("Hi", bench.config)
    assert len(bench.server.requests) == 1
    return spent(A, calls=3, cached_calls=2)


@scenario("response caches")
def cache_of_the_model(bench: Bench) -> Outcome:
    """The same for a cache that belongs to the model."""
    model = fake_chat(answers=answers(A, B), cache=InMemoryCache())
    for text in ("1", "1", "2", "1", "2"):
        model.invoke(text, bench.config)
    return spent(A, B, calls=5, cached_calls=3)


@scenario("response caches")
async def cache_async(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    bench.server.script(*reports(A))
    model = bench.server.chat_anthropic(cache=InMemoryCache())
    for _ in range(3):
        await model.ainvoke("Hi", bench.config)
    return spent(A, calls=3, cached_calls=2)


@scenario("response caches")
def batch_of_hits(bench: Bench) -> Outcome:
    """Hits in a batch are hits."""
    model = fake_chat("_stream", answers=answers(A), cache=InMemoryCache())
    model.invoke("1", bench.config)
    model.batch(["1"] * 5, bench.config)
    return spent(A, calls=6, cached_calls=5)


@scenario("response caches")
def hit_of_somebody_elses_call(bench: Bench) -> Outcome:
    """Whoever only takes answers from the cache spends nothing."""
    model = fake_chat(answers=answers(A), cache=InMemoryCache())
    model.invoke("1")
    model.invoke("1", bench.config)
    return spent(calls=1, cached_calls=1)


@scenario("response caches")
def hit_of_a_call_without_usage(bench: Bench) -> Outcome:
    """An answer that never had any usage is recognised as a hit all the same."""
    model = fake_chat(model="gpt-4.1-mini", answers=[PIECES], cache=InMemoryCache())
    for _ in range(3):
        model.invoke("Tell me about rivers.", bench.config)
    usage = Usage(3 + 4 + count_tokens("Tell me about rivers."), count_tokens(PIECES))
    return spent(usage, calls=3, cached_calls=2, estimated_calls=1, tolerance=TIGHT)


@scenario("response caches")
def cache_that_serialises(bench: Bench) -> Outcome:
    """Answers that were written down and read back are hits."""
    bench.server.script(*reports(A))
    model = bench.server.chat_openai(cache=JsonCache())
    for _ in range(3):
        model.invoke("Hi", bench.config)
    assert len(bench.server.requests) == 1
    return spent(A, calls=3, cached_calls=2)


@scenario("response caches")
def conversation(bench: Bench) -> Outcome:
    """A conversation that is repeated from the cache costs its first run."""
    model = fake_chat(answers=answers(A, B, C), cache=InMemoryCache())
    history: list[BaseMessage] = [HumanMessage("1")]
    first = model.invoke(history, bench.config)
    model.invoke([*history, first, HumanMessage("2")], bench.config)
    model.invoke(history, bench.config)
    model.invoke([*history, first, HumanMessage("2")], bench.config)
    return spent(A, B, calls=4, cached_calls=2)


@scenario("response caches")
def cache_in_a_graph(bench: Bench) -> Outcome:
    """Hits inside a graph with a checkpointer are hits, on the node's account."""
    set_llm_cache(InMemoryCache())
    model = fake_chat(answers=answers(A))
    builder = StateGraph(Notes)
    builder.add_node("writer", asks(model))
    builder.add_edge(START, "writer")
    graph = builder.compile(checkpointer=InMemorySaver())
    for thread in ("t1", "t2", "t2"):
        graph.invoke({}, {**bench.config, "configurable": {"thread_id": thread}})
    by = {"thread_id": {"t1": total(A), "t2": 0}, "agent": {"writer": total(A)}}
    return spent(A, calls=3, cached_calls=2, by=by)


@scenario("response caches")
def cached_details(bench: Bench) -> Outcome:
    """Neither cached nor reasoning tokens of a hit are spent again."""
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    bench.server.script(*reports(usage))
    model = bench.server.chat_openai(cache=InMemoryCache())
    for _ in range(3):
        model.invoke("Hi", bench.config)
    return spent(usage, calls=3, cached_calls=2)


@scenario("response caches")
def streams_pass_the_cache_by(bench: Bench) -> Outcome:
    """LangChain's cache is not asked for streams: both are paid."""
    bench.server.script(*reports(A, A))
    model = bench.server.chat_openai(stream_usage=True, cache=InMemoryCache())
    drain(model.stream("Hi", bench.config))
    drain(model.stream("Hi", bench.config))
    return spent(A, A)
