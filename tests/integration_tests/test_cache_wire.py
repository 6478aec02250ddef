"""The cache around real chat models over real HTTP, in chains, agents and graphs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import warnings

import pytest
from langchain.agents import create_agent
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_tokenopt import (
    Ledger,
    TokenUsageCallbackHandler,
    WordLimit,
    optimize,
    track_usage,
)
from tests.support.caches import make_cache
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.model_server import Reply, ToolCall
from tests.support.waiting import until

ASK = "How can I change my card PIN?"
LIKE = "How can I modify my card PIN?"


@pytest.fixture
def cache():
    with make_cache() as cache:
        yield cache
    set_llm_cache(None)


def socket_of(how, server, cache, **settings):
    """Use *cache* as LangChain's own, or as a stage."""
    if how == "optimize":
        return optimize(server.chat_openai(**settings), cache)
    if how == "global":
        set_llm_cache(cache)
        return server.chat_openai(**settings)
    return server.chat_openai(cache=cache, **settings)


everywhere = pytest.mark.parametrize("how", ["global", "own", "optimize"])


@everywhere
async def test_a_paraphrase_is_answered_from_the_cache(how, cache, model_server):
    """Called either way, once over the wire."""
    model = socket_of(how, model_server, cache)
    said = {model.invoke(ASK).text, model.invoke(LIKE).text, (await model.ainvoke(LIKE)).text}

    assert 1 == len(said) == len(model_server.requests)


def test_streams_are_served_through_the_seam(cache, model_server):
    """A stream that was read to its end answers later ones, and can be rejected."""
    model = optimize(model_server.chat_openai(), cache)
    first, second = (list(model.stream(question)) for question in (ASK, LIKE))
    whole = second[0]
    for chunk in second[1:]:
        whole += chunk

    assert 1 == len(model_server.requests)
    assert "".join(chunk.text for chunk in first) == whole.text
    assert cache.reject(whole)
    list(model.stream(LIKE))
    assert 2 == len(model_server.requests)


def test_a_stream_that_was_left_is_not_stored(cache, model_server):
    """Half an answer is none, and nobody waits for the rest."""
    model = optimize(model_server.chat_openai(), cache)
    stream = model.stream(ASK)
    next(stream)
    stream.close()
    began = time.monotonic()

    assert 0 == cache.stats().entries
    assert "w7" in in_thread(lambda: model.invoke(ASK))().text
    assert time.monotonic() - began < 10


@everywhere
def test_cut_and_refused_answers_are_not_stored(how, cache, model_server):
    """The provider says that they are not whole."""
    model = socket_of(how, model_server, cache).bind(max_tokens=2)
    for _ in range(2):
        model.invoke(ASK)

    assert 2 == len(model_server.requests)
    assert 0 == cache.stats().entries


def test_cut_answers_of_any_provider_are_not_stored(cache, model_server):
    """Anthropic's integration says beside the message why it ended."""
    model = optimize(model_server.chat_anthropic(max_tokens=2), cache)
    for _ in range(2):
        model.invoke(ASK)

    assert 2 == len(model_server.requests)


def test_answers_that_a_stage_has_shortened_are_not_stored(cache, model_server):
    """Neither the model alone nor the one with the limit is given half of an answer."""
    raw = optimize(model_server.chat_openai(), cache)
    limited = optimize(model_server.chat_openai(), cache, WordLimit(3))
    model_server.script(*[Reply(words=40)] * 3)

    limited.invoke(ASK)
    assert 0 == cache.stats().entries
    assert raw.invoke(ASK).text.endswith("w39")
    assert not limited.invoke(ASK).text.endswith("w39")


@everywhere
def test_schemas_of_one_name_never_share_over_the_wire(how, cache, model_server):
    """Two classes called Answer get two answers, each of its own shape."""

    def schema(**fields):
        return type("Answer", (BaseModel,), {"__annotations__": fields})

    model = socket_of(how, model_server, cache)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without the seam: not cached, and said so
        for fields in ({"a": int}, {"b": int}, {"a": int}):
            chain = model.with_structured_output(schema(**fields), method="json_schema")
            found.append(sorted(chain.invoke(ASK).model_dump()))

    assert [["a"], ["b"], ["a"]] == found


@pytest.mark.parametrize(
    "other",
    [
        {"model": "gpt-4.1"},
        {"temperature": 0.9},
        {"default_headers": {"x-tenant": "b"}},
        {"stop": ["."]},
        {"n": 2},
        {"base_url": "{}/v1/"},
    ],
    ids=lambda settings: next(iter(settings)),
)
@everywhere
def test_other_settings_never_share(how, cache, model_server, other):
    """Whatever changes the answer is part of the key."""
    other = {
        name: value.format(model_server.url) if isinstance(value, str) else value
        for name, value in other.items()
    }
    socket_of(how, model_server, cache).invoke(ASK)
    socket_of(how, model_server, cache, **other).invoke(ASK)

    assert 2 == len(model_server.requests)


