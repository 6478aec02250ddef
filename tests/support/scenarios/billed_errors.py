"""Calls that were answered and billed, and then raised or were given up."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Any

from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import FakeChat
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.calls import City
from tests.support.scenarios.matrix import PROMPT, TEXT, unbilled
from tests.support.scenarios.registry import B, drain, scenario, total
from tests.support.waiting import limit_once

GROUP = "billed and raised"
CUT = '{"name": "Ber'
BILLED = Usage(900, 1_200)

openai, responses, bedrock = PROVIDERS["openai"], PROVIDERS["responses"], PROVIDERS["bedrock"]


@scenario(GROUP)
def schema_cut_short(bench: Bench) -> Outcome:
    """OpenAI's client raises for an object that was cut; the exception carries the bill."""
    answer = Answer(text=CUT, finish="length", usage=openai.usage(BILLED))
    bench.server.script(openai.whole(answer))
    model = openai.chat(bench.server).with_structured_output(City, method="json_schema")
    _must_raise(model, bench)
    return spent(BILLED, failed_calls=None)


@scenario(GROUP)
async def schema_filtered(bench: Bench) -> Outcome:
    """The same where a filter has cut it."""
    answer = Answer(text=CUT, finish="content_filter", usage=openai.usage(BILLED))
    bench.server.script(openai.whole(answer))
    model = openai.chat(bench.server).with_structured_output(City, method="json_schema")
    with contextlib.suppress(Exception):
        await model.ainvoke(PROMPT, bench.config)
        raise AssertionError("The client did not raise.")
    return spent(BILLED, failed_calls=None)


@scenario(GROUP)
def schema_cut_short_in_a_stream(bench: Bench) -> Outcome:
    """In a stream the exception may come without a bill: then what arrived is counted."""
    answer = Answer(text=CUT, finish="length", usage=openai.usage(BILLED))
    bench.server.script(openai.stream(answer))
    model = openai.chat(bench.server).with_structured_output(City, method="json_schema")
    with contextlib.suppress(Exception):
        drain(model.stream(PROMPT, bench.config))
    usage = Usage(openai.tokens(PROMPT), 5)
    facts: dict[str, Any] = {"estimated_calls": None, "doubtful_calls": 1, "failed_calls": None}
    return spent(usage, abandoned_calls=None, tolerance=0.5, **facts)


@scenario(GROUP)
def responses_cut_short(bench: Bench) -> Outcome:
    """A response that ends inside its object was billed, though the exception does not say so."""
    bill = Usage(openai.tokens(PROMPT), 1_200)
    answer = Answer(text=CUT, finish="max_output_tokens", usage=responses.usage(bill))
    bench.server.script(responses.whole(answer))
    model = responses.chat(bench.server).with_structured_output(City, method="json_schema")
    _must_raise(model, bench)
    return spent(bill, failed_calls=None)


@scenario(GROUP)
def retries_that_were_billed(bench: Bench) -> Outcome:
    """Retries hide errors, not their price."""
    cut = openai.whole(Answer(text=CUT, finish="length", usage=openai.usage(BILLED)))
    fine = openai.whole(Answer(text='{"name": "Bern", "people": 1}', usage=openai.usage(B)))
    bench.server.script(cut, cut, fine)
    model = openai.chat(bench.server).with_structured_output(City, method="json_schema")
    model.with_retry(wait_exponential_jitter=False).invoke(PROMPT, bench.config)
    return spent(BILLED, BILLED, B, failed_calls=None)


@scenario(GROUP)
def answer_that_its_integration_cannot_read(bench: Bench) -> Outcome:
    """An integration that stumbles over an answer has got one: the input is counted, flagged."""
    bench.server.script(bedrock.whole(Answer()))
    with contextlib.suppress(KeyError):
        bedrock.chat(bench.server).invoke(PROMPT, bench.config)
        raise AssertionError("The integration did not raise.")
    return unbilled(bedrock, "", failed_calls=None)


@scenario(GROUP)
def interrupted_by_the_keyboard(bench: Bench) -> Outcome:
    """Ctrl-C stops the client, not the bill."""

    class Interrupted(FakeChat):
        def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        Interrupted(model="gpt-4.1-mini").invoke(PROMPT, bench.config)
    return unbilled(openai, "", failed_calls=None, abandoned_calls=None)


