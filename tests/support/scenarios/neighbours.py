"""What counting must leave alone, and what it must not stumble over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.tracers import BaseTracer

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import fake_chat
from tests.support.model_server import count_tokens
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.matrix import PROMPT, TEXT, unbilled
from tests.support.scenarios.registry import A, answers, scenario

GROUP = "neighbours"

gemini = PROVIDERS["gemini"]


class Events(AsyncCallbackHandler):
    """Remembers the names of all events."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("llm_start")

    async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("chat_model_start")

    async def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("token")

    async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("llm_end")

    async def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("chain_start")

    async def on_chain_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append("chain_end")


class Runs(BaseTracer):
    """Remembers the kinds of all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def _persist_run(self, run: Any) -> None:
        self.seen.append(f"{run.run_type} {sorted(event['name'] for event in run.events)}")


@scenario(GROUP)
async def others_hear_of_completion_models(bench: Bench) -> Outcome:
    """Handlers of others hear as much of a completion model as without us."""
    bare, beside = [Events(), Runs()], [Events(), Runs()]
    model = FakeListLLM(responses=[TEXT])
    await model.ainvoke(PROMPT, {"callbacks": bare})
    with bench.track() as seen:
        await model.ainvoke(PROMPT, {"callbacks": beside})
    heard = {"heard": ([h.seen for h in bare], [h.seen for h in beside])}
    usage = Usage(count_tokens(PROMPT), count_tokens(TEXT))
    return [(seen, spent(usage, estimated_calls=1, tolerance=0.6, others=heard))]


@scenario(GROUP)
async def others_hear_of_chat_models(bench: Bench) -> Outcome:
    """The same for chat models in a chain."""
    bare, beside = [Events(), Runs()], [Events(), Runs()]
    for handlers, extra in ((bare, []), (beside, [bench.handler])):
        chain = fake_chat("_agenerate", answers=answers(A)) | (lambda message: message.text)
        await chain.ainvoke(PROMPT, {"callbacks": [*handlers, *extra]})
    heard = {"heard": ([h.seen for h in bare], [h.seen for h in beside])}
    return spent(A, others=heard)


@scenario(GROUP)
def handler_in_a_copied_configuration(bench: Bench) -> Outcome:
    """A configuration with the handler in it can be copied, and counts on."""
    fake_chat(answers=answers(A)).invoke(PROMPT, bench.config)
    return spent(A, others={"copies": ([True, True], [_is_made(c, bench) for c in COPIES])})


COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy]


def _is_made(by: Callable[[Any], Any], bench: Bench) -> bool:
    try:
        by({"callbacks": [bench.handler], "tags": ["x"]})
    except TypeError:
        return False
    return True


@scenario(GROUP)
def gemini_searches(bench: Bench) -> Outcome:
    """A tool that the provider runs itself has no schema; it is counted as what it is."""
    bench.server.script(gemini.whole(Answer(text=TEXT)))
    gemini.chat(bench.server).bind_tools([{"google_search": {}}]).invoke(PROMPT, bench.config)
    return unbilled(gemini, TEXT, tolerance=1.0)  # with what the tool adds
