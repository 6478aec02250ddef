"""The seam: stages around a model, whatever of the four methods its class defines."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from pydantic import Field

from langchain_tokenopt import TokenOptWarning, optimize
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.request.model_request import Answer
from langchain_tokenopt.stage import PassThrough, Phase
from langchain_tokenopt.tracking.callbacks import TokenUsageCallbackHandler
from tests.support.fakes import FakeAnswer, fake_chat
from tests.support.stages import (
    AskAgain,
    HoldAndStop,
    HoldBack,
    Recording,
    Rewrite,
    Say,
    StopAfter,
    Upper,
)

WORDS = ["one ", "two ", "three"]


class _Sync(BaseChatModel):
    """Echoes its last message, or says one two three."""

    asked: list[Any] = Field(default_factory=list)
    echo: bool = False

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _pieces(self, messages: list[Any]) -> list[str]:
        return [messages[-1].text] if self.echo else WORDS

    def _generate(self, messages, stop=None, run_manager=None, **kwargs) -> ChatResult:
        self.asked.append((messages, kwargs))
        message = AIMessage("".join(self._pieces(messages)))
        return ChatResult(generations=[ChatGeneration(message=message)])


def _chunk(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


class _SyncAsync(_Sync):
    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs) -> ChatResult:
        return self._generate(messages, stop, **kwargs)


class _SyncStream(_Sync):
    written: list[str] = Field(default_factory=list)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs) -> Iterator[Any]:
        self.asked.append((messages, kwargs))
        for word in self._pieces(messages):
            self.written.append(word)
            yield _chunk(word)


class _All(_SyncStream):
    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs) -> ChatResult:
        return self._generate(messages, stop, **kwargs)

    async def _astream(
        self, messages, stop=None, run_manager=None, **kwargs
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.append((messages, kwargs))
        for word in self._pieces(messages):
            self.written.append(word)
            yield _chunk(word)


MODELS = [_Sync, _SyncAsync, _SyncStream, _All]
STREAMING = [_SyncStream, _All]


async def _invoke(model, *args, **kwargs):
    return model.invoke(*args, **kwargs).text


async def _ainvoke(model, *args, **kwargs):
    return (await model.ainvoke(*args, **kwargs)).text


async def _batch(model, given, **kwargs):
    return model.batch([given], **kwargs)[0].text


async def _abatch(model, given, **kwargs):
    return (await model.abatch([given], **kwargs))[0].text


async def _read(model, *args, **kwargs):
    return "".join([chunk.text for chunk in model.stream(*args, **kwargs)])


async def _aread(model, *args, **kwargs):
    return "".join([chunk.text async for chunk in model.astream(*args, **kwargs)])


CALLS = [_invoke, _ainvoke, _batch, _abatch, _read, _aread]


@pytest.fixture(autouse=True)
def _no_global_cache():
    set_llm_cache(None)
    yield
    set_llm_cache(None)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", MODELS)
async def test_a_stage_runs_once_whatever_the_class_defines(base, call):
    """Core falls back from async to sync and from streams to calls; stages still run once."""
    stage = Recording()

    answer = await call(optimize(base(), stage), "count")

    assert answer == "one two three"
    assert stage.events.count("open") == 1
    assert stage.events.count("close") == 1
    assert [e for e in stage.events if e != "chunk"] == ["open", "finish", "close"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", MODELS)
async def test_the_model_is_asked_what_the_stages_made_of_the_request(base, call):
    """What a stage writes into the request is what the model sees, and the caller's is kept."""
    question = HumanMessage("long question")
    model = base(echo=True)

    answer = await call(optimize(model, Rewrite("short", {"max_tokens": 5})), [question])

    assert answer == "short"
    assert question.content == "long question"
    assert [kwargs for _, kwargs in model.asked] == [{"max_tokens": 5}]


