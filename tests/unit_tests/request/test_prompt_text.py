"""What messages are written as for a cache: what LangChain writes, whatever stands in them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_tokenopt.request.prompt_text import prompt_text

CALL: Any = {"name": "add", "args": {"a": 1, "b": [1.5, None, True, 'ß"\ud800']}, "id": "c1"}
MESSAGES: list[BaseMessage] = [
    HumanMessage(""),
    HumanMessage([]),
    HumanMessage("Hi"),
    HumanMessage("Hi", name="ann"),
    HumanMessage("Hi", additional_kwargs={"lc": 1}),
    HumanMessage("Hi", example=True),
    HumanMessage([{"type": "text", "text": "Hi"}]),
    SystemMessage("Hi"),
    AIMessage("Hi"),
    AIMessage("", tool_calls=[CALL]),
    AIMessage("", tool_calls=[CALL, {**CALL, "id": None}]),
    AIMessage("", tool_calls=[{**CALL, "args": {"a": True}}]),
    AIMessage("", tool_calls=[{**CALL, "args": {"a": 1.0}}]),
    AIMessage("", tool_calls=[{**CALL, "args": {"lc": 1, "type": "constructor"}}]),
    AIMessage("", tool_calls=[{**CALL, "args": {"a": object}}]),
    AIMessageChunk("Hi"),
    AIMessageChunk("Hi", chunk_position="last"),
    ToolMessage("Hi", tool_call_id="c1"),
    ToolMessage("Hi", tool_call_id="c1", status="error"),
    ToolMessage("Hi", tool_call_id="c1", artifact={"a": 1}),
    ChatMessage("Hi", role="judge"),
    HumanMessage("Hi", more="x"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_it_is_what_langchain_writes(message: BaseMessage) -> None:
    """The first time, and from memory."""
    written = dumps([message])
    assert [prompt_text([message]) for _ in range(3)] == [written] * 3


def test_different_messages_are_different_texts() -> None:
    """All together, whichever came first."""
    wanted = dumps(MESSAGES)
    assert prompt_text(MESSAGES) == prompt_text(MESSAGES) == wanted
    assert len({prompt_text([message]) for message in MESSAGES}) == len(
        {dumps([message]) for message in MESSAGES}
    )


def test_ids_usage_and_metadata_of_answers_do_not_count() -> None:
    """They differ between an answer and its repetition from a cache."""
    usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    said = AIMessage("Hi", id="7", usage_metadata=usage, response_metadata={"model": "x"})
    assert prompt_text([said]) == prompt_text([AIMessage("Hi")])
    changed = HumanMessage("Hi")
    prompt_text([changed])
    changed.content = "Bye"
    assert prompt_text([changed]) == dumps([HumanMessage("Bye")])
