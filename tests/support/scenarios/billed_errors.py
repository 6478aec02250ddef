"""Calls that were answered and billed, and then raised or were given up."""

from __future__ import annotations

import contextlib
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import FakeChat
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.calls import City
from tests.support.scenarios.matrix import PROMPT, unbilled
from tests.support.scenarios.registry import B, drain, scenario, total

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
    """A response that ends inside its object was billed, whether or not the bill comes through."""
    bill = Usage(openai.tokens(PROMPT), 1_200)
    answer = Answer(text=CUT, finish="max_output_tokens", usage=responses.usage(bill))
    bench.server.script(responses.whole(answer))
    model = responses.chat(bench.server).with_structured_output(City, method="json_schema")
    _must_raise(model, bench)
    facts: dict[str, Any] = {"estimated_calls": None, "doubtful_calls": 1, "failed_calls": None}
    return spent(bill, output_tokens=None, tolerance=0.5, **facts)


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