@pytest.mark.parametrize("base", MODELS)
def test_the_copy_is_of_the_models_own_class_and_the_original_is_untouched(base):
    """isinstance, names and what the class defines stay; only the copy has stages."""
    model = base()

    staged = optimize(model, Recording())

    assert isinstance(staged, base)
    assert type(model) is base
    assert base.__name__ == type(staged).__name__
    assert base.__module__ == type(staged).__module__
    assert model.cache is None
    assert model.callbacks is None
    assert (base._stream is BaseChatModel._stream) == (
        type(staged)._stream is BaseChatModel._stream
    )
    assert model.get_name() == staged.get_name()


def test_copies_keep_the_stages_and_share_them():
    """model_copy, copy and deepcopy of a staged model go through the same stage objects."""
    stage = Recording()
    staged = optimize(_All(), stage)

    for made in (staged.model_copy(), copy.copy(staged), copy.deepcopy(staged)):
        made.invoke("count")

    assert stage.events.count("open") == 3


def test_settings_changed_on_the_copy_reach_the_model():
    """The bare model inside shares all state with the staged one."""
    staged = optimize(_All(), Recording())
    staged.echo = True

    assert staged.invoke("hello").text == "hello"


def test_stages_open_in_the_order_of_their_phases_and_close_in_reverse():
    """Whatever order they are given in."""
    order = []

    class Noting(Recording):
        def open(self, request):
            order.append(f"open {self.name}")
            trip = super().open(request)
            close = type(trip).close

            class Closing(type(trip)):
                def close(trip, answer):
                    order.append(f"close {self.name}")
                    return close(trip, answer)

            return Closing(request, self.log)

    class Other(Noting):
        pass

    optimize(_All(), Noting("budget", Phase.BUDGET), Other("tools", Phase.TOOLS)).invoke("x")

    assert order == ["open tools", "open budget", "close budget", "close tools"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", STREAMING)
async def test_stopping_ends_the_models_stream_in_every_kind_of_call(base, call):
    """Also for invoke and batch the model writes no more than what was shown."""
    model = base()

    answer = await call(optimize(model, StopAfter(1)), "count")

    assert answer == "one "
    assert model.written == ["one "]


@pytest.mark.parametrize("base", STREAMING)
def test_stopping_reaches_through_a_parser(base):
    """The model stops too when a parser stands behind it."""
    model = base()

    chain = (
        ChatPromptTemplate.from_template("{q}") | optimize(model, StopAfter(2)) | StrOutputParser()
    )

    assert "".join(chain.stream({"q": "count"})) == "one two "
    assert model.written == ["one ", "two "]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", STREAMING)
async def test_what_is_held_back_at_a_stop_is_shown(base, call):
    """By the stage that stops and by those further out; stages further in are past it."""
    inner = Recording(phase=Phase.BUDGET)
    staged = optimize(
        base(), inner, HoldAndStop(2), HoldBack(phase=Phase.CONTEXT), Upper(Phase.TOOLS)
    )

    assert "ONE TWO " == await call(staged, "count")
    assert ["open", "chunk", "chunk", "close"] == inner.events


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", MODELS)
async def test_pieces_may_be_changed_and_held_back(base, call):
    """The answer is what the outermost stage shows."""
    staged = optimize(base(), Upper(Phase.LIMIT), HoldBack(Phase.CONTEXT))

    assert await call(staged, "count") == "ONE TWO THREE"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", MODELS)
async def test_a_stage_can_answer_in_the_models_place(base, call):
    """The model is not asked; stages further out still see the answer."""
    model = base()

    assert await call(optimize(model, Say("no"), Upper()), "count") == "NO"
    assert model.asked == []


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", MODELS)
async def test_a_stage_can_ask_again_while_nothing_is_shown(base, call):
    """Both attempts reach the model; the caller sees the second alone."""
    model = base(echo=True)
    staged = optimize(model, AskAgain(unless="better", text="better"), HoldBack())

    assert await call(staged, "first") == "better"
    assert len(model.asked) == 2


def test_asking_again_ends():
    """A stage that is never content gets the last answer after five repetitions."""
    model = _Sync(echo=True)

    assert optimize(model, AskAgain(unless="yes", text="no")).invoke("first").text == "no"
    assert len(model.asked) == 6


def test_what_was_shown_is_not_asked_again():
    """A stream whose pieces are out stays as it is."""
    model = _SyncStream(echo=True)

    shown = list(optimize(model, AskAgain(unless="yes", text="no")).stream("first"))

    assert "".join(chunk.text for chunk in shown) == "first"
    assert len(model.asked) == 1


class _Failing(_All):
    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        raise OSError("gone")

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        yield _chunk("one ")
        raise OSError("gone")

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        yield _chunk("one ")
        raise OSError("gone")


@pytest.mark.parametrize("call", CALLS)
async def test_stages_are_told_of_a_failure_and_the_caller_too(call):
    """Whatever a stage holds for the call can be released."""
    stage = Recording()

    with pytest.raises(OSError, match="gone"):
        await call(optimize(_Failing(), stage), "count")

    assert stage.events[-1] == "failed"
    assert stage.events.count("failed") == 1
    assert "close" not in stage.events


def test_stages_are_told_when_the_caller_stops_reading():
    """GeneratorExit reaches the stage, and the model's stream is closed at once."""
    stage, model = Recording(), _SyncStream()

    stream = optimize(model, stage).stream("count")
    next(stream)
    stream.close()

    assert isinstance(stage.log[-1][1], GeneratorExit)
    assert model.written == ["one "]


async def test_stages_are_told_when_the_caller_is_cancelled():
    """CancelledError reaches the stage of an async call."""

    class Slow(_All):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            await asyncio.sleep(30)

        async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
            await asyncio.sleep(30)
            yield _chunk("never")

    stage = Recording()
    task = asyncio.create_task(optimize(Slow(), stage).ainvoke("count"))
    while not stage.log:
        await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(stage.log[-1][1], asyncio.CancelledError)


def test_a_stage_that_fails_to_open_releases_those_before_it():
    """Nothing stays open behind an error."""

    class Broken(PassThrough):
        def open(self, request):
            raise RuntimeError("broken")

    stage = Recording(phase=Phase.TOOLS)

    with pytest.raises(RuntimeError, match="broken"):
        optimize(_All(), stage, Broken()).invoke("count")

    assert stage.events == ["open", "failed"]


async def test_blocking_stages_leave_the_event_loop_free():
    """An async socket opens and closes them in a thread, a sync one where it is."""
    threads = []

    class Blocking(Recording):
        def open(self, request):
            threads.append(threading.current_thread())
            return super().open(request)

    await optimize(_All(), Blocking(blocking=True)).ainvoke("count")
    optimize(_All(), Blocking(blocking=True)).invoke("count")

    assert threading.main_thread() is not threads[0]
    assert threading.main_thread() is threads[1]


def test_the_stage_learns_who_calls():
    """Metadata given by config reaches it in calls and in streams, inside chains and outside."""
    stage = Recording()
    staged = optimize(_All(), stage)
    config = {"metadata": {"user_id": "ada"}, "tags": ["t"]}

    staged.invoke("x", config)
    list(staged.stream("x", config))
    (RunnableLambda(lambda x: x) | staged).invoke("x", config)

    runs = [request.run for event, request in stage.log if event == "open"]
    assert [run.metadata["user_id"] for run in runs] == ["ada"] * 3
    assert list(runs[0].tags) == ["t"]
    assert len({run.run_id for run in runs}) == 3


def test_the_stage_gets_the_run_id_that_callbacks_get():
    """Also in streams, where LangChain does not hand it to the model."""
    stage, usage = Recording(), TokenUsageCallbackHandler()
    staged = optimize(_All(), stage)

    staged.invoke("x", {"callbacks": [usage]})
    list(staged.stream("x", {"callbacks": [usage]}))
    staged.generate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=[usage])
    staged.generate([[HumanMessage("a")], [HumanMessage("b")]], callbacks=[usage], stream=True)

    seen = [request.run.run_id for event, request in stage.log if event == "open"]
    assert [record.run_id for record in usage.records] == seen


