"""Laws of counting, and of the pure functions on messages."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from langchain_tokenopt.core.messages import (
    append_to_last_user,
    as_chunk,
    as_message,
    atomic_groups,
    text_of,
    with_text,
)
from langchain_tokenopt.counting import tokens
from langchain_tokenopt.counting.calibration import Calibration, reset_calibration
from langchain_tokenopt.counting.request_tokens import count_messages, image_tokens
from langchain_tokenopt.counting.tokens import counter_for

pytestmark = pytest.mark.exhaustive

law = settings(deadline=None)
"""The first example may load a vocabulary."""

MODELS = ["gpt-4o", "gpt-4", "claude-sonnet-4-5", "gemini-2.5-pro", "acme-7b"]


@pytest.fixture(autouse=True)
def _uncalibrated() -> None:
    """Estimates are those of a process that has been told nothing, whatever ran before."""
    reset_calibration()


any_text = st.text(st.characters(exclude_categories=()), max_size=60)
"""With lone surrogates, control characters and everything else that a str can hold."""

words = st.lists(
    st.sampled_from(
        [
            "the",
            " budget",
            "\n\n",
            "    ",
            "def f(x):",
            "<|endoftext|>",
            "日本語",
            "🎉",
            "1234",
            "'s",
        ]
    ),
    max_size=25,
).map("".join)


@law
@given(any_text | words, st.sampled_from(MODELS))
def test_a_count_is_between_nothing_and_the_bytes(text: str, model: str) -> None:
    """Only the empty text is free, and no token is shorter than a byte."""
    count = counter_for(model).count(text).tokens
    size = len(text.encode("utf-8", "surrogatepass"))

    assert (count == 0) == (text == "")
    assert count <= 1.2 * size + 1


@law
@given(any_text | words)
def test_both_implementations_agree(text: str) -> None:
    """Another implementation of the same vocabularies counts the same."""
    other = pytest.importorskip("bpe_openai")
    text = text.encode("utf-8", "replace").decode()  # it refuses surrogates

    for vocabulary in ("cl100k_base", "o200k_base"):
        expected = len(other.get_encoding(vocabulary).encode_ordinary(text))
        assert counter_for(vocabulary).count(text).tokens == expected


@law
@given(
    st.lists(
        any_text | words | st.sampled_from(["\n", "\n\n", ".\n/", " \n", "\n ", "\r\n", "\t\n#"])
    ).map("".join),
    st.sampled_from(["cl100k_base", "o200k_base", "p50k_base"]),
)
def test_counting_in_parts_is_exact(text: str, vocabulary: str) -> None:
    """Parts that are remembered add up to the tokens of the whole text, wherever it is cut."""
    counter = counter_for(vocabulary)
    with mock.patch.object(tokens, "_PART", 1):
        in_parts = [counter.count(text).tokens for _ in range(2)]
    with mock.patch.object(tokens, "_PART", len(text)):
        whole = counter.count(text).tokens

    assert [whole, whole] == in_parts


@given(words, words, st.sampled_from(MODELS))
@settings(derandomize=True, deadline=None)
def test_cutting_a_text_saves_next_to_nothing(left: str, right: str, model: str) -> None:
    """The parts of a text cost at least what the whole costs, up to the seam."""
    count = counter_for(model).count
    whole = count(left + right).tokens

    assert whole <= count(left).tokens + count(right).tokens + 2


@law
@given(any_text | words)
def test_the_guess_is_between_nothing_and_the_bytes(text: str) -> None:
    """Without a vocabulary the same bounds hold."""
    guess = len(tokens._guessed_tokens(text))

    assert (guess == 0) == (text == "")
    assert guess <= 1.6 * len(text.encode("utf-8", "surrogatepass")) + 1


@law
@given(words)
def test_the_guess_is_of_the_right_size(text: str) -> None:
    """A guess is never far from the count, whatever the mixture."""
    real = counter_for("o200k_base").count(text).tokens

    assert abs(len(tokens._guessed_tokens(text)) - real) <= 0.75 * real + 3


@st.composite
def conversations(draw: st.DrawFn) -> list[BaseMessage]:
    """Any order of messages; answers may be lost, doubled, orphaned or in another order."""
    messages: list[BaseMessage] = []
    for _ in range(draw(st.integers(0, 8))):
        text = draw(words)
        kind = draw(st.sampled_from(["system", "human", "blocks", "ai", "calls", "answer"]))
        if kind == "system":
            messages.append(SystemMessage(text))
        elif kind == "human":
            messages.append(HumanMessage(text, name=draw(st.none() | st.just("ada"))))
        elif kind == "blocks":
            image = {"type": "image", "base64": "iVBORw0KGgo="}
            messages.append(HumanMessage([{"type": "text", "text": text}, image]))
        elif kind == "ai":
            messages.append(AIMessage(text))
        elif kind == "calls":
            ids = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
            calls = [ToolCall(name="add", args={"text": text}, id=i) for i in ids]
            messages.append(AIMessage(text, tool_calls=calls))
        else:
            messages.append(ToolMessage(text, tool_call_id=draw(st.sampled_from("abcd"))))
    return messages


@law
@given(conversations(), conversations(), st.sampled_from(MODELS))
def test_conversations_add_up(
    first: list[BaseMessage], second: list[BaseMessage], model: str
) -> None:
    """Two conversations in one cost what they cost alone, less one reply."""

    def count(messages: list[BaseMessage]) -> int:
        return count_messages(messages, model=model).tokens

    assert count(first + second) == count(first) + count(second) - count([])


@law
@given(conversations(), st.sampled_from(MODELS))
def test_no_message_is_free(messages: list[BaseMessage], model: str) -> None:
    """A message more never lowers the count."""
    shorter = count_messages(messages[:-1], model=model).tokens

    assert count_messages(messages, model=model).tokens >= shorter


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
kinds = st.sampled_from(
    (
        *("text", "image", "image_url", "input_audio", "file", "media", "tool_result", "tool_use"),
        *("reasoning", "thinking", "document", "acme", "text-plain", "input_image", "video"),
    )
)
block_keys = st.sampled_from(
    (
        *("text", "image_url", "source", "data", "base64", "url", "content", "input", "mime_type"),
        *("format", "detail", "summary", "thinking", "file", "tool_use_id"),
    )
)


@law
@given(st.dictionaries(block_keys, json_values, max_size=4), kinds, st.sampled_from(MODELS))
def test_no_block_raises(block: dict[str, Any], kind: str, model: str) -> None:
    """Blocks of any kind with anything in them are counted."""
    message = HumanMessage("")
    message.content = [{"type": kind, **block}]

    assert count_messages([message], model=model).tokens >= 0


schemas = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer"]) | st.just(["string", "null"]),
            "description": st.text(max_size=20) | st.none(),
            "enum": st.lists(st.text(max_size=5) | st.integers(), max_size=3),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(st.text(max_size=8), inner, max_size=3),
            "items": inner,
            "anyOf": st.lists(inner, max_size=2),
        },
    ),
    max_leaves=6,
)


@law
@given(st.lists(schemas, max_size=3), st.sampled_from(MODELS))
def test_more_tools_cost_more(parameters: list[dict[str, Any]], model: str) -> None:
    """Any schema is counted, and none is free."""
    functions = [{"name": f"tool_{n}", "parameters": p} for n, p in enumerate(parameters)]
    counts = [
        count_messages("Hello", functions[:n], model).tokens for n in range(len(functions) + 1)
    ]

    assert counts == sorted(set(counts))


@law
@given(
    st.integers(1, 12_000),
    st.integers(1, 12_000),
    st.sampled_from([*MODELS, "gpt-4.1-mini", "gpt-6-astra", "claude-opus-4-7", "gpt-5"]),
    st.sampled_from([None, "low", "high", "auto"]),
)
def test_an_image_costs_the_same_lying_and_standing(
    width: int, height: int, model: str, detail: str | None
) -> None:
    """Every rule is symmetric and bounded."""
    lying = image_tokens(width, height, model, detail=detail)
    standing = image_tokens(height, width, model, detail=detail)

    assert lying == standing
    assert 1 <= lying.tokens <= 100_000


@law
@given(st.lists(st.tuples(st.integers(-10, 10**9), st.integers(-10, 10**9)), max_size=30))
def test_a_factor_stays_within_its_bounds(reports: list[tuple[int, int]]) -> None:
    """No sequence of reports takes the factor out of its bounds."""
    calibration = Calibration(1.1)

    for counted, reported in reports:
        calibration.observe(counted=counted, reported=reported)

    assert 0.4 <= calibration.factor <= 2.5


@law
@given(st.floats(0.5, 2.0), st.integers(50, 20_000))
def test_steady_reports_are_learned(ratio: float, size: int) -> None:
    """Whatever the real ratio and the size of requests, enough reports find it."""
    calibration = Calibration(1.1)
    for _ in range(3_000):
        counted = max(1, round(size * calibration.factor))
        calibration.observe(counted=counted, reported=round(size * ratio))

    assert calibration.factor == pytest.approx(round(size * ratio) / size, rel=0.05)


@law
@given(conversations())
def test_groups_are_a_partition(messages: list[BaseMessage]) -> None:
    """Every message is in exactly one group; groups and their members are in order."""
    groups = atomic_groups(messages)

    assert sorted(index for group in groups for index in group) == list(range(len(messages)))
    assert all(group == sorted(group) for group in groups)
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)


@law
@given(conversations(), st.data())
def test_dropping_groups_tears_no_call_from_its_answer(
    messages: list[BaseMessage], data: st.DataObject
) -> None:
    """Whichever groups are kept, an answer that had a call before it still has it."""
    groups = atomic_groups(messages)
    kept = [group for group in groups if data.draw(st.booleans())]
    indexes = sorted(index for group in kept for index in group)

    def with_calls(order: list[int]) -> dict[int, int | None]:
        latest: dict[str | None, int] = {}
        found: dict[int, int | None] = {}
        for index in order:
            message = messages[index]
            if isinstance(message, AIMessage):
                latest.update({call["id"]: index for call in message.tool_calls})
            elif isinstance(message, ToolMessage):
                found[index] = latest.get(message.tool_call_id)
        return found

    whole, part = with_calls(list(range(len(messages)))), with_calls(indexes)
    assert {i: part[i] for i in part if whole[i] is not None} == {
        i: whole[i] for i in part if whole[i] is not None
    }


@law
@given(conversations(), words)
def test_replaced_text_is_read_back(messages: list[BaseMessage], text: str) -> None:
    """What is put in comes out, in a message that is otherwise the same."""
    for message in messages:
        changed = with_text(message, text)

        assert text_of(changed) == text
        assert with_text(changed, text) == changed
        assert (changed.type, changed.id, changed.name) == (message.type, message.id, message.name)


@law
@given(conversations(), words.filter(bool))
def test_asking_keeps_what_was_said(messages: list[BaseMessage], text: str) -> None:
    """One message grows or one is added; all others are the same objects; twice is once."""
    asked = append_to_last_user(messages, text)
    changed = [i for i, (a, b) in enumerate(zip(messages, asked, strict=False)) if a is not b]

    assert len(changed) + len(asked) - len(messages) <= 1
    assert all(isinstance(messages[i], HumanMessage) for i in changed)
    assert append_to_last_user(asked, text) == asked


@law
@given(conversations())
def test_chunks_and_messages_are_two_forms_of_one(messages: list[BaseMessage]) -> None:
    """The way through a chunk loses nothing."""
    for message in messages:
        if isinstance(message, AIMessage):
            assert as_message(as_chunk(message)) == message
