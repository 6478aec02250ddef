"""Calls that fail, wholly or in part."""

from __future__ import annotations

import contextlib
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.runnables import RunnableConfig

from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import Reply
from tests.support.scenarios.calls import City
from tests.support.scenarios.registry import A, B, answers, reports, scenario, total


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
