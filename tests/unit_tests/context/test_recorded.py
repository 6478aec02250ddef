"""Files of recorded conversations: every form that is written, and a sentence for the others."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    convert_to_openai_messages,
    messages_to_dict,
)

from langchain_tokenopt import ConversationFileError
from langchain_tokenopt.context import recorded_conversations
from langchain_tokenopt.context.conversation import key_of
from tests.support.conversations import agent_loop

TALK = agent_loop(3)
FORMS = {
    "messages_to_dict": messages_to_dict(TALK),
    "OpenAI": convert_to_openai_messages(TALK),
    "model_dump": [message.model_dump(mode="json") for message in TALK],
    "dumpd": [dumpd(message) for message in TALK],
}


def keys(talk):
    return [key_of(message) for message in talk]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_conversation(form):
    """A message a line, a list a line, an object a line; blank lines are nothing."""
    found = FORMS[form]
    by_message = recorded_conversations([json.dumps(one) for one in found] + ["", " \r"])
    as_lists = recorded_conversations([json.dumps(found), "", json.dumps(found)])
    as_states = recorded_conversations([json.dumps({"messages": found, "thread": 1})])

    assert [keys(talk) for talk in by_message] == [keys(TALK)]
    assert [keys(talk) for talk in as_lists] == [keys(TALK)] * 2
    assert [keys(talk) for talk in as_states] == [keys(TALK)]


def test_a_call_without_content_is_a_message():
    """OpenAI leaves the content out, or null, where tools are called."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    line = json.dumps({"role": "assistant", "tool_calls": [call]})
    ((message,),) = recorded_conversations([line])

    assert isinstance(message, AIMessage)
    assert message.tool_calls[0]["args"] == {"a": 1}


HI = '{"role": "user", "content": "Hi"}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([HI, "{"], "Line 2 of chat.jsonl is no JSON: .* A document of several lines"),
        ([HI, "", "hello"], "Line 3 of chat.jsonl is no JSON"),
        (["[" * 100_000], "Line 1 of chat.jsonl is no JSON: it cannot be read"),
        (["7"], "Line 1 of chat.jsonl has 7 where a message should be"),
        (['{"question": "Hi"}'], "Line 1 of chat.jsonl has no role"),
        ([f"[{HI}, 5]"], "Line 1 of chat.jsonl has 5 where a message should be"),
        (['{"role": "pirate", "content": "Hi"}'], "no message of the role 'pirate'"),
        (['{"role": "user", "content": 7}'], "no message of the role 'user'"),
        (['{"role": "tool", "content": "x"}'], "no message of the role 'tool'"),
        (['{"type": "remove", "data": {"id": "1"}}'], "a message that removes others"),
        ([HI, f"[{HI}]"], "Line 2 of chat.jsonl is a conversation, and others are messages"),
        ([f"[{HI}]", HI], "Line 2 of chat.jsonl is a message, and others are conversations"),
    ],
)
def test_anything_else_is_a_sentence_with_the_line(lines, said):
    """What is wrong, where, and what a line should be."""
    with pytest.raises(ConversationFileError, match=said) as caught:
        recorded_conversations(lines, "chat.jsonl")
    assert "Each line is a message" in str(caught.value)


WORDS = st.sampled_from(
    [
        *("role", "type", "content", "data", "messages", "tool_calls", "function", "id", "kwargs"),
        *("lc", "constructor", "AIMessage", "user", "ai", "assistant", "tool", "system", "text"),
    ]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY, max_size=3))
def test_no_json_breaks_it_in_another_way(values):
    """Messages come out, or the named error does."""
    try:
        found = recorded_conversations(map(json.dumps, values))
    except ConversationFileError:
        return
    assert all(key_of(message) for talk in found for message in talk)


def test_no_line_is_no_conversation():
    """An empty file has none."""
    assert recorded_conversations([]) == []
    assert recorded_conversations([json.dumps([])]) == [[]]
    assert [[m.text for m in t] for t in recorded_conversations([HI])] == [
        [HumanMessage("Hi").text]
    ]
