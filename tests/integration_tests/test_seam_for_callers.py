"""Ways of calling a staged model that are easily forgotten: each run known, counted and let go."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, HumanMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import ConfigurableField, RunnableLambda

from langchain_tokenopt import BudgetPlan, WordLimit, optimize, track_usage
from langchain_tokenopt.core import staged_runs
from langchain_tokenopt.stage import DISABLE_VARIABLE, PassThrough

USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


class _Whole(BaseChatModel):
    """Answers at once, fifteen tokens a call."""

    @property
    def _llm_type(self) -> str:
        return "whole"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage("So be it.", usage_metadata=USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])


class _Streaming(_Whole):
    """Streams, in threads where it is asked asynchronously; announces nothing itself."""

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk("So be it.", usage_metadata=USAGE))


async def _all(stream: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in stream]


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Whatever a test does, no run may stay published behind it."""
    before = len(staged_runs._published)
    yield
    gc.collect()
    assert len(staged_runs._published) <= before


# --- which run it is


async def test_the_same_message_object_may_be_streamed_again():
    """Threads perform these streams; hits of the later ones belong to the later ones."""
    staged, messages = optimize(_Streaming(), InMemoryCache()), [HumanMessage("?")]
    with track_usage() as usage:
        for _ in range(3):
            await _all(staged.astream(messages))
    assert [record.cached for record in usage.records] == [False, True, True]


def test_a_stream_belongs_to_where_it_is_read():
    """As a generator of LangChain's does nothing before it is asked for its first piece."""
    heard = _Heard()
    staged, made = optimize(_Streaming(), PassThrough()), []
    RunnableLambda(lambda question: made.append(staged.stream(question))).invoke(
        "?", {"callbacks": [heard]}
    )
    assert next(iter(made[0])).text == "So be it."
    assert "on_chat_model_start" not in heard.events


# --- what is charged


class _Asking(BaseCallbackHandler):
    """Asks another model at the start of each call, as guardrails do."""

    run_inline = True

    def __init__(self) -> None:
        self.is_asking = False

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        if not self.is_asking:
            self.is_asking = True
            _Whole().invoke("Is that all right?")
            self.is_asking = False


WAYS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch", "generate"]


async def _call(model: BaseChatModel, way: str, callbacks: list[BaseCallbackHandler]) -> None:
    config: Any = {"callbacks": callbacks}
    if way == "stream":
        list(model.stream("?", config))
    elif way == "astream":
        await _all(model.astream("?", config))
    elif way == "generate":
        model.generate([[HumanMessage("?")]], callbacks=callbacks)
    elif way.endswith("batch"):
        answers = getattr(model, way)(["?"], config)
        await answers if way == "abatch" else answers
    else:
        answer = getattr(model, way)("?", config)
        await answer if way == "ainvoke" else answer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [_Whole(), _Streaming()], ids=["whole", "streaming"])
async def test_a_model_that_a_handler_asks_is_charged(model, way):
    """Though it starts while a staged call starts."""
    plan = BudgetPlan(total_tokens=100_000)
    with plan.run() as run, track_usage() as usage:
        await _call(optimize(model, plan), way, [_Asking()])
    assert run.report().account.spent_tokens == 30
    assert usage.totals().calls == 2


class _Router(_Whole):
    """Asks another model under the handlers of its own run, and makes a call of its own."""

    own_call: bool = True

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
        asked = _Whole().invoke(messages, {"callbacks": list(run_manager.handlers)})
        if not self.own_call:
            return ChatResult(generations=[ChatGeneration(message=asked)])
        usage = {"input_tokens": 30, "output_tokens": 5, "total_tokens": 35}
        message = AIMessage("So be it.", usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("own_call", "calls", "spent"), [(True, 2, 50), (False, 1, 15)])
async def test_a_model_that_a_model_asks_is_charged(way, own_call, calls, spent):
    """Also where a stream became a plain call, whose handlers go on to the inner model; once."""
    plan, heard = BudgetPlan(total_tokens=100_000), _Heard()
    with plan.run() as run, track_usage() as usage:
        await _call(optimize(_Router(own_call=own_call), plan), way, [heard])
    assert run.report().account.spent_tokens == spent
    assert usage.totals().calls == calls


