"""Handlers, trackers and sinks in every combination."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.tools import tool
from langchain_core.tracers import context as tracer_context

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, Truth, spent
from tests.support.fakes import fake_chat
from tests.support.scenarios.graphs import HELLO, calls_tool, graph_of
from tests.support.scenarios.registry import A, B, C, answers, drain, scenario, total

# Handlers and trackers


@scenario("handlers")
def same_handler_in_model_and_call(bench: Bench) -> Outcome:
    """A handler in the model and in the call is one handler."""
    model = fake_chat(answers=answers(A), callbacks=[bench.handler])
    model.invoke("Hi", bench.config)
    return spent(A)


@scenario("handlers")
def same_handler_on_chain_and_model(bench: Bench) -> Outcome:
    """The same for a chain and a model in it."""
    model = fake_chat(answers=answers(A)).with_config(bench.config)
    (model | StrOutputParser()).with_config(bench.config).invoke("Hi", bench.config)
    return spent(A)


@scenario("handlers")
def same_handler_on_graph_and_call(bench: Bench) -> Outcome:
    """The same for a graph and a call inside one of its nodes."""
    model = fake_chat(answers=answers(A))
    graph = graph_of(writer=lambda state: model.invoke("Hi", bench.config))
    graph.invoke({}, bench.config)
    return spent(A)


@scenario("handlers")
def tracker(bench: Bench) -> Outcome:
    """A tracker counts what happens inside its block, not before or after."""
    model = fake_chat(answers=answers(C, A, B, C))
    model.invoke("before")
    with bench.track() as seen:
        model.invoke("inside")
        drain(model.stream("inside"))
    model.invoke("after")
    return [(seen, spent(A, B))]


@scenario("handlers")
def nested_trackers(bench: Bench) -> Outcome:
    """The outer tracker counts everything once, the inner one its own."""
    model = fake_chat(answers=answers(A, B, C))
    with bench.track() as outer:
        model.invoke("1")
        with bench.track() as inner:
            model.invoke("2")
        model.invoke("3")
    return [(outer, spent(A, B, C)), (inner, spent(B))]


@scenario("handlers")
def tracker_and_handler(bench: Bench) -> Outcome:
    """A tracker and a handler at once count once each."""
    with bench.track() as seen:
        fake_chat(answers=answers(A)).invoke("Hi", bench.config)
    return [(seen, spent(A)), (bench.handler, spent(A))]


@scenario("handlers")
def fifty_trackers_in_a_row(bench: Bench) -> Outcome:
    """Each tracker counts its own, and none leaves anything behind in LangChain."""
    model = fake_chat(answers=answers(*[A] * 50))
    hooks = tracer_context._configure_hooks
    before, seen = len(hooks), []
    for _ in range(50):
        with bench.track() as one:
            model.invoke("Hi")
        seen.append((one, spent(A)))
    left = {"hooks left behind": (0, len(hooks) - before)}
    return [*seen[:-1], (seen[-1][0], spent(A, others=left))]


@scenario("handlers")
def tracker_of_a_block_that_raises(bench: Bench) -> Outcome:
    """A tracker ends with its block, also when the block raises."""
    model = fake_chat(answers=answers(A, B))
    with contextlib.suppress(ZeroDivisionError), bench.track() as seen:
        model.invoke("Hi")
        raise ZeroDivisionError
    model.invoke("after")
    return [(seen, spent(A))]


@scenario("handlers")
def tracker_around_a_batch(bench: Bench) -> Outcome:
    """A tracker sees LangChain's own threads."""
    with bench.track() as seen:
        fake_chat(answers=answers(A, B, C)).batch(["1", "2", "3"])
    return [(seen, spent(A, B, C))]


@scenario("handlers")
def tracker_in_a_thread_of_ones_own(bench: Bench) -> Outcome:
    """A thread that runs in a copy of the context is inside the block."""
    model = fake_chat(answers=answers(A))
    with bench.track() as seen:
        thread = threading.Thread(target=copy_context().run, args=(model.invoke, "Hi"))
        thread.start()
        thread.join()
    return [(seen, spent(A))]


