"""What is no argument, no conversation and no summary, in the room of contexts."""

from __future__ import annotations

import asyncio
import threading
import warnings
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import RunnableLambda

from langchain_tokenopt import (
    ContextCompressor,
    ContextStore,
    PriceProfile,
    ProgressiveLoader,
    SlidingWindow,
    TokenOptWarning,
    expand_tool,
    optimize,
)
from langchain_tokenopt.context import context_costs, recorded_conversations
from langchain_tokenopt.context.summaries import Summaries

CHAT = [HumanMessage("Start with KX-4471.")]
for n in range(30):
    CHAT += [AIMessage(f"answer {n} " * 30), HumanMessage(f"question {n} " * 20)]


# Arguments


WRONG: dict[str, Any] = {
    "policy": [
        lambda v=v: ContextCompressor(policy=v)
        for v in ("sliding window", SlidingWindow, 5, "", 0, [], object())
    ],
    "key": [lambda v=v: ContextCompressor(key=v) for v in (5, None, ["messages"], "", True)],
    "model": [
        *(lambda v=v: ContextCompressor(model=v) for v in (5, FakeListChatModel, ["gpt-4o"])),
        lambda: ContextCompressor().view([], model=5),
    ],
    "summarizer": [
        lambda v=v: ContextCompressor(summarizer=v)
        for v in ("gpt-4o", 5, object(), FakeListChatModel, {"a": len}, "", 0)
    ],
    "store": [lambda v=v: ContextCompressor(store=v) for v in ("a.db", 5, {}, ContextStore, "")],
    "keep_last": [lambda v=v: ContextCompressor(keep_last=v) for v in (-1, 1.5, None, True)],
    "beside": [lambda v=v: ContextCompressor().view([], beside=v) for v in (-1, 0.5, "9", None)],
    "messages": [
        lambda v=v: ContextCompressor().view(v)
        for v in (
            *(5, None, [5], [HumanMessage("a"), None], {"messages": []}, HumanMessage("a")),
            *([{"role": "user"}], [{"role": "pope", "content": "a"}], b"hello", [["human"]]),
        )
    ],
    "compressor": [
        lambda v=v: expand_tool(v) for v in (None, ContextStore(), "expand", ContextCompressor)
    ],
    "originals": [
        lambda v=v: ContextStore().put(v) for v in (["x"], None, "x", {"a": 1}, {1: "a"})
    ],
    "source": [lambda v=v: ProgressiveLoader(v) for v in (5, FakeListChatModel)],
    "learn": [lambda v=v: ProgressiveLoader(learn=v) for v in ("no", 5, None)],
    "namespace": [lambda v=v: ProgressiveLoader(namespace=v) for v in (5, None)],
    "conversations": [
        lambda v=v: context_costs(v) for v in (5, None, "talk.jsonl", CHAT, [("human", "a")], {})
    ],
    "number": [
        lambda v=v: context_costs([CHAT]).steps("everything", v) for v in (1, -1, "0", None)
    ],
    "lines": [lambda v=v: recorded_conversations(v) for v in ("[]", None, b"[]", [b"[]"], [5])],
    "write": [lambda v=v: PriceProfile(write=v) for v in (-1, "1", float("nan"), None)],
}


@pytest.mark.parametrize(
    ("name", "make"), [(name, make) for name, makes in WRONG.items() for make in makes]
)
def test_a_wrong_argument_is_one_sentence_with_its_name(name, make):
    """What came, and what is taken; never an error of what lies within."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    said = str(caught.value)
    assert name in said
    assert "\n" not in said
    assert len(said) < 300
    assert "attribute" not in said


def test_a_policy_of_ones_own_is_taken():
    """It needs what the protocol says, and no base class."""

    class Nothing:
        fingerprint = "nothing"

        def decide(self, moment):
            return None

    assert ContextCompressor(500, policy=Nothing()).view(CHAT).messages is CHAT


# Conversations


@pytest.mark.parametrize(
    "given",
    [
        "hi",
        [("human", "hi")],
        [["user", "hi"]],
        ["hi"],
        [{"role": "user", "content": "hi"}],
        (HumanMessage("hi"),),
        iter([HumanMessage("hi")]),
        ChatPromptValue(messages=[HumanMessage("hi")]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_view_takes_what_models_take(given):
    """The same conversation in every form."""
    (message,) = ContextCompressor().view(given).messages
    assert (message.type, message.content) == ("human", "hi")


@pytest.mark.parametrize("given", [5, None, [5], [None], {"messages": [5]}, [{"a": 1}], "hi"])
async def test_what_is_no_conversation_passes_through_the_runnable(given):
    """It is the next one's to refuse."""
    compressor = ContextCompressor(100)
    assert compressor.invoke(given) == given
    assert await compressor.ainvoke(given) == given