@scenario(GROUP)
def refused_at_a_price_per_request(bench: Bench) -> Outcome:
    """A price per request is owed for the answer, not for the refusals before it."""
    sonar = PROVIDERS["perplexity"]
    fine = sonar.whole(Answer(usage=sonar.usage(B)))
    refused = type(fine)(status=429)
    bench.server.script(refused, refused, refused, fine)
    model = sonar.chat(bench.server).with_retry(stop_after_attempt=4, wait_exponential_jitter=False)
    model.invoke(PROMPT, bench.config)
    return spent(B, calls=4, failed_calls=3, cost_nano_usd=12_000_000 + total(B) * 1_000)


def _must_raise(model: Any, bench: Bench) -> None:
    try:
        model.invoke(PROMPT, bench.config)
    except Exception:
        return
    raise AssertionError("The client did not raise.")


@scenario(GROUP)
def azure_schema_cut_short(bench: Bench) -> Outcome:
    """On Azure too."""
    azure = PROVIDERS["azure"]
    bench.server.script(azure.whole(Answer(text=CUT, finish="length", usage=azure.usage(BILLED))))
    model = azure.chat(bench.server, model="gpt-4.1-mini")
    _must_raise(model.with_structured_output(City, method="json_schema"), bench)
    return spent(BILLED, failed_calls=None)


@scenario(GROUP)
async def xai_schema_cut_short(bench: Bench) -> Outcome:
    """Integrations that build on OpenAI's client inherit its exceptions."""
    xai = PROVIDERS["xai"]
    usage = Usage(900, 1_200, cache_read_tokens=500)
    bench.server.script(xai.whole(Answer(text=CUT, finish="length", usage=xai.usage(usage))))
    model = xai.chat(bench.server).with_structured_output(City, method="json_schema")
    with contextlib.suppress(Exception):
        await model.ainvoke(PROMPT, bench.config)
        raise AssertionError("The client did not raise.")
    return spent(usage, failed_calls=None)


@scenario(GROUP)
def schema_cut_short_with_raw(bench: Bench) -> Outcome:
    """``include_raw`` does not stop the client from raising, nor the bill."""
    usage = Usage(900, 1_200, cache_read_tokens=500, reasoning_tokens=700)
    bench.server.script(openai.whole(Answer(text=CUT, finish="length", usage=openai.usage(usage))))
    model = openai.chat(bench.server).with_structured_output(
        City, method="json_schema", include_raw=True
    )
    with contextlib.suppress(Exception):
        model.invoke(PROMPT, bench.config)
    return spent(usage, failed_calls=None)


@scenario(GROUP)
def fallback_from_a_billed_answer(bench: Bench) -> Outcome:
    """The model that stepped in is charged, and so is the one that was billed before it raised."""
    cut = openai.whole(Answer(text=CUT, finish="length", usage=openai.usage(BILLED)))
    spare = PROVIDERS["anthropic"]
    bench.server.script(cut, spare.whole(Answer(usage=spare.usage(B))))
    main = openai.chat(bench.server).with_structured_output(City, method="json_schema")
    main.with_fallbacks([spare.chat(bench.server)]).invoke(PROMPT, bench.config)
    return spent(BILLED, B, failed_calls=None)


@scenario(GROUP)
def batch_with_a_billed_error(bench: Bench) -> Outcome:
    """One of a batch raises after its answer; all three are billed."""
    cut = openai.whole(Answer(text=CUT, finish="length", usage=openai.usage(BILLED)))
    fine = openai.whole(Answer(text='{"name": "Bern", "people": 1}', usage=openai.usage(B)))
    bench.server.script(fine, cut, fine)
    model = openai.chat(bench.server).with_structured_output(City, method="json_schema")
    config: Any = {**bench.config, "max_concurrency": 1}
    model.batch([PROMPT] * 3, config, return_exceptions=True)
    return spent(B, BILLED, B, failed_calls=None)