# Caches


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", MODELS)
async def test_any_cache_serves_and_fills_in_every_kind_of_call(base, call):
    """A cache given to optimize() works in streams too, where LangChain has none."""
    model = base()
    staged = optimize(model, InMemoryCache())

    answers = [await call(staged, "count") for _ in range(2)]

    assert answers == ["one two three"] * 2
    assert len(model.asked) == 1


@pytest.mark.parametrize("where", ["model", "global"])
def test_the_hosts_own_cache_settings_hold(where):
    """Without a cache of its own the seam asks the one that LangChain would ask."""
    cache = InMemoryCache()
    model = _All(cache=cache) if where == "model" else _All()
    if where == "global":
        set_llm_cache(cache)
    staged = optimize(model, Recording())

    staged.invoke("count")
    list(staged.stream("count"))

    assert len(model.asked) == 1


def test_a_model_with_cache_false_has_none():
    """As in LangChain."""
    set_llm_cache(InMemoryCache())
    model = _All(cache=False)
    staged = optimize(model, Recording())

    staged.invoke("count")
    staged.invoke("count")

    assert len(model.asked) == 2


def test_cache_true_without_a_cache_says_what_to_do():
    """As LangChain, but with the remedy."""
    with pytest.raises(ValueError, match="set_llm_cache"):
        optimize(_All(cache=True), Recording()).invoke("count")


