"""Calls that are answered whole, one or many, and what they carry."""

from __future__ import annotations

from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel
from pydantic import BaseModel

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import FakeAnswer, FakeTextModel, fake_chat
from tests.support.model_server import Reply, ToolCall, count_tokens
from tests.support.scenarios.bills import DETAILED, WRITING
from tests.support.scenarios.registry import (
    LOOSE,
    PIECES,
    A,
    B,
    C,
    adrain,
    answers,
    drain,
    reports,
    scenario,
    total,
    weather,
)

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
