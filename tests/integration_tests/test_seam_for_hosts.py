"""What an application that knows nothing of stages sees of a staged model: what it saw without."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_openai import ChatOpenAI

from langchain_tokenopt import WordLimit, optimize, track_usage
from langchain_tokenopt.core.staged_runs import ESTIMATED_USAGE, STOPPED_BY
from langchain_tokenopt.counting import tiktoken_files, tokens
from langchain_tokenopt.stage import PassThrough
from tests.support.stages import Recording


@pytest.fixture
def _global_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


# --- its text


MODEL = ChatOpenAI(model="gpt-4o", api_key="x", cache=InMemoryCache())


def test_its_repr_is_the_models_own():
    """The text of a model enters traces and serialized chains."""
    staged = optimize(MODEL, WordLimit(100))
    prompt = ChatPromptTemplate.from_template("{question}")

    assert repr(staged) == repr(MODEL)
    assert str(staged) == str(MODEL)
    assert repr(prompt | staged) == repr(prompt | MODEL)
    assert dumps(prompt | staged) == dumps(prompt | MODEL)


def test_a_model_that_cannot_be_serialized_is_shown_as_it_is():
    """Serialized chains then hold its repr."""
    model = FakeListChatModel(responses=["yes"])
    assert dumps(optimize(model, WordLimit(100))) == dumps(model)


# --- rate limits


class _Counting(InMemoryRateLimiter):
    """Counts instead of waiting."""

    turns = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        type(self).turns += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        type(self).turns += 1
        return True


@pytest.fixture
def limiter() -> _Counting:
    _Counting.turns = 0
    return _Counting(requests_per_second=1)


async def test_only_real_calls_wait_for_a_rate_limiter(limiter):
    """An answer from a cache costs the provider nothing."""
    model = FakeListChatModel(responses=["one"], rate_limiter=limiter)
    staged = optimize(model, InMemoryCache())

    for _ in range(3):
        staged.invoke("?")
        list(staged.stream("?"))
        await staged.ainvoke("?")
        assert [chunk.content async for chunk in staged.astream("?")]
    assert limiter.turns == 1


async def test_every_real_call_waits_for_it(limiter):
    """As without stages: once for each call, in every way of calling."""
    staged = optimize(FakeListChatModel(responses=["one"], rate_limiter=limiter), WordLimit(100))
    staged.invoke("?")
    list(staged.stream("?"))
    await staged.ainvoke("?")
    assert [chunk.content async for chunk in staged.astream("?")]
    assert limiter.turns == 4


# --- streams of nothing


class _Silent(FakeListChatModel):
    """Streams nothing at all, and answers when it is not asked to stream."""

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield from ()

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        for nothing in ():
            yield nothing


STAGES = {"a word limit": WordLimit(50), "a stage that watches": Recording(), "none": None}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
async def test_a_stream_of_nothing_fails_as_it_would(stage):
    """So that fallbacks act, and no cache keeps an answer of nothing."""
    stages = () if stage is None else (stage,)
    cache = InMemoryCache()
    staged = optimize(_Silent(responses=["whole"], cache=cache), *stages)

    with pytest.raises(ValueError, match="No generation"):
        list(staged.stream("?"))
    with pytest.raises(ValueError, match="No generation"):
        _ = [chunk async for chunk in staged.astream("?")]
    assert not cache._cache


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
async def test_who_did_not_ask_for_a_stream_is_answered(stage):
    """A stage streams where the caller did not: that must not cost the answer."""
    stages = () if stage is None else (stage,)
    staged = optimize(_Silent(responses=["whole"]), *stages)
    assert staged.invoke("?").content == "whole"
    assert (await staged.ainvoke("?")).content == "whole"


# --- observing


class _Billed(FakeListChatModel):
    asked: int = 0

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        self.asked += 1
        return super()._generate(*args, **kwargs)


@pytest.mark.usefixtures("_global_cache")
def test_observing_leaves_the_global_cache_on():
    """Three calls are billed once, as they were before."""
    model = _Billed(responses=["one", "two", "three"])
    staged = optimize(model, InMemoryCache(), observe=True)
    assert [staged.invoke("?").content for _ in range(3)] == ["one"] * 3


@pytest.mark.parametrize("observe", [True, False], ids=["observed", "acting"])
def test_other_messages_pass(observe):
    """What a stage cannot read it leaves alone."""
    staged = optimize(
        _OtherAnswers(responses=["-"]), WordLimit(50), InMemoryCache(), observe=observe
    )
    assert staged.invoke("?").content == "So be it."


class _OtherAnswers(FakeListChatModel):
    """Answers with a message of another type, as some hosts do."""

    def _should_stream(self, **kwargs: Any) -> bool:
        return False

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=HumanMessage("So be it."))])


# --- what other handlers hear


class _Hearing(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[tuple[Any, dict[str, Any]]] = []

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        self.heard.append((token, {k: v for k, v in kwargs.items() if k == "logprobs"}))


class _Announcing(FakeListChatModel):
    """Announces its pieces itself, as langchain-openai does: text, and log probabilities."""

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for number, word in enumerate(("So ", "be ", "it.")):
            chunk = ChatGenerationChunk(
                message=AIMessageChunk([{"type": "text", "text": word, "index": 0}]),
                generation_info={"logprobs": {"content": [number]}},
            )
            if run_manager:
                run_manager.on_llm_new_token(
                    chunk.text, chunk=chunk, logprobs=chunk.generation_info["logprobs"]
                )
            yield chunk


def test_handlers_hear_text_and_log_probabilities():
    """Under LangChain's event protocol the model announces its pieces, and so does the seam."""
    plain, staged = _Hearing(), _Hearing()
    model = _Announcing(responses=["-"])
    for handler, asked in ((plain, model), (staged, optimize(model, PassThrough()))):
        list(asked.stream_events("?", version="v3", config={"callbacks": [handler]}))
    assert plain.heard
    assert all(isinstance(token, str) for token, _ in staged.heard)
    assert staged.heard == plain.heard