@scenario("handlers")
def tracker_in_a_thread_pool(bench: Bench) -> Outcome:
    """The same for a pool of threads."""
    model = fake_chat(answers=answers(*[A] * 20))
    with bench.track() as seen, ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            pool.submit(copy_context().run, model.invoke, "Hi")
    return [(seen, spent(*[A] * 20))]


@scenario("handlers")
async def tracker_around_tasks(bench: Bench) -> Outcome:
    """A tracker sees the tasks that start inside its block."""
    model = fake_chat("_agenerate", answers=answers(A, B, C))
    with bench.track() as seen:
        await asyncio.gather(*(model.ainvoke(text) for text in "123"))
    return [(seen, spent(A, B, C))]


@scenario("handlers")
async def trackers_side_by_side(bench: Bench) -> Outcome:
    """Trackers of concurrent tasks count only their own."""

    async def work(usage: Usage) -> tuple[Any, Truth]:
        model = fake_chat("_agenerate", answers=answers(usage, usage), delay_seconds=0.01)
        with bench.track() as seen:
            await model.ainvoke("1")
            await model.ainvoke("2")
        return seen, spent(usage, usage)

    return await asyncio.gather(work(A), work(B), work(C))


@scenario("handlers")
def tracker_inside_a_tool(bench: Bench) -> Outcome:
    """A tracker that begins inside a tool still knows which agent and tool it is in."""
    researcher, seen = fake_chat(answers=answers(C)), []

    @tool
    def research(topic: str) -> str:
        """Look into a topic."""
        with bench.track() as inner:
            seen.append(inner)
            return researcher.invoke(topic).text

    model = fake_chat(answers=[calls_tool("research", A, topic="rain"), *answers(B)])
    with bench.track() as outer:
        create_agent(model, [research], name="clerk").invoke(HELLO)
    by_tool = {"research": total(C), "(none)": total(A, B)}
    inside = {"tool": {"research": total(C)}, "agent": {"clerk": total(C)}}
    return [(outer, spent(A, B, C, by={"tool": by_tool})), (seen[0], spent(C, by=inside))]


@scenario("handlers")
def one_handler_in_many_threads(bench: Bench) -> Outcome:
    """A handler that many threads share loses nothing."""
    model = fake_chat(answers=answers(*[A] * 200))
    with ThreadPoolExecutor(8) as pool:
        for _ in range(200):
            pool.submit(model.invoke, "Hi", bench.config)
    return spent(*[A] * 200)


# What only this package offers


class Listening:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def record(self, event: Any) -> None:
        """Remember an event."""
        self.heard.append(event)


@scenario("sinks", only_ours=True)
def sinks_hear_once(bench: Bench) -> Outcome:
    """Every sink hears of every call once, nested trackers or not."""
    from langchain_tokenopt.tracking.callbacks import track_usage

    sinks = Listening(), Listening()
    model = fake_chat(answers=answers(A, B))
    with track_usage(sinks=[sinks[0]]) as outer:
        model.invoke("1")
        with track_usage(sinks=[sinks[1]], user="ann") as inner:
            model.invoke("2")
    heard = {"heard outside": (2, len(sinks[0].heard)), "heard inside": (1, len(sinks[1].heard))}
    user = {"user": {"ann": total(B)}}
    return [(outer, spent(A, B, others=heard)), (inner, spent(B, by=user))]


@scenario("sinks", only_ours=True)
def failing_sink(bench: Bench) -> Outcome:
    """A sink that raises breaks no call and keeps no other sink from hearing."""
    import warnings

    from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler

    class Failing:
        def record(self, event: Any) -> None:
            raise OSError("The disk is full.")

    sink = Listening()
    handler = TokenUsageCallbackHandler(sinks=[Failing(), sink])
    model = fake_chat(answers=answers(A, B))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model.invoke("1", {"callbacks": [handler]})
        model.invoke("2", {"callbacks": [handler]})
    others = {"heard": (2, len(sink.heard)), "warnings": (1, len(warned))}
    return [(handler, spent(A, B, others=others))]