def test_other_keys_never_share_through_the_seam(cache, model_server):
    """What one key has paid for is not served to another; the key itself is nowhere stored."""
    for key in ("sk-ann", "sk-bob", "sk-ann"):
        optimize(model_server.chat_openai(api_key=key), cache).invoke(ASK)

    assert 2 == len(model_server.requests)
    assert not any("sk-" in line for line in cache._repository._file._database.iterdump())


def test_a_required_scope_comes_from_the_seam_or_a_context(model_server):
    """Metadata of a call through the seam counts, an empty user does not."""
    with make_cache(require_scope=True) as cache:
        model = optimize(model_server.chat_openai(), cache)
        asked = []
        for metadata in ({}, {}, {"user_id": ""}, {"user_id": ""}, {"tenant_id": "t"}):
            model.invoke(ASK, {"metadata": metadata})
            asked.append(len(model_server.requests))
        model.invoke(LIKE, {"metadata": {"tenant_id": "t"}})
        model.invoke(LIKE, {"metadata": {"tenant_id": "u"}})
        with cache.scope(user="ann"):
            model.invoke(ASK)
            model.invoke(ASK)

    assert [1, 2, 3, 4, 5] == asked
    assert 7 == len(model_server.requests)


def test_metadata_of_a_chain_reaches_a_global_cache(cache, model_server):
    """Users are apart there, too."""
    set_llm_cache(cache)
    chain = ChatPromptTemplate.from_template("{x}") | model_server.chat_openai()
    for user in ("ann", "bob", "ann"):
        chain.invoke({"x": ASK}, {"metadata": {"user_id": user}})

    assert 2 == len(model_server.requests)


def add_numbers():
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    return add


@pytest.mark.parametrize("keeps", [False, True], ids=["asks for calls", "keeps calls"])
@everywhere
def test_agents_act_again_and_answer_from_the_cache(how, keeps, model_server):
    """Calls of tools are asked for each time, unless they are to be kept; answers are not."""
    with make_cache(cache_tool_calls=keeps) as cache:
        model_server.answer = lambda request: (
            "3"
            if request.body["messages"][-1]["role"] == "tool"
            else Reply(tool_calls=[ToolCall("add", {"a": 1, "b": 2})])
        )
        agent = create_agent(socket_of(how, model_server, cache), [add_numbers()])
        said = [
            agent.invoke({"messages": [HumanMessage("Add 1 and 2.")]})["messages"][-1].text
            for _ in range(2)
        ]
        set_llm_cache(None)

    assert ["3", "3"] == said
    assert (2 if keeps else 3) == len(model_server.requests)


@everywhere
async def test_a_thread_keeps_both_answers_and_streams_them(how, cache, model_server):
    """Two equal questions in one LangGraph thread, sync and async."""
    model = socket_of(how, model_server, cache)

    async def ask(state):
        return {"messages": [await model.ainvoke(state["messages"][-1:])]}

    for node in (lambda state: {"messages": [model.invoke(state["messages"][-1:])]}, ask):
        graph = StateGraph(MessagesState)
        graph.add_node("ask", node)
        graph.add_edge(START, "ask")
        app = graph.compile(checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        shown = []
        for _ in range(3):
            asked = {"messages": [HumanMessage(ASK)]}
            stream = app.astream(asked, config, stream_mode="messages")
            if node is ask:
                pieces = [chunk.text async for chunk, _ in stream]
            else:
                pieces = [c.text for c, _ in app.stream(asked, config, stream_mode="messages")]
            shown.append("".join(pieces))

        history = (await app.aget_state(config)).values["messages"]
        assert [shown[0]] * 3 == shown
        assert [ASK, shown[0]] * 3 == [message.text for message in history]
        assert 6 == len({message.id for message in history})
    assert 1 == len(model_server.requests)


@pytest.mark.parametrize(
    ("how", "way"),
    [
        *((how, way) for how in ("global", "own") for way in ("invoke", "ainvoke")),
        *(("optimize", way) for way in ("invoke", "ainvoke", "stream", "astream")),
    ],
)
async def test_hits_are_counted_as_saved(how, way, cache, model_server):
    """One billed call, one saved one, whichever way it is asked."""
    handler = TokenUsageCallbackHandler()
    model = socket_of(how, model_server, cache, stream_usage=True)
    for question in (ASK, LIKE):
        config = {"callbacks": [handler]}
        match way:
            case "invoke":
                model.invoke(question, config)
            case "ainvoke":
                await model.ainvoke(question, config)
            case "stream":
                list(model.stream(question, config))
            case "astream":
                [chunk async for chunk in model.astream(question, config)]

    totals = handler.totals()
    assert [1, 1] == [totals.billed_calls, totals.cached_calls]
    assert totals.saved_tokens == totals.total_tokens > 0


# --- requests at once


def in_thread(work):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(contextvars.Context().run(work)), daemon=True
    )
    thread.start()

    def result(seconds=10.0):
        thread.join(seconds)
        return results[0] if results else "still waiting"

    return result