# --- what is let go


class _Slow(_Whole):
    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(30)
        raise AssertionError


async def test_a_cancelled_stream_without_pieces_is_let_go():
    """A stream of a model that has none is a call, of whose end nobody is told."""
    staged = optimize(_Slow(), PassThrough())
    with track_usage() as usage:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_all(staged.astream("?")), 0.05)
        await asyncio.sleep(0)
    assert [record.status for record in usage.records] == ["abandoned"]


def test_a_call_that_its_loop_left_is_collected_in_silence(monkeypatch):
    """The garbage collector closes it, in whatever context it finds itself."""
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    staged = optimize(_Slow(), PassThrough())
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"

    async def begin() -> Any:
        task = loop.create_task(staged.ainvoke("?"))
        await asyncio.sleep(0.01)
        return task

    task = loop.run_until_complete(begin())
    loop.close()
    del task
    gc.collect()
    assert not complaints


class _Closed(BaseRateLimiter):
    """Lets nobody pass."""

    def acquire(self, *, blocking: bool = True) -> bool:
        raise TimeoutError

    async def aacquire(self, *, blocking: bool = True) -> bool:
        await asyncio.sleep(30)
        return True


@pytest.mark.parametrize("model", [_Whole, _Streaming])
async def test_who_gives_up_before_its_turn_is_not_charged(model):
    """The seam waits for rate limiters itself, and knows that nothing was sent."""
    plan = BudgetPlan(total_tokens=100_000)
    staged = optimize(model(rate_limiter=_Closed()), plan)
    with plan.run() as run, track_usage() as usage:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(staged.ainvoke("?"), 0.05)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_all(staged.astream("?")), 0.05)
        with pytest.raises(TimeoutError):
            staged.invoke("?")
        await asyncio.sleep(0)
    account = run.report().account
    assert (account.spent_tokens, account.held_tokens) == (0, 0)
    assert usage.totals().calls == 3
    assert usage.totals().total_tokens == 0


# --- what others hear