# --- after a stop


class _Long(FakeListChatModel):
    """Writes a long answer, its usage and its name at the very end."""

    model_name: str = "gpt-4o"

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for number in range(200):
            yield ChatGenerationChunk(message=AIMessageChunk(f"Sentence number {number} is here. "))
        end = {"finish_reason": "stop", "model_name": "gpt-4o-2024"}
        usage = {"input_tokens": 9, "output_tokens": 1200, "total_tokens": 1209}
        yield ChatGenerationChunk(
            message=AIMessageChunk("", response_metadata=end, usage_metadata=usage)
        )


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_an_answer_that_was_cut_says_so(how):
    """Who cut it, which model wrote it, and what it cost by our own count."""
    staged = optimize(_Long(responses=["-"]), WordLimit(20))
    with track_usage() as usage:
        if how == "invoke":
            answer: AIMessage = staged.invoke("Tell me.")
        else:
            pieces = list(staged.stream("Tell me."))
            answer = pieces[0]
            for piece in pieces[1:]:
                answer += piece
    said = answer.response_metadata
    assert said[STOPPED_BY] == "WordLimit"
    assert said["model_name"] == "gpt-4o"
    assert said["finish_reason"] == "length"
    assert said[ESTIMATED_USAGE] is True
    (record,) = usage.records
    assert record.source == "estimated"
    assert answer.usage_metadata["output_tokens"] == record.usage.output_tokens > 20
    assert answer.usage_metadata["input_tokens"] == record.usage.input_tokens


def test_an_answer_that_was_not_cut_is_not_marked():
    """Its own end came."""
    answer = optimize(_Long(responses=["-"]), WordLimit(20_000)).invoke("Tell me.")
    assert STOPPED_BY not in answer.response_metadata
    assert answer.usage_metadata["output_tokens"] == 1200


# --- the event loop


@pytest.fixture
def _nothing_loaded(monkeypatch):
    """A process that has counted nothing yet."""
    from tiktoken import registry

    monkeypatch.setattr(registry, "ENCODINGS", {})
    monkeypatch.setattr(tiktoken_files, "_encoders", {})
    tokens.counter_of_name.cache_clear()
    yield
    tokens.counter_of_name.cache_clear()


@pytest.mark.usefixtures("_nothing_loaded")
@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_the_first_call_does_not_hold_up_the_loop(way):
    """Loading a vocabulary reads files: a thread does that, and counts are exact all the same."""
    staged = optimize(_Long(responses=["-"]), WordLimit(20))
    with blockbuster_ctx(), track_usage() as usage:
        if way == "ainvoke":
            await staged.ainvoke("Tell me.")
        else:
            assert [chunk async for chunk in staged.astream("Tell me.")]
    assert usage.totals().calls == 1


@pytest.mark.usefixtures("_nothing_loaded")
async def test_tracking_a_silent_provider_does_not_hold_up_the_loop():
    """What nobody reported is counted by ourselves."""
    with blockbuster_ctx(), track_usage() as usage:
        await FakeListChatModel(responses=["four"]).ainvoke("2 + 2?")
        assert usage.totals().estimated_calls == 1


@pytest.mark.usefixtures("_nothing_loaded")
async def test_counts_on_the_loop_are_estimates_until_the_vocabulary_is_there():
    """And say so."""
    counter = tokens.counter_for("gpt-4o")
    first = counter.count("Hello, world!")
    assert not first.exact
    deadline = time.monotonic() + 20
    while not counter.is_ready and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counter.count("Hello, world!") == tokens.TokenCount(4, exact=True)


class _Speechless(FakeListChatModel):
    """Answers with no generation at all."""

    def _should_stream(self, **kwargs: Any) -> bool:
        return False

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[])


def test_an_answer_of_no_generation_passes():
    """What is to be made of it is the caller's affair."""
    staged = optimize(_Speechless(responses=["-"]), WordLimit(50), InMemoryCache())
    assert staged.generate([[HumanMessage("?")]]).generations == [[]]
