"""The cache in LangChain and LangGraph, as they call it."""

from __future__ import annotations

import threading
import warnings

import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_tokenopt import TokenUsageCallbackHandler, optimize
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.usage import Usage
from tests.support.caches import make_cache
from tests.support.fakes import FakeAnswer, fake_chat

ASK = "How can I change my card PIN?"
LIKE = "How can I modify my card PIN?"


@pytest.fixture
def cache():
    with make_cache() as cache:
        cache.update("warm up with something else entirely", "other", [])
        yield cache


@pytest.fixture
def global_cache(cache):
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


def answers(*texts):
    return [FakeAnswer(text, usage=Usage(9, 2)) for text in texts]


def test_langchains_cache_answers_like_questions(global_cache):
    """Set globally, it serves a paraphrase and asks for another question."""
    model = FakeListChatModel(responses=["one", "two", "three"])

    assert ["one", "one", "two"] == [
        model.invoke(q).content for q in (ASK, LIKE, "Trains to Rome?")
    ]


async def test_langchains_cache_answers_async_calls(global_cache):
    """The same through ``ainvoke``."""
    model = FakeListChatModel(responses=["one", "two"])

    assert ["one", "one"] == [(await model.ainvoke(q)).content for q in (ASK, LIKE)]


def test_text_models_are_served_too(global_cache):
    """A text model's prompt is the question."""
    model = FakeListLLM(responses=["one", "two"])

    assert ["one", "one"] == [model.invoke(q) for q in (ASK, LIKE)]


def test_batch_asks_once(cache):
    """Six equal requests at once are one call."""
    model = fake_chat(answers=answers("one"))
    model.cache = cache

    assert ["one"] * 6 == [m.content for m in model.batch(["q"] * 6)]
    assert 1 == len(model.calls)


def test_equal_questions_in_one_thread_keep_both_answers(cache):
    """LangGraph does not take the second answer for an update of the first."""
    model = FakeListChatModel(responses=["one", "two"], cache=cache)
    graph = StateGraph(MessagesState)
    graph.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"][-1:])]})
    graph.add_edge(START, "ask")
    app = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    emitted = [
        list(app.stream({"messages": [HumanMessage("q")]}, config, stream_mode="messages"))
        for _ in range(3)
    ]

    history = app.get_state(config).values["messages"]
    assert ["q", "one"] * 3 == [message.content for message in history]
    assert all(emitted)


@pytest.mark.parametrize("stream", [False, True], ids=["invoke", "stream"])
def test_usage_counts_hits_as_saved(cache, stream):
    """Through the seam, streamed or not: one billed call, one saved."""
    handler = TokenUsageCallbackHandler()
    model = optimize(fake_chat("_stream", answers=answers("one two", "three")), cache)
    config = {"callbacks": [handler]}
    said = []
    for question in (ASK, LIKE):
        if stream:
            said.append("".join(chunk.content for chunk in model.stream(question, config)))
        else:
            said.append(model.invoke(question, config).content)

    assert ["one two"] * 2 == said
    assert [1, 1] == [handler.totals().billed_calls, handler.totals().cached_calls]
    assert 11 == handler.totals().total_tokens
    assert 11 == handler.totals().saved_tokens


def test_users_in_metadata_are_apart(cache):
    """``user_id`` in the metadata of a call is part of the key."""
    model = optimize(fake_chat(answers=answers("Ann's", "Bob's")), cache)
    said = [
        model.invoke("Who am I?", {"metadata": {"user_id": user}}).content
        for user in ("ann", "bob", "ann", "bob")
    ]

    assert ["Ann's", "Bob's", "Ann's", "Bob's"] == said


def test_schemas_of_one_name_never_share(cache):
    """The seam sees the schema behind the class."""

    def schema(**fields):
        return type("Answer", (BaseModel,), {"__annotations__": fields})

    model = fake_chat(answers=answers('{"a": 1}', '{"b": 2}'))
    one = optimize(model, cache).bind(response_format=schema(a=int))
    other = optimize(model, cache).bind(response_format=schema(b=int))

    assert ['{"a": 1}', '{"b": 2}'] == [m.invoke("q").content for m in (one, other)]
    assert '{"a": 1}' == one.invoke("q").content


def test_conversations_repeat_after_hits(cache):
    """A history with answers from the cache has the key of the history with the originals."""
    model = FakeListChatModel(responses=["one", "two", "three", "four"], cache=cache)

    def talk():
        messages = [SystemMessage("s"), HumanMessage("first")]
        messages.append(model.invoke(messages))
        messages.append(HumanMessage("second"))
        return model.invoke(messages).content

    assert "two" == talk() == talk()


def test_a_failed_call_lets_the_next_one_go(cache):
    """When the model raises, nobody waits for its answer."""
    failing = [FakeAnswer(error=ConnectionError("down")), FakeAnswer("fine")]
    model = optimize(fake_chat(answers=failing), cache)
    with pytest.raises(ConnectionError):
        model.invoke("q")
    said = []
    thread = threading.Thread(target=lambda: said.append(model.invoke("q").content))
    thread.start()
    thread.join(timeout=5)

    assert ["fine"] == said


def test_a_broken_cache_does_not_fail_calls(cache):
    """The model is asked, with one warning."""
    cache.close()
    model = FakeListChatModel(responses=["one", "two"], cache=cache)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ["one", "two"] == [model.invoke("q").content for _ in range(2)]


def test_used_globally_and_in_optimize_it_is_asked_once(global_cache):
    """One request counts once."""
    model = optimize(fake_chat(answers=answers("one")), global_cache)
    model.invoke(ASK)
    model.invoke(ASK)

    assert [2, 1] == [
        sum(global_cache.stats().misses.values()) + global_cache.stats().hits,
        global_cache.stats().hits,
    ]


class OddCache(BaseCache):
    """A cache of somebody else that returns whatever it is told to."""

    def __init__(self, found):
        self.found = found

    def lookup(self, prompt, llm_string):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def update(self, prompt, llm_string, return_val):
        if isinstance(self.found, Exception):
            raise self.found

    def clear(self, **kwargs):
        pass


@pytest.mark.parametrize(
    "found",
    [None, [], (), "text", 5, [None], ["text"], ["text", None], KeyError("x")],
    ids=["miss", "list", "tuple", "text", "number", "none", "a text", "texts", "error"],
)
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_whatever_another_cache_returns_the_call_goes_through(found, way):
    """What is no list of answers is a miss, with one warning at most."""
    model = optimize(fake_chat("_stream", answers=answers("one", "two")), OddCache(found))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for expected in ("one", "two"):
            pieces = [model.invoke(ASK)] if way == "invoke" else model.stream(ASK)
            assert expected == "".join(piece.text for piece in pieces)
    assert len(warned) <= 1


def test_an_answer_that_cannot_be_copied_is_not_given_to_another_cache():
    """The caller gets it all the same."""
    lock = threading.Lock()

    class Locked(type(fake_chat())):
        def _result(self, answer):
            result = super()._result(answer)
            result.generations[0].message.additional_kwargs["lock"] = lock
            return result

    model = optimize(Locked(answers=answers("one", "two")), InMemoryCache())
    with pytest.warns(TokenOptWarning, match="InMemoryCache.update raised TypeError"):
        said = [model.invoke(ASK) for _ in range(2)]

    assert ["one", "two"] == [message.text for message in said]
    assert said[0].additional_kwargs["lock"] is lock