class _Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("on_chat_model_start")

    def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("on_llm_new_token")

    def on_stream_event(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("on_stream_event")

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("on_llm_end")

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.events.append(repr(error))


async def test_what_is_thrown_into_a_stream_is_its_error():
    """As it is where LangChain's own generator is thrown at."""
    heard = _Heard()
    config: Any = {"callbacks": [heard]}
    staged = optimize(_Streaming(), PassThrough())
    stream = staged.stream("?", config)
    next(stream)
    with pytest.raises(ZeroDivisionError):
        stream.throw(ZeroDivisionError())
    pieces = staged.astream("?", config)
    await anext(pieces)
    with pytest.raises(ZeroDivisionError):
        await pieces.athrow(ZeroDivisionError())
    assert heard.events.count("ZeroDivisionError()") == 2


@pytest.mark.parametrize("observe", [True, False], ids=["observed", "acting"])
def test_a_model_that_announces_nothing_is_not_announced(observe):
    """Under LangChain's event protocol pieces are announced by the model, where it does so."""
    plain, heard = _Heard(), _Heard()
    stage = WordLimit(1) if observe else PassThrough()
    staged = optimize(_Streaming(), stage, observe=observe)
    for handler, model in ((plain, _Streaming()), (heard, staged)):
        list(model.stream_events("?", version="v3", config={"callbacks": [handler]}))
    assert heard.events == plain.events


# --- what changes nothing


@pytest.fixture
def _global_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("_global_cache")
@pytest.mark.parametrize("observe", [True, False], ids=["observed", "disabled"])
def test_streams_go_past_the_global_cache_where_nothing_is_changed(observe, monkeypatch):
    """LangChain gives them none."""
    if not observe:
        monkeypatch.setenv(DISABLE_VARIABLE, "1")
    model = FakeListChatModel(responses=["one", "two"])
    staged = optimize(model, WordLimit(50), observe=observe)
    assert [staged.invoke("?").content for _ in range(2)] == ["one", "one"]
    assert "".join(piece.text for piece in staged.stream("?")) == "two"


class _OtherPieces(_Whole):
    """Streams messages of another kind, as some hosts do."""

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for text in ("So be ", "it."):
            yield ChatGenerationChunk(message=HumanMessageChunk(text))


@pytest.mark.parametrize("stage", [PassThrough(), WordLimit(50), InMemoryCache()])
async def test_other_pieces_pass(stage):
    """What a stage cannot read it leaves alone, in streams as in calls."""
    staged = optimize(_OtherPieces(), stage)
    assert "".join(piece.text for piece in staged.stream("?")) == "So be it."
    assert "".join([piece.text async for piece in staged.astream("And?")]) == "So be it."
    assert staged.invoke("Or?").text == "So be it."


# --- models made of staged ones


def test_configurable_fields_keep_the_stages():
    """LangChain makes the model of such a call anew, by its class."""
    fields = {"responses": ConfigurableField(id="answers")}
    model = FakeListChatModel(responses=["one two three"])
    staged = optimize(model, WordLimit(1)).configurable_fields(**fields)

    assert staged.invoke("?").content == "one…"
    assert staged.invoke("?", {"configurable": {"answers": ["four five"]}}).content == "four…"
    other = staged.with_config(configurable={"answers": ["six seven"]})
    assert "".join(piece.text for piece in other.stream("?")) == "six…"
    assert dumps(staged) == dumps(model.configurable_fields(**fields))


def test_configurable_fields_keep_the_models_cache():
    """Which is asked through the stages, so that none keeps what they have cut."""
    cache = InMemoryCache()
    model = FakeListChatModel(responses=["one two"], cache=cache)
    config: Any = {"configurable": {"answers": ["four five"]}}
    fields = {"responses": ConfigurableField(id="answers")}
    staged = optimize(model, WordLimit(1)).configurable_fields(**fields)

    assert staged.invoke("?", config).content == "four…"
    assert not cache._cache
    asked = optimize(model, PassThrough()).configurable_fields(**fields)
    assert asked.invoke("?", config).content == "four five"
    assert cache._cache


def test_a_model_made_of_a_staged_class_has_no_stages():
    """And works; stages belong to an object, not to its class."""
    made = type(optimize(FakeListChatModel(responses=["-"]), WordLimit(1)))(responses=["one two"])
    assert made.invoke("?").content == "one two"
    assert repr(made) == repr(FakeListChatModel(responses=["one two"]))
    assert optimize(made, WordLimit(1)).invoke("?").content == "one…"


@pytest.mark.parametrize("how", ["set", "copied"])
def test_a_cache_given_later_is_asked_through_the_stages(how):
    """LangChain would keep what a stage has cut, and serve it to models without that stage."""
    cache, model = InMemoryCache(), FakeListChatModel(responses=["one two"])
    staged = _with_setting(optimize(model, WordLimit(1)), how, "cache", cache)
    assert staged.invoke("?").content == "one…"
    assert model.model_copy(update={"cache": cache}).invoke("?").content == "one two"


@pytest.mark.parametrize("how", ["set", "copied"])
def test_a_cache_taken_away_later_is_not_asked(how):
    """Though the seam keeps the one that the model had."""
    model = FakeListChatModel(responses=["one", "two"], cache=InMemoryCache())
    staged = _with_setting(optimize(model, PassThrough()), how, "cache", False)
    assert [staged.invoke("?").content for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize("how", ["set", "copied"])
def test_a_rate_limiter_given_later_is_waited_for(how):
    """And shown, as it would be."""
    limiter = _Closed()
    staged = _with_setting(optimize(_Whole(), PassThrough()), how, "rate_limiter", limiter)
    with pytest.raises(TimeoutError):
        staged.invoke("?")
    assert repr(staged) == repr(_Whole(rate_limiter=limiter))


def _with_setting(model: BaseChatModel, how: str, name: str, value: Any) -> BaseChatModel:
    if how == "copied":
        return model.model_copy(update={name: value})
    setattr(model, name, value)
    return model