def test_answers_under_stages_are_never_served_to_the_model_without():
    """One shared cache, two kinds of answers."""
    set_llm_cache(InMemoryCache())
    model = _All()

    shouted = optimize(model, Upper()).invoke("count").text
    plain = model.invoke("count").text

    assert (shouted, plain) == ("ONE TWO THREE", "one two three")


@pytest.mark.parametrize("stage", [StopAfter(1), Say("made up")])
def test_cut_and_made_up_answers_are_not_stored(stage):
    """A cache must not keep what no model has said in full."""
    cache = InMemoryCache()

    optimize(_All(), cache, stage).invoke("count")

    assert cache._cache == {}


def test_truncated_answers_are_not_stored():
    """finish_reason "length" is half an answer."""

    class Truncating(_Sync):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            message = AIMessage("half", response_metadata={"finish_reason": "length"})
            return ChatResult(generations=[ChatGeneration(message=message)])

    cache = InMemoryCache()
    optimize(Truncating(), cache).invoke("count")

    assert cache._cache == {}


def test_truncated_streams_are_not_stored():
    """Nor when the caller read the answer piece by piece."""

    class Truncating(_SyncStream):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            yield _chunk("half")
            last = AIMessageChunk(content="", response_metadata={"finish_reason": "length"})
            yield ChatGenerationChunk(message=last)

    cache = InMemoryCache()
    list(optimize(Truncating(), cache, Upper()).stream("count"))

    assert {} == cache._cache


def test_a_hit_is_a_fresh_copy_without_the_old_id():
    """LangGraph takes an old id for an update; a caller may change what it gets."""
    staged = optimize(_All(), InMemoryCache())

    first = staged.invoke("count")
    first.content = "changed by the caller"
    second, third = staged.invoke("count"), staged.invoke("count")

    assert second.content == "one two three"
    assert len({first.id, second.id, third.id}) == 3


def test_an_answer_from_the_cache_does_not_change_the_next_key():
    """Usage and ids of earlier answers are no part of the key: later turns hit as well."""
    spent = Usage(9, 2)
    model = fake_chat(answers=[FakeAnswer("a", usage=spent), FakeAnswer("b", usage=spent)])
    staged = optimize(model, InMemoryCache())

    for _ in range(2):
        first = staged.invoke("one")
        second = staged.invoke([HumanMessage("one"), first, HumanMessage("two")])

    assert (first.content, second.content) == ("a", "b")