@pytest.mark.parametrize("handle", ["1" * 5_000, "", "' or 1=1 --", "\x00", "\ud800", "日本"])
def test_an_unknown_handle_is_not_repeated_at_length(handle):
    """What was asked is to be paid again with every later call."""
    said = expand_tool(ContextCompressor()).invoke({"handle": handle})
    assert len(said) < 200
    assert handle not in said or not handle


# Summarizers


def down(messages: list[BaseMessage]) -> str:
    raise TimeoutError("summarizer is down")


async def down_async(messages: list[BaseMessage]) -> str:
    raise ConnectionError("summarizer is down")


BAD = {
    "raises": down,
    "raises, async": down_async,
    "a runnable that raises": RunnableLambda(down),
    "no text": lambda messages: None,
    "a blank": lambda messages: " \n",
    "a number": lambda messages: 7,
    "an empty message": lambda messages: AIMessage(""),
    "a model that has no answer": FakeListChatModel(responses=[""]),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("is_async", [False, True])
def test_where_no_summary_comes_the_note_stands_in_its_place(bad, is_async):
    """The same view as without a summarizer, and one warning for all calls."""
    plain = ContextCompressor(700, price_profile="none").view(CHAT)
    compressor = ContextCompressor(700, price_profile="none", summarizer=bad)
    model = optimize(FakeListChatModel(responses=["ok"]), compressor)
    talks = [CHAT, [*CHAT, AIMessage("more " * 300), HumanMessage("And?")]]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for talk in talks:
            answered = asyncio.run(model.ainvoke(talk)) if is_async else model.invoke(talk)
            assert answered.text == "ok"
    told = [one for one in said if issubclass(one.category, TokenOptWarning)]
    assert len(told) == 1
    assert "summarizer" in str(told[0].message)
    assert [m.text for m in compressor.view(CHAT).messages] == [m.text for m in plain.messages]


def test_a_summary_that_is_too_long_is_cut_to_its_room():
    """It stands for what was too long: it must not be that itself."""
    compressor = ContextCompressor(
        700, price_profile="none", summarizer=lambda messages: "The gate is B22. " * 3_000
    )
    view = compressor.view(CHAT)
    assert view.is_feasible
    assert "The gate is B22." in "".join(message.text for message in view.messages)


def test_a_summarizer_that_hangs_is_left_alone_until_it_comes_back():
    """One thread at most waits for it, and one call of the application."""
    go, asked = threading.Event(), []

    def hangs(messages):
        asked.append(1)
        go.wait(60)
        return "late"

    summaries = Summaries(hangs, seconds=0.05)
    with pytest.warns(TokenOptWarning, match=r"longer than 0\.05 seconds"):
        assert not summaries(CHAT[:2])
    assert not summaries(CHAT[:4])
    assert len(asked) == 1
    go.set()
    assert summaries._hanging is not None
    assert summaries._hanging.wait(60)
    assert summaries(CHAT[:6]) == "late"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, asyncio.CancelledError])
def test_what_ends_the_program_or_the_task_passes(stop):
    """Only errors are borne."""

    def stopped(messages):
        raise stop

    compressor = ContextCompressor(700, price_profile="none", summarizer=stopped)
    with pytest.raises(stop):
        compressor.view(CHAT)


async def test_a_task_that_is_cancelled_ends_at_once():
    """It does not wait for the summarizer."""
    began, go = threading.Event(), threading.Event()

    def hangs(messages):
        began.set()
        go.wait(60)
        return "late"

    compressor = ContextCompressor(700, price_profile="none", summarizer=hangs)
    model = optimize(FakeListChatModel(responses=["ok"]), compressor)
    task = asyncio.ensure_future(model.ainvoke(CHAT))
    await asyncio.to_thread(began.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
