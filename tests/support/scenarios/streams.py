"""Streams, read to their end or left before."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, Truth, spent
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import Reply, count_tokens
from tests.support.scenarios.graphs import Notes, side_by_side
from tests.support.scenarios.registry import (
    LOOSE,
    PIECES,
    TIGHT,
    A,
    B,
    adrain,
    drain,
    reports,
    scenario,
    total,
)
from tests.support.waiting import limit_once, until

# Streams


@scenario("streams")
def stream(bench: Bench) -> Outcome:
    """A stream with usage at its end counts once."""
    bench.server.script(*reports(A))
    drain(bench.server.chat_openai(stream_usage=True).stream("Hi", bench.config))
    return spent(A)


@scenario("streams")
async def astream(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    bench.server.script(*reports(A))
    await adrain(bench.server.chat_openai(stream_usage=True).astream("Hi", bench.config))
    return spent(A)


@scenario("streams")
async def chain_astream(bench: Bench) -> Outcome:
    """A streamed chain counts its model once."""
    bench.server.script(*reports(A))
    pipe = bench.server.chat_openai(stream_usage=True) | StrOutputParser()
    await adrain(pipe.astream("Hi", bench.config))
    return spent(A)


@scenario("streams")
def invoke_of_a_streaming_model(bench: Bench) -> Outcome:
    """``streaming=True`` turns ``invoke`` into a stream; it still counts once."""
    bench.server.script(*reports(A))
    bench.server.chat_openai(streaming=True, stream_usage=True).invoke("Hi", bench.config)
    return spent(A)


@scenario("streams")
def anthropic_stream(bench: Bench) -> Outcome:
    """Anthropic reports input twice in a stream; it counts once."""
    bench.server.script(*reports(A))
    drain(bench.server.chat_anthropic().stream("Hi", bench.config))
    return spent(A)


@scenario("streams")
def gemini_stream(bench: Bench) -> Outcome:
    """Gemini reports the running total on every chunk; the last one counts."""
    bench.server.script(*reports(A))
    drain(bench.server.chat_gemini().stream("Hi", bench.config))
    return spent(A)


@scenario("streams")
def running_totals_on_every_chunk(bench: Bench) -> Outcome:
    """Servers that send the running total with each chunk are not summed up."""
    bench.server.script(Reply(usage=A, cumulative_usage=True))
    drain(bench.server.chat_openai(stream_usage=True).stream("Hi", bench.config))
    return spent(A)


@scenario("streams")
def continuous_usage_stats(bench: Bench) -> Outcome:
    """The ``continuous_usage_stats`` of vLLM are running totals too."""
    bench.server.script(Reply(usage=A))
    options = {"include_usage": True, "continuous_usage_stats": True}
    model = bench.server.chat_openai(model_kwargs={"stream_options": options})
    drain(model.stream("Hi", bench.config))
    return spent(A)


@scenario("streams")
def running_totals_of_another_integration(bench: Bench) -> Outcome:
    """An integration that hands running totals on, chunk by chunk, is not summed up."""
    model = fake_chat("_stream", answers=[FakeAnswer(PIECES, A, reported="so_far")])
    drain(model.stream("Hi", bench.config))
    return spent(A)


@scenario("streams")
async def running_totals_of_another_integration_async(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    model = fake_chat("_astream", answers=[FakeAnswer(PIECES, A, reported="so_far")])
    await adrain(model.astream("Hi", bench.config))
    return spent(A)


@scenario("streams")
def streams_in_turns(bench: Bench) -> Outcome:
    """Streams that are read in turns are not mixed up."""
    first = fake_chat("_stream", answers=[FakeAnswer(PIECES, A, reported="so_far")])
    second = fake_chat("_stream", model="fake-2", answers=[FakeAnswer(PIECES, B)])
    for _ in zip(first.stream("Hi", bench.config), second.stream("Hi", bench.config), strict=True):
        pass
    return spent(A, B, by={"model": {"fake-1": total(A), "fake-2": total(B)}})


@scenario("streams")
def usage_on_the_first_chunk(bench: Bench) -> Outcome:
    """Usage on the first chunk counts as well as usage on the last."""
    model = fake_chat("_stream", answers=[FakeAnswer(PIECES, A, reported="at_start")])
    drain(model.stream("Hi", bench.config))
    return spent(A)


@scenario("streams")
async def model_astream_events(bench: Bench) -> Outcome:
    """``astream_events`` of a model counts once."""
    bench.server.script(*reports(A))
    model = bench.server.chat_openai(stream_usage=True)
    await adrain(model.astream_events("Hi", bench.config, version="v2"))
    return spent(A)


@scenario("streams")
def model_stream_events(bench: Bench) -> Outcome:
    """LangChain's event protocol (v3) counts once, details included."""
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    bench.server.script(*reports(usage))
    model = bench.server.chat_openai(stream_usage=True)
    drain(model.stream_events("Hi", bench.config, version="v3").text)
    return spent(usage)