def test_a_broken_cache_is_warned_about_once_and_never_breaks_a_call():
    """The model is asked instead."""

    class Broken(InMemoryCache):
        def lookup(self, prompt, llm_string):
            raise OSError("no disk")

        def update(self, prompt, llm_string, return_val):
            raise OSError("no disk")

    staged = optimize(_All(), Broken())

    with pytest.warns(TokenOptWarning, match="no disk") as warned:
        answers = [staged.invoke("count").text for _ in range(3)]

    assert answers == ["one two three"] * 3
    assert len(warned) == 1


# Watching only, and switching off


@pytest.mark.parametrize("call", CALLS)
async def test_observing_changes_nothing(call):
    """Stages look on: the model sees the caller's request, the caller the model's answer."""
    model = _All(echo=True)
    staged = optimize(model, Rewrite("short"), Upper(), observe=True)

    assert await call(staged, "long") == "long"


def test_observing_uses_nothing_of_what_stages_return_at_the_end():
    """Neither a changed answer nor a wish to ask again."""
    model = _Sync(echo=True)

    class Closing(Recording):
        def open(self, request):
            trip = super().open(request)
            trip.close = lambda answer: Answer.of(AIMessage("changed"))
            return trip

    staged = optimize(model, Closing(), AskAgain(unless="never", text="again"), observe=True)

    assert "long" == staged.invoke("long").text
    assert 1 == len(model.asked)


@pytest.mark.parametrize("call", CALLS)
async def test_one_variable_switches_every_stage_off(call, monkeypatch):
    """TOKENOPT_DISABLE=1 is read at each call."""
    stage = Recording()
    staged = optimize(_All(), stage, Upper())
    monkeypatch.setenv("TOKENOPT_DISABLE", "1")

    assert await call(staged, "count") == "one two three"
    assert stage.log == []


# What is refused


def test_what_cannot_be_staged_is_refused_in_words():
    """With the place where it belongs instead."""
    with pytest.raises(TypeError, match=r"prompt \| optimize\(model"):
        optimize(RunnableLambda(lambda x: x), Recording())
    with pytest.raises(TypeError, match="is no stage"):
        optimize(_All(), "compress")


@pytest.mark.parametrize(
    "stages",
    [
        (Upper(), Upper()),
        (InMemoryCache(), InMemoryCache()),
        (Say("a"), AskAgain("x", "y", phase=Phase.BUDGET)),
    ],
    ids=["the same kind twice", "two caches", "two budgets"],
)
def test_contradictory_stages_are_refused(stages):
    """At construction, not in the middle of a run."""
    with pytest.raises(ValueError, match=r"two stages|contradict"):
        optimize(_All(), *stages)


def test_an_unknown_level_is_refused():
    """With the levels that there are."""
    with pytest.raises(ValueError, match="none, balanced, aggressive, maximum"):
        optimize(_All(), level="extreme")


def test_staging_twice_makes_one_seam_with_all_stages():
    """optimize(optimize(model, a), b) is optimize(model, a, b)."""
    first, second = Recording("a", Phase.TOOLS), Recording("b", Phase.CONTEXT)
    staged = optimize(optimize(_All(), first), second)

    staged.invoke("count")

    assert (first.events.count("open"), second.events.count("open")) == (1, 1)
    assert type(staged).__bases__ == (_All,)


def test_bindings_are_staged_inside():
    """What is bound stays bound and reaches the stage."""
    stage = Recording()
    model = _All()

    optimize(model.bind(stop=["x"], temperature=0).with_retry(), stage).invoke("count")

    assert dict(stage.log[0][1].kwargs) == {"temperature": 0}
    assert stage.log[0][1].stop == ["x"]