@scenario(GROUP)
def agent_whose_answer_was_cut(bench: Bench) -> Outcome:
    """An agent with a schema for its answer: the exception passes through the graph."""
    bench.server.script(openai.whole(Answer(text=CUT, finish="length", usage=openai.usage(BILLED))))
    agent = create_agent(
        openai.chat(bench.server), response_format=ProviderStrategy(City), name="clerk"
    )
    with contextlib.suppress(Exception):
        agent.invoke({"messages": [("human", PROMPT)]}, bench.config)
    return spent(BILLED, failed_calls=None, by={"agent": {"clerk": BILLED.total_tokens}})


@scenario(GROUP)
def json_mode_cut_short(bench: Bench) -> Outcome:
    """In JSON mode as well."""
    bench.server.script(openai.whole(Answer(text=CUT, finish="length", usage=openai.usage(BILLED))))
    model = openai.chat(bench.server).with_structured_output(City, method="json_mode")
    with contextlib.suppress(Exception):
        model.invoke(PROMPT, bench.config)
    return spent(BILLED, failed_calls=None)


@scenario(GROUP)
async def responses_filtered(bench: Bench) -> Outcome:
    """A response that a filter has cut."""
    bill = Usage(openai.tokens(PROMPT), 300)
    answer = Answer(text=CUT, finish="content_filter", usage=responses.usage(bill))
    bench.server.script(responses.whole(answer))
    model = responses.chat(bench.server).with_structured_output(City, method="json_schema")
    with contextlib.suppress(Exception):
        await model.ainvoke(PROMPT, bench.config)
    return spent(bill, failed_calls=None)


@scenario(GROUP)
def openrouter_answer_that_its_client_refuses(bench: Bench) -> Outcome:
    """A client that finds an answer invalid has got it: its exception quotes the bill."""
    openrouter = PROVIDERS["openrouter"]
    raw = openrouter.whole(Answer(text=TEXT, usage=openrouter.usage(Usage(300, 91))))
    body = {key: value for key, value in raw.body.items() if key != "system_fingerprint"}
    bench.server.script(replace(raw, body=body | {"created": "today"}))
    _must_raise(openrouter.chat(bench.server), bench)
    facts: dict[str, Any] = {"estimated_calls": None, "flawed_calls": None, "failed_calls": None}
    return spent(Usage(300, 91), output_tokens=None, tolerance=0.6, **facts)


@scenario(GROUP)
def perplexity_bill_that_its_integration_cannot_add(bench: Bench) -> Outcome:
    """Nulls in a bill break its integration; the answer was given all the same."""
    sonar = PROVIDERS["perplexity"]
    told = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}
    bench.server.script(sonar.whole(Answer(text=TEXT, usage=told)))
    with contextlib.suppress(TypeError):
        sonar.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(sonar, "", output_tokens=None, failed_calls=None)


@scenario(GROUP)
def bedrock_nulls_that_its_integration_cannot_add(bench: Bench) -> Outcome:
    """The same for Bedrock."""
    bedrock = PROVIDERS["bedrock"]
    told = {"inputTokens": None, "outputTokens": None, "totalTokens": None}
    bench.server.script(bedrock.whole(Answer(text=TEXT, usage=told)))
    with contextlib.suppress(TypeError):
        bedrock.chat(bench.server).invoke(PROMPT, bench.config)
    return unbilled(bedrock, "", output_tokens=None, failed_calls=None)


@scenario(GROUP)
async def given_up_by_asyncio(bench: Bench) -> Outcome:
    """``asyncio.timeout`` around a call stops the client, not the bill."""
    raw = openai.whole(Answer(usage=openai.usage(BILLED)))
    bench.server.script(replace(raw, delay_seconds=math.inf))
    with contextlib.suppress(TimeoutError):
        async with limit_once(lambda: bench.server.requests):
            await openai.chat(bench.server).ainvoke(PROMPT, bench.config)
    return unbilled(openai, "", failed_calls=None, abandoned_calls=None)


@scenario(GROUP)
async def timed_out_async(bench: Bench) -> Outcome:
    """A client's time-out, asynchronously, for a provider with a client of its own."""
    groq = PROVIDERS["groq"]
    raw = groq.whole(Answer(usage=groq.usage(BILLED)))
    bench.server.script(replace(raw, delay_seconds=math.inf))
    with contextlib.suppress(Exception):
        await groq.chat(bench.server, timeout=0.2).ainvoke(PROMPT, bench.config)
    return unbilled(groq, "", failed_calls=None, abandoned_calls=None)