@scenario("streams")
async def model_stream_events_async(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    bench.server.script(*reports(usage))
    model = bench.server.chat_openai(stream_usage=True)
    events = await model.astream_events("Hi", bench.config, version="v3")
    await adrain(events.text)
    await events  # until its callbacks have run
    return spent(usage)


# Streams that end early


def read_words(stream: Iterator[AIMessageChunk], words: int) -> str:
    """Read until so many words have arrived, then leave the stream."""
    text = ""
    while len(text.split()) < words:
        text += next(stream).text
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    return text


def left_after(bench: Bench, received: str, **facts: Any) -> Truth:
    """Return the truth about one stream that was left when *received* had arrived."""
    usage = Usage(bench.server.billed[0].input_tokens, count_tokens(received))
    return spent(usage, abandoned_calls=1, estimated_calls=1, **facts)


@scenario("left streams")
def left_by_the_reader(bench: Bench) -> Outcome:
    """A stream that is left early was billed: its input, and what had arrived."""
    bench.server.script(Reply(words=200, pace_seconds=0.005))
    stream = bench.server.chat_openai(stream_usage=True).stream("Tell me more.", bench.config)
    received = read_words(stream, 12)
    assert bench.server.streams[0].cancelled
    return left_after(bench, received, tolerance=TIGHT)


@scenario("left streams")
async def left_by_an_async_reader(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    bench.server.script(Reply(words=200, pace_seconds=0.005))
    model = bench.server.chat_openai(stream_usage=True)
    stream, received = model.astream("Tell me more.", bench.config), ""
    async for chunk in stream:
        received += chunk.text
        if len(received.split()) == 12:
            break
    await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert (await bench.server.streams[0].ended()).cancelled
    return left_after(bench, received, tolerance=TIGHT)


@scenario("left streams")
def left_by_break(bench: Bench) -> Outcome:
    """Leaving a loop by ``break`` is the same as closing the stream."""
    model = fake_chat("_stream", model="gpt-4.1-mini", answers=[FakeAnswer(PIECES, A)])
    received = ""
    for chunk in model.stream("Tell me more.", bench.config):
        received += chunk.text
        if len(received.split()) == 3:
            break
    usage = Usage(3 + 4 + count_tokens("Tell me more."), count_tokens(received))
    return spent(usage, abandoned_calls=1, estimated_calls=1, tolerance=TIGHT)


@scenario("left streams")
def left_anthropic(bench: Bench) -> Outcome:
    """Anthropic's input is reported with the first event, but not by LangChain: estimated."""
    bench.server.script(Reply(words=200, pace_seconds=0.005))
    stream = bench.server.chat_anthropic().stream("Tell me more, please. " * 20, bench.config)
    received = read_words(stream, 12)
    return left_after(bench, received, tolerance=LOOSE)


@scenario("left streams")
def left_gemini(bench: Bench) -> Outcome:
    """Gemini has reported the exact input by the time its stream is left."""
    bench.server.script(Reply(text=PIECES, usage=A, pace_seconds=0.005))
    read_words(bench.server.chat_gemini().stream("Tell me more.", bench.config), 5)
    return spent(Usage(1_000, 100), abandoned_calls=1, estimated_calls=1, tolerance=0.25)


@scenario("left streams")
def left_behind_a_parser(bench: Bench) -> Outcome:
    """Behind a parser LangChain reads a left stream to its end: all of it is billed."""
    bench.server.script(Reply(words=40, usage=A, pace_seconds=0.002))
    pipe = bench.server.chat_openai(stream_usage=True) | StrOutputParser()
    stream = pipe.stream("Hi", bench.config)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert not bench.server.streams[0].cancelled
    return spent(A)


@scenario("left streams")
def never_read(bench: Bench) -> Outcome:
    """A stream that nobody reads makes no call."""
    bench.server.chat_openai().stream("Hi", bench.config).close()  # type: ignore[attr-defined]
    assert bench.server.requests == []
    return spent()


@scenario("left streams")
def broken_connection(bench: Bench) -> Outcome:
    """When the connection breaks, what had arrived was billed, and the call has failed."""
    bench.server.script(Reply(words=200, breaks_after=12))
    with contextlib.suppress(Exception):  # which error is the integration's choice
        drain(bench.server.chat_openai(stream_usage=True).stream("Tell me more.", bench.config))
    usage = bench.server.billed[0]
    bill = Usage(usage.input_tokens, count_tokens(" ".join(f"w{i}" for i in range(12))))
    return spent(bill, failed_calls=1, estimated_calls=1, tolerance=TIGHT)


LONG_QUESTION = "Tell me more, please. " * 20


def cancelled(**facts: Any) -> Truth:
    """Return the truth about one call that was cancelled while the model worked."""
    bill = Usage(3 + 4 + count_tokens(LONG_QUESTION), 0)
    return spent(bill, abandoned_calls=1, estimated_calls=1, tolerance=TIGHT, **facts)


@scenario("left streams")
async def cancelled_call(bench: Bench) -> Outcome:
    """A call that is cancelled while the model works was under way: its input is billed."""
    bench.server.script(Reply(delay_seconds=math.inf))
    asking = asyncio.create_task(bench.server.chat_openai().ainvoke(LONG_QUESTION, bench.config))
    await until(lambda: bench.server.requests)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    return cancelled()


@scenario("left streams")
async def chain_that_ran_out_of_time(bench: Bench) -> Outcome:
    """The same for a chain, and for a time limit in the caller's own task."""
    model = fake_chat("_agenerate", model="gpt-4.1-mini", delay_seconds=5)
    with contextlib.suppress(TimeoutError):
        async with limit_once(lambda: model.calls):
            await (model | StrOutputParser()).ainvoke(LONG_QUESTION, bench.config)
    return cancelled()


@scenario("left streams")
async def graph_that_ran_out_of_time(bench: Bench) -> Outcome:
    """The same for a graph, on the node's account."""
    model = fake_chat("_agenerate", model="gpt-4.1-mini", delay_seconds=5)

    async def node(state: Notes) -> Notes:
        return {"notes": [(await model.ainvoke(LONG_QUESTION)).text]}

    with contextlib.suppress(TimeoutError):
        async with limit_once(lambda: model.calls):
            await side_by_side(writer=node).ainvoke({}, bench.config)
    usage = Usage(3 + 4 + count_tokens(LONG_QUESTION), 0)
    return cancelled(by={"agent": {"writer": usage.total_tokens}})


@scenario("left streams")
async def cancelled_stream(bench: Bench) -> Outcome:
    """A task that is cancelled in the middle of a stream pays for what had arrived."""
    bench.server.script(Reply(words=200, pace_seconds=0.005))
    received: list[str] = []
    enough = asyncio.Event()

    async def read() -> None:
        async for chunk in bench.server.chat_openai().astream("Tell me more.", bench.config):
            received.append(chunk.text)
            if len("".join(received).split()) >= 12:
                enough.set()

    reading = asyncio.create_task(read())
    await enough.wait()
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    await bench.server.streams[0].ended()
    return left_after(bench, "".join(received), tolerance=TIGHT)
