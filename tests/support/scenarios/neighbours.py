"""What counting must leave alone, and what it must not stumble over."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models import FakeListLLM, FakeStreamingListLLM
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import BaseTracer

from langchain_tokenopt.core.usage import Usage
from tests.support.conformance import Bench, Outcome, spent
from tests.support.fakes import FakeAnswer, FakeTextModel, fake_chat
from tests.support.model_server import count_tokens
from tests.support.providers import PROVIDERS, Answer
from tests.support.scenarios.matrix import PROMPT, TEXT, unbilled
from tests.support.scenarios.registry import A, adrain, answers, scenario, weather

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


@scenario(GROUP)
async def others_hear_of_a_batch_of_completions(bench: Bench) -> Outcome:
    """Handlers of others hear of every completion of a batch."""
    bare, beside = [Events(), Runs()], [Events(), Runs()]
    model = FakeListLLM(responses=[TEXT])
    await model.abatch([PROMPT] * 2, {"callbacks": bare})
    with bench.track() as seen:
        await model.abatch([PROMPT] * 2, {"callbacks": beside})
    heard = {"heard": ([sorted(h.seen) for h in bare], [sorted(h.seen) for h in beside])}
    usage = Usage(count_tokens(PROMPT), count_tokens(TEXT))
    return [(seen, spent(usage, usage, estimated_calls=2, tolerance=0.6, others=heard))]


@scenario(GROUP)
async def others_hear_of_streamed_completions(bench: Bench) -> Outcome:
    """The same for a stream of a completion model, token by token."""
    bare, beside = [Events(), Runs()], [Events(), Runs()]
    model = FakeStreamingListLLM(responses=[TEXT])
    await adrain(model.astream(PROMPT, {"callbacks": bare}))
    with bench.track() as seen:
        await adrain(model.astream(PROMPT, {"callbacks": beside}))
    heard = {"heard": ([h.seen for h in bare], [h.seen for h in beside])}
    usage = Usage(count_tokens(PROMPT), count_tokens(TEXT))
    return [(seen, spent(usage, estimated_calls=1, tolerance=0.6, others=heard))]


@scenario(GROUP)
async def others_hear_of_streamed_chats(bench: Bench) -> Outcome:
    """The same for a chat model's stream inside a function."""
    bare, beside = [Events(), Runs()], [Events(), Runs()]

    def run_with(handlers: list[Any]) -> Any:
        model = fake_chat("_astream", answers=[FakeAnswer("One two three.", A)])
        return RunnableLambda(model.ainvoke).astream(PROMPT, {"callbacks": handlers})

    await adrain(run_with(bare))
    with bench.track() as seen:
        await adrain(run_with(beside))
    heard = {"heard": ([h.seen for h in bare], [h.seen for h in beside])}
    return [(seen, spent(A, others=heard))]


@scenario(GROUP)
async def others_hear_of_completions_with_a_bill(bench: Bench) -> Outcome:
    """The same for a completion model that reports its usage."""
    bare, beside = [Events(), Runs()], [Events(), Runs()]
    model = FakeTextModel(usage=A)
    await model.ainvoke(PROMPT, {"callbacks": bare})
    with bench.track() as seen:
        await model.ainvoke(PROMPT, {"callbacks": beside})
    heard = {"heard": ([h.seen for h in bare], [h.seen for h in beside])}
    return [(seen, spent(A, others=heard))]


@scenario(GROUP)
def gemini_runs_code_beside_a_function(bench: Bench) -> Outcome:
    """A provider's own tool mixed with a function, in one list."""
    gemini = PROVIDERS["gemini"]
    bench.server.script(gemini.whole(Answer(text=TEXT)))
    model = gemini.chat(bench.server).bind_tools([{"code_execution": {}}, weather])
    model.invoke(PROMPT, bench.config)
    return unbilled(gemini, TEXT, tolerance=1.2)


@scenario(GROUP)
async def openai_searches(bench: Bench) -> Outcome:
    """OpenAI's own tools, over responses."""
    responses = PROVIDERS["responses"]
    bench.server.script(responses.whole(Answer(text=TEXT)))
    model = responses.chat(bench.server).bind_tools([{"type": "web_search_preview"}, weather])
    await model.ainvoke(PROMPT, bench.config)
    return unbilled(responses, TEXT, tolerance=1.0)


@scenario(GROUP)
def anthropic_searches(bench: Bench) -> Outcome:
    """Anthropic's server tools."""
    anthropic = PROVIDERS["anthropic"]
    bench.server.script(
        anthropic.whole(Answer(text=TEXT, usage={"input_tokens": 0, "output_tokens": 0}))
    )
    tools: list[Any] = [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "bash_20250124", "name": "bash"},
        weather,
    ]
    anthropic.chat(bench.server).bind_tools(tools).invoke(PROMPT, bench.config)
    return unbilled(anthropic, TEXT, tolerance=2.5)


@scenario(GROUP)
def tools_of_a_strange_make(bench: Bench) -> Outcome:
    """Whatever is bound as a tool: counted as well as it goes, and the call is made."""
    odd: list[Any] = [{"type": "mcp", "server": {"url": "http://127.0.0.1", "x": {1, 2}}}]
    model = fake_chat(answers=[FakeAnswer(TEXT)], model="gpt-4.1-mini").bind(tools=odd)
    model.invoke(PROMPT, bench.config)
    return unbilled(PROVIDERS["openai"], TEXT, tolerance=0.6)


@scenario(GROUP)
def copied_handler_counts_its_own(bench: Bench) -> Outcome:
    """A handler that was copied before it counted can be used in its own right."""
    try:
        twin = copy.deepcopy(bench.handler)
    except TypeError:
        return spent(others={"copied": (True, False)})
    fake_chat(answers=answers(A)).invoke(PROMPT, {"callbacks": [twin]})
    return [(twin, spent(A))]
