from __future__ import annotations

import base64
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from langchain_tokenopt.core.messages import (
    append_to_last_user,
    as_chunk,
    as_message,
    atomic_groups,
    last_user_text,
    text_of,
    with_text,
)

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n a picture").decode()
OTHER_PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n another").decode()
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}


def call(name: str = "add", call_id: str | None = "1", **args: Any) -> ToolCall:
    return ToolCall(name=name, args=args, id=call_id)


def calling(*calls: ToolCall, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=list(calls))


def answer(call_id: str, text: str = "3") -> ToolMessage:
    return ToolMessage(text, tool_call_id=call_id)


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hello", "Hello"),
        ("", ""),
        (["Hel", "lo"], "Hello"),
        ([{"type": "text", "text": "Hel"}, IMAGE, {"type": "text", "text": "lo"}], "Hello"),
        ([{"type": "input_text", "text": "Hello"}], "Hello"),
        ([{"type": "output_text", "text": "Hello"}], "Hello"),
        ([{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Hello"}], "Hello"),
        ([{"type": "reasoning", "text": "Hm"}], ""),
        ([{"type": "text", "text": None}], ""),
        ([IMAGE], ""),
        ([], ""),
    ],
)
def test_text_is_all_text_and_nothing_else(content: Any, expected: str) -> None:
    """Text blocks of every provider are joined; reasoning and images are not text."""
    message = HumanMessage("")
    message.content = content

    assert text_of(message) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HumanMessage("a"), AIMessage("b"), HumanMessage("c")], "c"),
        ([HumanMessage("a"), calling(call()), answer("1")], "a"),
        ([HumanMessageChunk("a")], "a"),
        ([SystemMessage("s")], None),
        ([], None),
        ([HumanMessage("a"), HumanMessage([IMAGE])], None),
        ([HumanMessage("a"), HumanMessage("")], None),
    ],
    ids=["last", "agent loop", "chunk", "none", "empty", "image alone", "no text"],
)
def test_the_last_user_text_is_the_question_that_is_asked(
    messages: list[BaseMessage], expected: str | None
) -> None:
    """The last human message decides; an earlier question is never taken for it."""
    assert last_user_text(messages) == expected


# --- groups --------------------------------------------------------------------------------------

GROUPS: dict[str, tuple[list[BaseMessage], list[list[int]]]] = {
    "nothing": ([], []),
    "talk": ([HumanMessage("a"), AIMessage("b")], [[0], [1]]),
    "one call": ([calling(call()), answer("1")], [[0, 1]]),
    "parallel calls": (
        [calling(call(call_id="x"), call(call_id="y")), answer("y"), answer("x"), AIMessage("z")],
        [[0, 1, 2], [3]],
    ),
    "interleaved": (
        [
            calling(call(call_id="x")),
            HumanMessage("wait"),
            calling(call(call_id="y")),
            answer("x"),
            answer("y"),
        ],
        [[0, 3], [1], [2, 4]],
    ),
    "orphan": ([answer("lost"), HumanMessage("a")], [[0], [1]]),
    "answer before its call": ([answer("1"), calling(call())], [[0], [1]]),
    "unanswered": ([calling(call(call_id="x"), call(call_id="y")), answer("x")], [[0, 1]]),
    "answered twice": ([calling(call()), answer("1"), answer("1")], [[0, 1, 2]]),
    "id used again": (
        [calling(call()), answer("1"), calling(call()), answer("1")],
        [[0, 1], [2, 3]],
    ),
    "invalid call": (
        [
            AIMessage(
                "", invalid_tool_calls=[InvalidToolCall(name="a", args="{", id="1", error="?")]
            ),
            answer("1"),
        ],
        [[0, 1]],
    ),
    "legacy function": (
        [
            AIMessage("", additional_kwargs={"function_call": {"name": "add", "arguments": ""}}),
            FunctionMessage("3", name="add"),
        ],
        [[0, 1]],
    ),
    "anthropic blocks": (
        [
            calling(call(call_id="x")),
            HumanMessage([{"type": "tool_result", "tool_use_id": "x", "content": "3"}]),
        ],
        [[0, 1]],
    ),
    "call without id": ([calling(call(call_id=None)), answer("")], [[0], [1]]),
}


@pytest.mark.parametrize(("messages", "expected"), GROUPS.values(), ids=GROUPS.keys())
def test_calls_and_their_answers_form_groups(
    messages: list[BaseMessage], expected: list[list[int]]
) -> None:
    """What a provider wants together stays together."""
    assert atomic_groups(messages) == expected


# --- changing text -------------------------------------------------------------------------------


def test_replaces_the_text_and_keeps_the_rest() -> None:
    """A copy differs in its text only."""
    message = AIMessage(
        "A long story",
        id="7",
        name="teller",
        tool_calls=[call()],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        response_metadata={"model_name": "gpt-4o"},
    )
    before = message.model_dump()

    short = with_text(message, "Short")

    assert short.model_dump() == {**before, "content": "Short"}
    assert message.model_dump() == before
    assert type(short) is AIMessage


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            [{"type": "text", "text": "a", "id": "t"}, IMAGE, {"type": "text", "text": "b"}],
            [{"type": "text", "text": "new", "id": "t"}, IMAGE],
        ),
        ([IMAGE, "a"], [IMAGE, "new"]),
        ([IMAGE], [{"type": "text", "text": "new"}, IMAGE]),
        ([], [{"type": "text", "text": "new"}]),
    ],
    ids=["several", "string part", "image alone", "empty"],
)
def test_other_blocks_keep_their_places(content: list[Any], expected: list[Any]) -> None:
    """Only text blocks are touched."""
    assert with_text(HumanMessage(content), "new").content == expected


