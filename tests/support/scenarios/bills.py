"""What the provider says about the bill, all of it or little."""

from __future__ import annotations

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import Reply, ToolCall
from tests.support.scenarios.registry import (
    LOOSE,
    PIECES,
    TIGHT,
    A,
    adrain,
    answers,
    drain,
    estimated,
    reports,
    scenario,
    total,
    weather,
)

# Usage or names that are missing


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
    """A number that cannot be true is no report: that side is counted, and flagged."""
    bench.server.script(*reports(Usage(10**9, 5)))
    bench.server.chat_openai().invoke("Hi", bench.config)
    return spent(Usage(8, 5), flawed_calls=1, estimated_calls=1, tolerance=TIGHT)


@scenario("details")
def negative_numbers(bench: Bench) -> Outcome:
    """The same for negative numbers."""
    fake_chat(answers=answers(Usage(-5, 40))).invoke("Hi", bench.config)
    return spent(Usage(8, 40), flawed_calls=1, estimated_calls=1, tolerance=TIGHT)
