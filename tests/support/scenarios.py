"""Every way we know in which LangChain applications spend tokens, with what they really spent.

Each function makes real calls and returns the truth. Its docstring is the promise that a usage
tracker should keep.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from operator import add
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.exceptions import OutputParserException
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import Generation
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.tracers import context as tracer_context
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, Scenario, Truth, spent
from tests.support.fakes import FakeAnswer, FakeTextModel, fake_chat
from tests.support.model_server import Reply, ToolCall, count_tokens

__all__ = ["SCENARIOS"]

SCENARIOS: list[Scenario] = []

A = Usage(1_000, 200)
B = Usage(300, 40)
C = Usage(50, 7)
PIECES = "One two three four five six seven eight nine ten."
TIGHT = 0.05
"""Tolerance where the tokenizer is public."""
LOOSE = 0.5
"""Tolerance where it is not: the server counts in o200k_base, whatever the provider."""


def scenario(group: str, *, only_ours: bool = False) -> Callable[[Any], Any]:
    """Register a function as a scenario of *group*."""

    def register(run: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
        SCENARIOS.append(Scenario(group, run, only_ours))
        return run

    return register


def reports(*usages: Usage) -> list[Reply]:
    """Return one reply per usage."""
    return [Reply(usage=usage) for usage in usages]


def answers(*usages: Usage) -> list[FakeAnswer]:
    """Return one fake answer per usage."""
    return [FakeAnswer(usage=usage) for usage in usages]


def total(*usages: Usage) -> int:
    """Return input and output of all *usages*."""
    return sum(usage.total_tokens for usage in usages)


def drain(stream: Iterable[Any]) -> None:
    """Read a stream to its end."""
    for _ in stream:
        pass


async def adrain(stream: Any) -> None:
    """Read an asynchronous stream to its end."""
    async for _ in stream:
        pass


# Calls


@scenario("calls")
def invoke(bench: Bench) -> Outcome:
    """One call counts once."""
    bench.server.script(*reports(A))
    bench.server.chat_openai().invoke("Hi", bench.config)
    return spent(A)


@scenario("calls")
async def ainvoke(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    bench.server.script(*reports(A))
    await bench.server.chat_openai().ainvoke("Hi", bench.config)
    return spent(A)


@scenario("calls")
def batch(bench: Bench) -> Outcome:
    """Every call of a batch counts once, from LangChain's threads."""
    bench.server.script(*reports(A, B, C, A))
    bench.server.chat_openai().batch(["1", "2", "3", "4"], bench.config)
    return spent(A, B, C, A)