@scenario(GROUP)
def timed_out_in_a_stream(bench: Bench) -> Outcome:
    """A client that waits no longer for the next chunk: what had arrived is billed."""
    raw = openai.stream(Answer(text=TEXT, usage=openai.usage(BILLED)))
    bench.server.script(replace(raw, pace_seconds=0.02))
    received = ""
    with contextlib.suppress(Exception):
        for chunk in openai.chat(bench.server, timeout=5).stream(PROMPT, bench.config):
            received += chunk.text
            if len(received.split()) >= 12:
                raise TimeoutError
    return unbilled(openai, received, failed_calls=None, abandoned_calls=None)


@scenario(GROUP)
def stopped_by_the_system(bench: Bench) -> Outcome:
    """So does SystemExit."""

    class Stopped(FakeChat):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            raise SystemExit(1)

    with contextlib.suppress(SystemExit):
        Stopped(model="gpt-4.1-mini").invoke(PROMPT, bench.config)
    return unbilled(openai, "", failed_calls=None, abandoned_calls=None)


@scenario(GROUP)
def never_connected(bench: Bench) -> Outcome:
    """A server that cannot be reached has billed nothing."""
    model = openai.chat(bench.server, base_url="http://127.0.0.1:9/v1")
    with contextlib.suppress(Exception):
        model.invoke(PROMPT, bench.config)
    return spent(calls=1, failed_calls=1)


@scenario(GROUP)
def error_in_the_middle_of_a_stream(bench: Bench) -> Outcome:
    """An error that a provider sends inside a stream: what had arrived is billed."""
    anthropic = PROVIDERS["anthropic"]
    raw = anthropic.stream(Answer(text=TEXT, usage=anthropic.usage(BILLED)))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    bench.server.script(replace(raw, events=[*raw.events[:32], error]))
    received = ""
    with contextlib.suppress(Exception):
        for chunk in anthropic.chat(bench.server).stream(PROMPT, bench.config):
            received += chunk.text
    return unbilled(anthropic, received, failed_calls=None, abandoned_calls=None)


@scenario(GROUP)
def error_in_the_middle_of_a_routed_stream(bench: Bench) -> Outcome:
    """The same from OpenRouter, which sends it as a chunk without choices."""
    openrouter = PROVIDERS["openrouter"]
    raw = openrouter.stream(Answer(text=TEXT, usage=openrouter.usage(BILLED)))
    error = {"choices": [], "error": {"code": 502, "message": "Provider returned error"}}
    failed = {**raw.events[0], **error}
    bench.server.script(replace(raw, events=[*raw.events[:30], failed]))
    received = ""
    with contextlib.suppress(Exception):
        for chunk in openrouter.chat(bench.server).stream(PROMPT, bench.config):
            received += chunk.text
    return unbilled(openrouter, received, failed_calls=None, abandoned_calls=None)


@scenario(GROUP)
def reader_that_breaks(bench: Bench) -> Outcome:
    """An error in the loop that reads a stream is not the model's; what arrived is billed."""
    bench.server.script(openai.stream(Answer(text=TEXT, usage=openai.usage(BILLED))))
    received = ""
    with contextlib.suppress(ZeroDivisionError):
        for chunk in openai.chat(bench.server).stream(PROMPT, bench.config):
            received += chunk.text
            if len(received.split()) >= 30:
                raise ZeroDivisionError
    return unbilled(openai, received, abandoned_calls=1)


@scenario(GROUP)
def stream_of_a_schema_that_is_whole(bench: Bench) -> Outcome:
    """A structured stream that ends well is billed once, though no chunk bears the bill."""
    text = '{"name": "Bern", "people": 1}'
    bench.server.script(openai.stream(Answer(text=text, usage=openai.usage(B))))
    model = openai.chat(bench.server).with_structured_output(City, method="json_schema")
    drain(model.stream(PROMPT, bench.config))
    return spent(B)