def test_no_empty_text_block_is_left() -> None:
    """Providers refuse empty text blocks."""
    message = HumanMessage([{"type": "text", "text": "a"}, IMAGE])

    assert with_text(message, "").content == [IMAGE]
    assert with_text(HumanMessage("a"), "").content == ""


def test_blocks_of_the_original_are_not_changed() -> None:
    """The copy's text block is a block of its own."""
    block = {"type": "text", "text": "a"}
    message = HumanMessage([block])

    with_text(message, "b")

    assert (block, message.content) == ({"type": "text", "text": "a"}, [block])


ASK = "At most 50 words."


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            [SystemMessage("s"), HumanMessage("a"), AIMessage("b"), HumanMessage("c")],
            ["s", "a", "b", f"c\n\n{ASK}"],
        ),
        ([HumanMessage("a"), calling(call()), answer("1")], [f"a\n\n{ASK}", "", "3"]),
        ([HumanMessage("")], [ASK]),
        ([SystemMessage("s")], ["s", ASK]),
        ([], [ASK]),
        ([calling(call()), answer("1")], ["", "3", ASK]),
        ([calling(call())], [""]),
        ([calling(call(), call(call_id="2")), answer("1")], ["", "3"]),
        ([HumanMessage([IMAGE])], [[IMAGE, {"type": "text", "text": ASK}]]),
    ],
    ids=[
        "last human",
        "agent loop",
        "empty human",
        "system alone",
        "nothing",
        "after an answer",
        "unanswered",
        "half answered",
        "image",
    ],
)
def test_a_request_goes_to_the_end_of_the_last_human_message(
    messages: list[AnyMessage], expected: list[Any]
) -> None:
    """Everything before stays as it was, and no provider has to refuse the result."""
    assert [m.content for m in append_to_last_user(messages, ASK)] == expected


@pytest.mark.parametrize("content", ["a", [{"type": "text", "text": "a"}], [IMAGE]])
def test_asking_twice_changes_nothing(content: Any) -> None:
    """A request that is there already is not repeated."""
    once = append_to_last_user([HumanMessage(content)], ASK)

    assert append_to_last_user(once, ASK) == once


def test_a_cached_block_keeps_its_bytes() -> None:
    """A block with a cache mark is followed, not extended."""
    cached = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}

    (asked,) = append_to_last_user([HumanMessage([cached])], ASK)

    assert asked.content == [cached, {"type": "text", "text": ASK}]


def test_an_empty_request_changes_nothing() -> None:
    """Nothing to ask, nothing to add."""
    messages = [HumanMessage("a")]

    assert append_to_last_user(messages, "") == messages
    assert append_to_last_user([], "") == []


def test_the_given_messages_are_not_changed() -> None:
    """The caller's list and messages stay as they are."""
    messages = [HumanMessage("a"), AIMessage("b")]

    append_to_last_user(messages, ASK)

    assert [m.content for m in messages] == ["a", "b"]


# --- chunks --------------------------------------------------------------------------------------

FULL = AIMessage(
    "Adding.",
    id="run-7",
    name="adder",
    tool_calls=[call(a=1, s="ü"), call("sub", "2")],
    invalid_tool_calls=[InvalidToolCall(name="mul", args="mul(3)", id="3", error="no JSON")],
    usage_metadata={
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_token_details": {"cache_read": 4},
    },
    response_metadata={"model_name": "gpt-4o", "finish_reason": "tool_calls"},
    additional_kwargs={"refusal": None},
)
BLOCKS = AIMessage(
    [{"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "text", "text": "Hi"}],
    response_metadata={"output_version": "v1"},
)


@pytest.mark.parametrize("message", [FULL, BLOCKS, AIMessage("")], ids=["full", "blocks", "empty"])
def test_a_message_survives_the_way_through_a_chunk(message: AIMessage) -> None:
    """Nothing is lost between a message and its chunk."""
    chunk = as_chunk(message)

    assert as_message(chunk) == message
    assert type(as_message(chunk)) is AIMessage
    assert chunk.chunk_position == "last"


def test_a_chunk_can_be_the_end_of_a_stream() -> None:
    """Merged after an empty chunk, as callers do, it is still the whole message."""
    merged = AIMessageChunk("", id="run-7") + as_chunk(FULL)

    assert merged.content == "Adding."
    assert merged.tool_calls == FULL.tool_calls
    assert [c["name"] for c in merged.invalid_tool_calls] == ["mul"]
    assert merged.usage_metadata == FULL.usage_metadata


def test_the_sum_of_a_stream_becomes_a_message() -> None:
    """Tool calls that came in pieces are whole."""
    pieces = [
        AIMessageChunk(
            "",
            tool_call_chunks=[{"name": "add", "args": '{"a"', "id": "1", "index": 0}],
        ),
        AIMessageChunk(
            "",
            tool_call_chunks=[{"name": None, "args": ": 1}", "id": None, "index": 0}],
            chunk_position="last",
        ),
    ]

    message = as_message(pieces[0] + pieces[1])

    assert (type(message), message.tool_calls[0]["args"]) == (AIMessage, {"a": 1})


def test_what_is_of_the_right_kind_stays() -> None:
    """A chunk is its own chunk, a message its own message."""
    chunk, message = AIMessageChunk("a"), AIMessage("a")

    assert as_chunk(chunk) is chunk
    assert as_message(message) is message


def test_making_a_chunk_changes_nothing() -> None:
    """The message is only read."""
    before = FULL.model_dump_json()

    as_chunk(FULL)

    assert FULL.model_dump_json() == before