def crowd(how, cache, *, answers=(), delay=0.2, methods=("_agenerate",)):
    model = fake_chat(*methods, answers=list(answers), delay_seconds=delay)
    if how == "optimize":
        return model, optimize(model, cache)
    model.cache = cache
    return model, model


either = pytest.mark.parametrize("how", ["own", "optimize"])


@either
async def test_tasks_at_once_ask_once(how, cache):
    """Fifty equal requests are one call."""
    raw, model = crowd(how, cache)
    said = await asyncio.gather(*(model.ainvoke(ASK) for _ in range(50)))

    assert 1 == len(raw.calls)
    assert 1 == len({message.text for message in said})


async def test_streams_at_once_ask_once(cache):
    """Streams wait for a stream, too."""
    raw, model = crowd("optimize", cache, methods=("_stream", "_astream"), delay=0.05)

    async def read():
        return "".join([chunk.text async for chunk in model.astream(ASK)])

    said = await asyncio.gather(*(read() for _ in range(20)))

    assert 1 == len(raw.calls)
    assert 1 == len(set(said))


@either
def test_threads_at_once_ask_once(how, cache):
    """A batch of equal requests is one call."""
    raw, model = crowd(how, cache, methods=())
    model.batch([ASK] * 8)

    assert 1 == len(raw.calls)


@either
def test_when_the_first_fails_one_other_tries_at_once(how, cache):
    """The others do not wait for the answer that will not come, nor ask all together."""
    failed = FakeAnswer(error=ConnectionError("down"))
    raw, model = crowd(how, cache, answers=[failed, "fine"], methods=())
    began = time.monotonic()
    said = model.batch([ASK] * 6, return_exceptions=True)

    assert time.monotonic() - began < 10
    assert 2 == len(raw.calls)
    assert 5 == sum(getattr(message, "content", "") == "fine" for message in said)


@either
async def test_when_the_first_is_cancelled_another_tries_at_once(how, cache):
    """Whoever leaves does not keep others waiting."""
    raw, model = crowd(how, cache, delay=1)
    first = asyncio.create_task(model.ainvoke(ASK))
    await until(lambda: raw.calls)
    others = [asyncio.create_task(model.ainvoke(ASK)) for _ in range(5)]
    await asyncio.sleep(0.1)
    first.cancel()
    done, late = await asyncio.wait(others, timeout=10)

    assert not late
    assert 5 == len(done)
    assert 2 == len(raw.calls)


async def test_a_call_within_the_same_call_does_not_wait_for_itself(cache):
    """A model that asks itself the same question, as a chain of fallbacks may, gets on."""
    raw = fake_chat("_agenerate")

    class Nested(type(raw)):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            self.calls.append(messages)
            if len(self.calls) < 3:
                return await optimize(self, cache)._agenerate(messages, stop, **kwargs)
            return self._result(FakeAnswer("deep"))

    model = optimize(Nested(answers=[]), cache)

    assert "deep" == (await asyncio.wait_for(model.ainvoke(ASK), 10)).text


def test_an_observed_cache_changes_nothing(cache):
    """The model answers each time, nobody waits, and the saving is marked as not made."""
    raw = fake_chat(answers=["one", "two"], delay_seconds=0.2)
    model = optimize(raw, cache, observe=True)
    with track_usage() as usage:
        said = [message.text for message in model.batch([ASK] * 2)]
        model.invoke(ASK)

    assert ["one", "two"] == sorted(said)
    assert 3 == len(raw.calls)
    assert [True] == [saving.observed for call in usage.records for saving in call.savings]
    assert [0, 0] == [usage.totals().cached_calls, usage.totals().saved_tokens]


@everywhere
def test_a_hit_is_saved_once(how, cache, model_server, tmp_path):
    """In the ledger of a tracker: as a cached call, with the tokens that it once cost."""
    model = socket_of(how, model_server, cache)
    with Ledger(tmp_path / "usage.db") as ledger, track_usage(sinks=[ledger]):
        for _ in range(2):
            model.invoke(ASK)
        ledger.flush()
        totals = ledger.totals()
    (bill,) = model_server.billed

    assert [2, 1] == [totals.calls, totals.cached_calls]
    assert bill.total_tokens == totals.saved_tokens == totals.total_tokens