@scenario("calls")
async def abatch(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    bench.server.script(*reports(A, B, C, A))
    await bench.server.chat_openai().abatch(["1", "2", "3", "4"], bench.config)
    return spent(A, B, C, A)


@scenario("calls")
def batch_of_one_at_a_time(bench: Bench) -> Outcome:
    """A batch with limited concurrency, read as it completes, counts every call once."""
    bench.server.script(*reports(A, B, C))
    config: RunnableConfig = {**bench.config, "max_concurrency": 1}
    drain(bench.server.chat_openai().batch_as_completed(["1", "2", "3"], config))
    return spent(A, B, C)


@scenario("calls")
def generate_for_several_prompts(bench: Bench) -> Outcome:
    """``generate`` with several prompts makes a call for each."""
    bench.server.script(*reports(A, B, C))
    prompts: list[list[BaseMessage]] = [[HumanMessage(text)] for text in "123"]
    bench.server.chat_openai().generate(prompts, callbacks=[bench.handler])
    return spent(A, B, C)


@scenario("calls")
async def agenerate_for_several_prompts(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    bench.server.script(*reports(A, B, C))
    prompts: list[list[BaseMessage]] = [[HumanMessage(text)] for text in "123"]
    await bench.server.chat_openai().agenerate(prompts, callbacks=[bench.handler])
    return spent(A, B, C)


@scenario("calls")
def chain(bench: Bench) -> Outcome:
    """A model inside a pipe counts once."""
    bench.server.script(*reports(A))
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    pipe = prompt | bench.server.chat_openai() | StrOutputParser()
    pipe.invoke({"question": "Why?"}, bench.config)
    return spent(A)


@scenario("calls")
def parallel_runnables(bench: Bench) -> Outcome:
    """Branches of a ``RunnableParallel`` all count."""
    both = RunnableParallel(
        long=fake_chat(answers=answers(A)), short=fake_chat("_stream", answers=answers(B))
    )
    both.invoke("Hi", bench.config)
    return spent(A, B)


@scenario("calls")
def runnable_lambda(bench: Bench) -> Outcome:
    """A model called inside a function, without passing the config on, counts."""
    model = fake_chat(answers=answers(A))
    RunnableLambda(lambda text: model.invoke(text)).invoke("Hi", bench.config)
    return spent(A)


@scenario("calls")
def configurable_model(bench: Bench) -> Outcome:
    """A model that is only chosen at the call counts, under the name that was chosen."""
    bench.server.script(*reports(A))
    model = init_chat_model(
        model_provider="openai",
        configurable_fields=("model",),
        base_url=f"{bench.server.url}/v1",
        api_key="test",
    )
    model.invoke("Hi", {**bench.config, "configurable": {"model": "gpt-4.1-nano"}})
    return spent(A, by={"model": {"gpt-4.1-nano": total(A)}})


@scenario("calls")
async def every_build_of_a_chat_model(bench: Bench) -> Outcome:
    """Whichever of the four methods a model defines, however it is called: one call each."""
    builds: list[list[Any]] = [[]]
    for method in ("_agenerate", "_stream", "_astream"):
        builds += [[*build, method] for build in builds]
    for build in builds:
        model = fake_chat(*build, answers=answers(A, A, A, A))
        model.invoke("Hi", bench.config)
        await model.ainvoke("Hi", bench.config)
        drain(model.stream("Hi", bench.config))
        await adrain(model.astream("Hi", bench.config))
    return spent(*[A] * 32)


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
    bench.server.script(Reply(delay_seconds=0.5))
    asking = asyncio.create_task(bench.server.chat_openai().ainvoke(LONG_QUESTION, bench.config))
    while not bench.server.requests:
        await asyncio.sleep(0.005)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    return cancelled()


@scenario("left streams")
async def chain_that_ran_out_of_time(bench: Bench) -> Outcome:
    """The same for a chain, and for a time limit in the caller's own task."""
    model = fake_chat("_agenerate", model="gpt-4.1-mini", delay_seconds=5)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await (model | StrOutputParser()).ainvoke(LONG_QUESTION, bench.config)
    return cancelled()


@scenario("left streams")
async def graph_that_ran_out_of_time(bench: Bench) -> Outcome:
    """The same for a graph, on the node's account."""
    model = fake_chat("_agenerate", model="gpt-4.1-mini", delay_seconds=5)

    async def node(state: Notes) -> Notes:
        return {"notes": [(await model.ainvoke(LONG_QUESTION)).text]}

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
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


# Usage or names that are missing


def estimated(bench: Bench, calls: int = 1, tolerance: float = TIGHT) -> Truth:
    """Return the truth about calls that the server has billed but not reported."""
    return spent(*bench.server.billed[:calls], estimated_calls=calls, tolerance=tolerance)


@scenario("missing usage")
def silent_provider(bench: Bench) -> Outcome:
    """Without reported usage tokens are counted, and the count is flagged."""
    bench.server.script(Reply(usage=None, words=50))
    bench.server.chat_openai().invoke("Tell me all that you know about rivers.", bench.config)
    return estimated(bench)


@scenario("missing usage")
async def silent_provider_async_batch(bench: Bench) -> Outcome:
    """The same for a batch, asynchronously."""
    bench.server.script(*[Reply(usage=None, words=50)] * 3)
    questions = ["Tell me about rivers.", "Tell me about lakes.", "Tell me about seas."]
    await bench.server.chat_openai().abatch(questions, bench.config)
    return estimated(bench, 3)


@scenario("missing usage")
def stream_of_a_compatible_server(bench: Bench) -> Outcome:
    """With a base URL of its own ``ChatOpenAI`` asks for no usage in streams: counted, flagged."""
    bench.server.script(Reply(words=50))
    model = bench.server.chat_openai()
    drain(model.stream("Tell me all that you know about rivers.", bench.config))
    return estimated(bench)


@scenario("missing usage")
async def astream_of_a_compatible_server(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    bench.server.script(Reply(words=50))
    model = bench.server.chat_openai()
    await adrain(model.astream("Tell me all that you know about rivers.", bench.config))
    return estimated(bench)


@scenario("missing usage")
def silent_provider_of_another_family(bench: Bench) -> Outcome:
    """For a tokenizer that is not public the count is rougher, and flagged."""
    bench.server.script(Reply(usage=None, text="It rains, and the river rises. " * 20))
    bench.server.chat_gemini().invoke("Tell me all about rivers. " * 20, bench.config)
    return estimated(bench, tolerance=LOOSE)


@scenario("missing usage")
def silent_provider_with_tools(bench: Bench) -> Outcome:
    """Tool schemas are part of the input, tool calls part of the output."""
    bench.server.script(Reply(usage=None, tool_calls=[ToolCall("weather", {"city": "Bern"})]))
    bench.server.chat_openai().bind_tools([weather]).invoke("How is Bern?", bench.config)
    return estimated(bench, tolerance=LOOSE)


@scenario("missing usage")
def unnamed_model(bench: Bench) -> Outcome:
    """An answer that does not say which model gave it counts under the one that was asked."""
    bench.server.script(Reply(usage=A, names_model=False))
    bench.server.chat_openai().invoke("Hi", bench.config)
    return spent(A, by={"model": {"gpt-4.1-mini": total(A)}})


@scenario("missing usage")
def unnamed_model_of_another_integration(bench: Bench) -> Outcome:
    """The same for an integration that leaves the name out."""
    fake_chat(answers=[FakeAnswer(usage=A, names_model=False)]).invoke("Hi", bench.config)
    return spent(A, by={"model": {"fake-1": total(A)}})


@scenario("missing usage")
async def unnamed_model_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream."""
    model = fake_chat("_astream", answers=[FakeAnswer(PIECES, A, names_model=False)])
    await adrain(model.astream("Hi", bench.config))
    return spent(A)


@scenario("missing usage")
def neither_usage_nor_name(bench: Bench) -> Outcome:
    """A call about which nothing is known still counts as one."""
    fake_chat(answers=[FakeAnswer("", names_model=False)]).invoke("", bench.config)
    return spent(Usage(7, 0), estimated_calls=1, tolerance=LOOSE)


# Failures


@scenario("failures")
def retried(bench: Bench) -> Outcome:
    """Attempts that failed are seen; only what was answered is spent."""
    bench.server.script(Reply(status=500), Reply(status=429), *reports(A))
    model = bench.server.chat_openai().with_retry(
        stop_after_attempt=3, wait_exponential_jitter=False
    )
    model.invoke("Hi", bench.config)
    return spent(A, calls=3, failed_calls=2)


@scenario("failures")
async def retried_async(bench: Bench) -> Outcome:
    """The same, asynchronously, for a model without a network."""
    failing = [FakeAnswer(error=RuntimeError("No.")), *answers(A)]
    model = fake_chat("_agenerate", answers=failing).with_retry(wait_exponential_jitter=False)
    await model.ainvoke("Hi", bench.config)
    return spent(A, calls=2, failed_calls=1)


@scenario("failures")
def retried_by_the_client(bench: Bench) -> Outcome:
    """Retries inside the provider's client are one call for LangChain."""
    bench.server.script(Reply(status=500), *reports(A))
    bench.server.chat_openai(max_retries=2).invoke("Hi", bench.config)
    return spent(A)


@scenario("failures")
def fallback(bench: Bench) -> Outcome:
    """The model that stepped in is charged, the one that failed is seen."""
    bench.server.script(Reply(status=500), *reports(B))
    main, spare = bench.server.chat_openai(), bench.server.chat_anthropic()
    main.with_fallbacks([spare]).invoke("Hi", bench.config)
    by_model = {"claude-haiku-4-5": total(B), "gpt-4.1-mini": 0}
    return spent(B, calls=2, failed_calls=1, by={"model": by_model})


@scenario("failures")
def refused(bench: Bench) -> Outcome:
    """A request that the provider refuses costs nothing."""
    bench.server.script(Reply(status=400))
    with contextlib.suppress(Exception):  # which error is the integration's choice
        bench.server.chat_openai().invoke("Hi", bench.config)
    return spent(calls=1, failed_calls=1)


@scenario("failures")
def some_of_a_batch(bench: Bench) -> Outcome:
    """A batch that returns exceptions counts the calls that went well."""
    script = [*answers(A), FakeAnswer(error=RuntimeError("No.")), *answers(B)]
    model = fake_chat(answers=script)
    config: RunnableConfig = {**bench.config, "max_concurrency": 1}
    model.batch(["1", "2", "3"], config, return_exceptions=True)
    return spent(A, B, calls=3, failed_calls=1)


@scenario("failures")
def unreadable_answer(bench: Bench) -> Outcome:
    """An answer that cannot be parsed was billed all the same."""
    bench.server.script(Reply(text="not JSON", usage=A))
    model = bench.server.chat_openai().with_structured_output(City, method="json_mode")
    with contextlib.suppress(OutputParserException):
        model.invoke("Answer in JSON.", bench.config)
    return spent(A)


@scenario("failures")
def broken_neighbour(bench: Bench) -> Outcome:
    """Another handler that raises keeps nobody from counting."""

    class Broken(BaseCallbackHandler):
        def on_llm_end(self, response: Any, **kwargs: Any) -> None:
            raise ValueError("A handler gone wrong.")

    model = fake_chat(answers=answers(A))
    model.invoke("Hi", {"callbacks": [Broken(), bench.handler]})
    return spent(A)


# Several generations


@scenario("generations")
def two_generations(bench: Bench) -> Outcome:
    """Usage of a call with ``n=2`` stands for both answers."""
    bench.server.script(*reports(A))
    bench.server.chat_openai(n=2).generate([[HumanMessage("Hi")]], callbacks=[bench.handler])
    return spent(A)


@scenario("generations")
def two_generations_of_another_integration(bench: Bench) -> Outcome:
    """The same where each message repeats the usage of the call."""
    model = fake_chat(answers=[FakeAnswer(usage=A, generations=2)])
    model.generate([[HumanMessage("Hi")]], callbacks=[bench.handler])
    return spent(A)


@scenario("generations")
def two_generations_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream."""
    bench.server.script(*reports(A))
    drain(bench.server.chat_openai(n=2, stream_usage=True).stream("Hi", bench.config))
    return spent(A)


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


# Graphs


class Notes(TypedDict, total=False):
    """A state that any number of nodes may write to."""

    notes: Annotated[list[str], add]


def graph_of(**nodes: Callable[..., Any]) -> Any:
    """Build a graph that runs *nodes* one after the other."""
    builder = StateGraph(Notes)
    previous = START
    for name, node in nodes.items():
        builder.add_node(name, _silent(node))
        builder.add_edge(previous, name)
        previous = name
    builder.add_edge(previous, END)
    return builder.compile()


def _silent(node: Callable[..., Any]) -> Callable[[Notes], Notes]:
    def run(state: Notes) -> Notes:
        node(state)
        return {"notes": ["done"]}

    return run


def asks(model: BaseChatModel) -> Callable[[Notes], Notes]:
    """Return a node that asks *model*."""

    def node(state: Notes) -> Notes:
        return {"notes": [model.invoke("Hi").text]}

    return node


def asks_async(model: BaseChatModel) -> Any:
    """Return an asynchronous node that asks *model*."""

    async def node(state: Notes) -> Notes:
        return {"notes": [(await model.ainvoke("Hi")).text]}

    return node


def side_by_side(**nodes: Any) -> Any:
    """Build a graph whose *nodes* all run in one step."""
    builder = StateGraph(Notes)
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(START, name)
    return builder.compile()


@scenario("graphs")
def nodes_in_a_row(bench: Bench) -> Outcome:
    """Every node of a graph has an account of its own."""
    writer, editor = fake_chat(answers=answers(A)), fake_chat(answers=answers(B))
    graph_of(writer=asks(writer), editor=asks(editor)).invoke({}, bench.config)
    accounts = {"writer": total(A), "editor": total(B)}
    return spent(A, B, by={"agent": accounts, "node": accounts})


@scenario("graphs")
def branches_side_by_side(bench: Bench) -> Outcome:
    """Branches that run at the same time keep their accounts apart."""
    models = [fake_chat(answers=answers(usage), delay_seconds=0.01) for usage in (A, B, C)]
    side_by_side(**{f"n{i}": asks(m) for i, m in enumerate(models)}).invoke({}, bench.config)
    accounts = {"n0": total(A), "n1": total(B), "n2": total(C)}
    return spent(A, B, C, by={"agent": accounts})


@scenario("graphs")
async def branches_side_by_side_async(bench: Bench) -> Outcome:
    """The same, asynchronously."""
    models = [fake_chat("_agenerate", answers=answers(u), delay_seconds=0.01) for u in (A, B, C)]
    graph = side_by_side(**{f"n{i}": asks_async(model) for i, model in enumerate(models)})
    await graph.ainvoke({}, bench.config)
    accounts = {"n0": total(A), "n1": total(B), "n2": total(C)}
    return spent(A, B, C, by={"agent": accounts})


@scenario("graphs")
def tracker_around_branches(bench: Bench) -> Outcome:
    """A tracker outside a graph sees all of its branches."""
    models = [fake_chat(answers=answers(usage), delay_seconds=0.01) for usage in (A, B)]
    with bench.track() as seen:
        side_by_side(one=asks(models[0]), two=asks(models[1])).invoke({})
    accounts = {"one": total(A), "two": total(B)}
    return [(seen, spent(A, B, by={"agent": accounts}))]


@scenario("graphs")
def fan_out_with_send(bench: Bench) -> Outcome:
    """Copies of a node that ``Send`` starts all go on that node's account."""
    model = fake_chat(answers=answers(*[A] * 5))
    builder = StateGraph(Notes)
    builder.add_node("worker", asks(model))
    builder.add_conditional_edges(START, lambda state: [Send("worker", {})] * 5, ["worker"])
    builder.compile().invoke({}, bench.config)
    return spent(*[A] * 5, by={"agent": {"worker": 5 * total(A)}})


@scenario("graphs")
def subgraph(bench: Bench) -> Outcome:
    """A node inside a subgraph is known by its whole path."""
    inner = graph_of(analyst=asks(fake_chat(answers=answers(A))))
    builder = StateGraph(Notes)
    builder.add_node("research", inner)
    builder.add_edge(START, "research")
    builder.compile().invoke({}, bench.config)
    by = {"node": {"research/analyst": total(A)}, "agent": {"research": total(A)}}
    return spent(A, by=by)


@scenario("graphs")
def chain_inside_a_node(bench: Bench) -> Outcome:
    """A chain inside a node, with retry and fallback, goes on the node's account."""
    failing = fake_chat(answers=[FakeAnswer(error=RuntimeError("No."))])
    spare = fake_chat(answers=answers(A))
    pipe = failing.with_fallbacks([spare]) | StrOutputParser()
    graph_of(writer=lambda state: pipe.invoke("Hi")).invoke({}, bench.config)
    return spent(A, calls=2, failed_calls=1, by={"agent": {"writer": total(A)}})


@scenario("graphs")
def node_that_is_retried(bench: Bench) -> Outcome:
    """When LangGraph repeats a node, the model calls of both attempts were billed."""
    model, attempts = fake_chat(answers=answers(A, A)), []

    def node(state: Notes) -> Notes:
        model.invoke("Hi")
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("Lost.")
        return {"notes": ["done"]}

    builder = StateGraph(Notes)
    policy = RetryPolicy(initial_interval=0.01, jitter=False)
    builder.add_node("writer", node, retry_policy=policy)
    builder.add_edge(START, "writer")
    builder.compile().invoke({}, bench.config)
    return spent(A, A, by={"agent": {"writer": 2 * total(A)}})


@scenario("graphs")
def interrupted_node(bench: Bench) -> Outcome:
    """A node that is run again after an interrupt has paid twice."""
    model = fake_chat(answers=answers(A, A))

    def node(state: Notes) -> Notes:
        model.invoke("Hi")
        return {"notes": [interrupt("May I?")]}

    builder = StateGraph(Notes)
    builder.add_node("writer", node)
    builder.add_edge(START, "writer")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {**bench.config, "configurable": {"thread_id": "t1"}}
    graph.invoke({}, config)
    graph.invoke(Command(resume="yes"), config)
    return spent(A, A, by={"thread_id": {"t1": 2 * total(A)}})


@scenario("graphs")
def threads_and_users(bench: Bench) -> Outcome:
    """Calls go on the account of the conversation and the user in the metadata."""
    model = fake_chat(answers=answers(A, B, C))
    graph = graph_of(writer=asks(model))
    for thread, user in (("t1", "ann"), ("t2", "ben"), ("t1", "ann")):
        config = {"configurable": {"thread_id": thread}, "metadata": {"user_id": user}}
        graph.invoke({}, {**bench.config, **config})
    by = {
        "thread_id": {"t1": total(A, C), "t2": total(B)},
        "user": {"ann": total(A, C), "ben": total(B)},
    }
    return spent(A, B, C, by=by)


@scenario("graphs")
def agent_named_in_metadata(bench: Bench) -> Outcome:
    """A node may name the agent whose account its calls go on."""
    builder = StateGraph(Notes)
    node = asks(fake_chat(answers=answers(A)))
    builder.add_node("n", node, metadata={"tokenopt_agent": "news"})
    builder.add_edge(START, "n")
    builder.compile().invoke({}, bench.config)
    return spent(A, by={"agent": {"news": total(A)}, "node": {"n": total(A)}})


@scenario("graphs")
def functional_api(bench: Bench) -> Outcome:
    """Tasks of LangGraph's functional API have accounts of their own."""
    model = fake_chat(answers=answers(A, B))

    @task
    def draft(text: str) -> str:
        return model.invoke(text).text

    @task
    def polish(text: str) -> str:
        return model.invoke(text).text

    @entrypoint()
    def story(text: str) -> str:
        return polish(draft(text).result()).result()

    story.invoke("Hi", bench.config)
    paths = {"story/draft": total(A), "story/polish": total(B)}
    return spent(A, B, by={"node": paths})


@scenario("graphs")
def stream_mode_messages(bench: Bench) -> Outcome:
    """``stream_mode="messages"`` turns ``invoke`` into a stream: without usage, so estimated."""
    bench.server.script(Reply(words=50))
    model = bench.server.chat_openai()
    graph = graph_of(writer=lambda state: model.invoke("Tell me all about rivers."))
    drain(graph.stream({}, bench.config, stream_mode="messages"))
    return estimated(bench)


@scenario("graphs")
def stream_mode_messages_with_usage(bench: Bench) -> Outcome:
    """With ``stream_usage=True`` it counts exactly, once."""
    bench.server.script(*reports(A))
    model = bench.server.chat_openai(stream_usage=True)
    graph = graph_of(writer=lambda state: model.invoke("Hi"))
    drain(graph.stream({}, bench.config, stream_mode="messages"))
    return spent(A)


@scenario("graphs")
async def stream_mode_updates(bench: Bench) -> Outcome:
    """Streaming a graph's updates changes nothing about its calls."""
    bench.server.script(*reports(A, B))
    model = bench.server.chat_openai()
    builder = StateGraph(Notes)
    builder.add_node("writer", asks_async(model))
    builder.add_node("editor", asks_async(model))
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "editor")
    await adrain(builder.compile().astream({}, bench.config, stream_mode="updates"))
    return spent(A, B, by={"agent": {"writer": total(A), "editor": total(B)}})


@scenario("graphs")
async def graph_astream_events(bench: Bench) -> Outcome:
    """``astream_events`` of a graph counts once."""
    bench.server.script(*reports(A))
    graph = side_by_side(writer=asks_async(bench.server.chat_openai(stream_usage=True)))
    await adrain(graph.astream_events({}, bench.config, version="v2"))
    return spent(A, by={"agent": {"writer": total(A)}})


@scenario("graphs")
def graph_stream_events(bench: Bench) -> Outcome:
    """LangGraph's event protocol (v3) counts once, details included."""
    usage = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
    bench.server.script(*reports(usage))
    graph = side_by_side(writer=asks(bench.server.chat_openai(stream_usage=True)))
    drain(graph.stream_events({}, bench.config, version="v3"))
    return spent(usage, by={"agent": {"writer": total(usage)}})


# Agents and tools


@tool
def weather(city: str) -> str:
    """Say how the weather is in a city."""
    return f"Sunny in {city}."


def calls_tool(name: str, usage: Usage, **args: Any) -> FakeAnswer:
    """Return an answer that asks for a tool."""
    return FakeAnswer("", usage, tool_calls=[{"name": name, "args": args}])


HELLO = {"messages": [("human", "Hi")]}


@scenario("agents")
def agent_with_a_tool(bench: Bench) -> Outcome:
    """An agent's account bears its name."""
    model = fake_chat(answers=[calls_tool("weather", A, city="Bern"), *answers(B)])
    agent = create_agent(model, [weather], name="clerk")
    agent.invoke(HELLO, bench.config)
    return spent(A, B, by={"agent": {"clerk": total(A, B)}})


@scenario("agents")
async def agent_over_http(bench: Bench) -> Outcome:
    """The same for a real model, asynchronously, streamed."""
    call = ToolCall("weather", {"city": "Bern"})
    bench.server.script(Reply(usage=A, tool_calls=[call]), Reply(usage=B))
    agent = create_agent(bench.server.chat_openai(stream_usage=True), [weather], name="clerk")
    await adrain(agent.astream(HELLO, bench.config, stream_mode="messages"))
    return spent(A, B, by={"agent": {"clerk": total(A, B)}})


@scenario("agents")
def model_inside_a_tool(bench: Bench) -> Outcome:
    """A model that a tool calls goes on the tool's account, and on its agent's."""
    researcher = fake_chat(answers=answers(C))

    @tool
    def research(topic: str) -> str:
        """Look into a topic."""
        return researcher.invoke(topic).text

    model = fake_chat(answers=[calls_tool("research", A, topic="rain"), *answers(B)])
    create_agent(model, [research], name="clerk").invoke(HELLO, bench.config)
    by = {
        "tool": {"research": total(C), "(none)": total(A, B)},
        "agent": {"clerk": total(A, B, C)},
    }
    return spent(A, B, C, by=by)


@scenario("agents")
async def model_inside_an_async_tool(bench: Bench) -> Outcome:
    """The same, asynchronously, with a chain inside the tool."""
    researcher = fake_chat("_agenerate", answers=answers(C)) | StrOutputParser()

    @tool
    async def research(topic: str) -> str:
        """Look into a topic."""
        return await researcher.ainvoke(topic)

    model = fake_chat("_agenerate", answers=[calls_tool("research", A, topic="x"), *answers(B)])
    await create_agent(model, [research], name="clerk").ainvoke(HELLO, bench.config)
    return spent(A, B, C, by={"tool": {"research": total(C), "(none)": total(A, B)}})


@scenario("agents")
def two_tools_at_once(bench: Bench) -> Outcome:
    """Tools that run at the same time keep their accounts apart."""
    models = {"left": fake_chat(answers=answers(B)), "right": fake_chat(answers=answers(C))}

    @tool
    def left(topic: str) -> str:
        """Look to the left."""
        return models["left"].invoke(topic).text

    @tool
    def right(topic: str) -> str:
        """Look to the right."""
        return models["right"].invoke(topic).text

    both = [{"name": name, "args": {"topic": "x"}} for name in models]
    model = fake_chat(answers=[FakeAnswer("", A, tool_calls=both), *answers(A)])
    create_agent(model, [left, right], name="clerk").invoke(HELLO, bench.config)
    by_tool = {"left": total(B), "right": total(C), "(none)": total(A, A)}
    return spent(A, A, B, C, by={"tool": by_tool})


@scenario("agents")
def tool_called_by_hand(bench: Bench) -> Outcome:
    """A tool outside any agent has its account too."""
    model = fake_chat(answers=answers(A))

    @tool
    def research(topic: str) -> str:
        """Look into a topic."""
        return model.invoke(topic).text

    research.invoke({"topic": "rain"}, bench.config)
    return spent(A, by={"tool": {"research": total(A)}})


@scenario("agents")
def agent_as_a_tool(bench: Bench) -> Outcome:
    """An agent inside another one's tool has its own account, and is the tool's too."""
    expert = create_agent(fake_chat(answers=answers(C)), name="expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask somebody who knows."""
        return str(expert.invoke({"messages": [("human", question)]})["messages"][-1].text)

    model = fake_chat(answers=[calls_tool("ask_expert", A, question="Why?"), *answers(B)])
    create_agent(model, [ask_expert], name="clerk").invoke(HELLO, bench.config)
    by = {
        "agent": {"clerk": total(A, B), "expert": total(C)},
        "tool": {"ask_expert": total(C), "(none)": total(A, B)},
    }
    return spent(A, B, C, by=by)


@scenario("agents")
def agents_as_nodes(bench: Bench) -> Outcome:
    """Agents that are nodes of a graph go by their own names; the path is the graph's."""
    analyst = create_agent(fake_chat(answers=answers(A)), name="analyst")
    writer = create_agent(fake_chat(answers=answers(B)), name="writer")
    builder = StateGraph(MessagesState)
    builder.add_node("first", analyst)
    builder.add_node("second", writer)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.compile().invoke(HELLO, bench.config)
    by = {
        "agent": {"analyst": total(A), "writer": total(B)},
        "node": {"first/model": total(A), "second/model": total(B)},
    }
    return spent(A, B, by=by)


# Response caches


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


# Details of the bill


DETAILED = Usage(1_000, 200, cache_read_tokens=600, reasoning_tokens=120)
WRITING = Usage(1_000, 200, cache_read_tokens=300, cache_write_tokens=500)
AN_HOUR = Usage(1_000, 200, cache_write_tokens=500, cache_write_1h_tokens=400)


@scenario("details")
def openai_details(bench: Bench) -> Outcome:
    """Cached and reasoning tokens are parts of the totals."""
    bench.server.script(*reports(DETAILED))
    bench.server.chat_openai().invoke("Hi", bench.config)
    return spent(DETAILED)


@scenario("details")
def openai_details_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream."""
    bench.server.script(*reports(DETAILED))
    drain(bench.server.chat_openai(stream_usage=True).stream("Hi", bench.config))
    return spent(DETAILED)


@scenario("details")
def openai_priority_tier(bench: Bench) -> Outcome:
    """A service tier renames the details; they are still counted."""
    bench.server.script(Reply(usage=DETAILED, service_tier="priority"))
    bench.server.chat_openai().invoke("Hi", bench.config)
    return spent(DETAILED)


@scenario("details")
def openai_responses(bench: Bench) -> Outcome:
    """The Responses API reports the same under other names."""
    bench.server.script(*reports(DETAILED))
    bench.server.chat_openai(use_responses_api=True).invoke("Hi", bench.config)
    return spent(DETAILED)


@scenario("details")
async def openai_responses_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream."""
    bench.server.script(*reports(DETAILED))
    model = bench.server.chat_openai(use_responses_api=True)
    await adrain(model.astream("Hi", bench.config))
    return spent(DETAILED)


@scenario("details")
def anthropic_prompt_cache(bench: Bench) -> Outcome:
    """Tokens written to and read from Anthropic's prompt cache are input, counted once."""
    bench.server.script(*reports(WRITING))
    bench.server.chat_anthropic().invoke("Hi", bench.config)
    return spent(WRITING)


@scenario("details")
def anthropic_prompt_cache_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream."""
    bench.server.script(*reports(WRITING))
    drain(bench.server.chat_anthropic().stream("Hi", bench.config))
    return spent(WRITING)


@scenario("details")
async def anthropic_hour(bench: Bench) -> Outcome:
    """What is kept for an hour is known: it costs more."""
    bench.server.script(*reports(AN_HOUR))
    await bench.server.chat_anthropic().ainvoke("Hi", bench.config)
    return spent(AN_HOUR)


@scenario("details")
def gemini_thoughts(bench: Bench) -> Outcome:
    """Gemini's thoughts are output, its cached content is input."""
    bench.server.script(*reports(DETAILED))
    bench.server.chat_gemini().invoke("Hi", bench.config)
    return spent(DETAILED)


@scenario("details")
async def gemini_thoughts_in_a_stream(bench: Bench) -> Outcome:
    """The same in a stream of running totals."""
    bench.server.script(*reports(DETAILED))
    await adrain(bench.server.chat_gemini().astream("Hi", bench.config))
    return spent(DETAILED)


@scenario("details")
def truncated(bench: Bench) -> Outcome:
    """An answer that was cut at ``max_tokens`` costs what was written."""
    bench.server.script(Reply(words=200))
    bench.server.chat_openai(max_completion_tokens=16).invoke("Hi", bench.config)
    assert bench.server.billed[0].output_tokens == 16
    return spent(bench.server.billed[0])


@scenario("details")
def impossible_numbers(bench: Bench) -> Outcome:
    """Numbers that cannot be true are kept as they came, and flagged."""
    absurd = Usage(10**9, 5)
    bench.server.script(*reports(absurd))
    bench.server.chat_openai().invoke("Hi", bench.config)
    return spent(absurd, flawed_calls=1)


@scenario("details")
def negative_numbers(bench: Bench) -> Outcome:
    """The same for negative numbers."""
    fake_chat(answers=answers(Usage(-5, 40))).invoke("Hi", bench.config)
    return spent(Usage(-5, 40), flawed_calls=1)


# Tools and structured output


class City(BaseModel):
    """A city."""

    name: str
    people: int


@scenario("structured output")
def by_function_calling(bench: Bench) -> Outcome:
    """Structured output by a forced tool call counts once."""
    bench.server.script(*reports(A))
    model = bench.server.chat_openai().with_structured_output(City, method="function_calling")
    assert model.invoke("Hi", bench.config) == City(name="word", people=1)
    return spent(A)


@scenario("structured output")
async def by_json_schema(bench: Bench) -> Outcome:
    """Structured output by a schema counts once."""
    bench.server.script(*reports(A))
    model = bench.server.chat_openai().with_structured_output(City, method="json_schema")
    assert await model.ainvoke("Hi", bench.config) == City(name="word", people=1)
    return spent(A)


@scenario("structured output")
def by_json_schema_with_raw(bench: Bench) -> Outcome:
    """``include_raw`` does not count the message twice."""
    bench.server.script(*reports(A))
    model = bench.server.chat_openai().with_structured_output(City, include_raw=True)
    model.invoke("Hi", bench.config)
    return spent(A)


@scenario("structured output")
def by_anthropic(bench: Bench) -> Outcome:
    """The same for Anthropic."""
    bench.server.script(*reports(WRITING))
    model = bench.server.chat_anthropic().with_structured_output(City)
    assert model.invoke("Hi", bench.config) == City(name="word", people=1)
    return spent(WRITING)


@scenario("structured output")
def by_gemini(bench: Bench) -> Outcome:
    """The same for Gemini."""
    bench.server.script(*reports(DETAILED))
    model = bench.server.chat_gemini().with_structured_output(City)
    assert model.invoke("Hi", bench.config) == City(name="word", people=1)
    return spent(DETAILED)


@scenario("structured output")
def tool_calls_in_a_stream(bench: Bench) -> Outcome:
    """Tool calls that arrive in pieces count once."""
    bench.server.script(Reply(usage=A, tool_calls=[ToolCall("weather", {"city": "Bern"})]))
    model = bench.server.chat_openai(stream_usage=True).bind_tools([weather])
    drain(model.stream("Hi", bench.config))
    return spent(A)


# Other kinds of models


@scenario("other models")
def completion_model(bench: Bench) -> Outcome:
    """A completion model reports its usage beside the answer."""
    FakeTextModel(usage=A).invoke("Hi", bench.config)
    return spent(A)


@scenario("other models")
def completion_model_batch(bench: Bench) -> Outcome:
    """It reports one sum for a whole batch."""
    FakeTextModel(usage=A).batch(["1", "2", "3"], bench.config)
    return spent(A, A, A)


@scenario("other models")
def silent_completion_model(bench: Bench) -> Outcome:
    """Without usage its tokens are counted, and the count is flagged."""
    prompt = "Tell me all about rivers. " * 20
    FakeTextModel(text=PIECES).invoke(prompt, bench.config)
    usage = Usage(count_tokens(prompt), count_tokens(PIECES))
    return spent(usage, estimated_calls=1, tolerance=LOOSE)


@scenario("other models")
def embeddings(bench: Bench) -> Outcome:
    """LangChain tells callbacks nothing about embeddings: they are not counted as anything."""
    with bench.track() as seen:
        DeterministicFakeEmbedding(size=8).embed_documents(["rain", "sun"])
    return [(seen, spent())]


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
