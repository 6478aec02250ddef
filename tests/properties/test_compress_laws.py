# ruff: noqa: PT017  a refusal is one of two right outcomes here
"""Laws of the compressor: exact budgets, proved refusals, untouched spans, valid conversations."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokenopt.compress import PromptCompressor, join_documents
from langchain_tokenopt.compress.json_encoding import (
    decode_json,
    encode_json,
    parse_json,
    same_json,
)
from langchain_tokenopt.compress.prompt_parts import read_message, read_passage
from langchain_tokenopt.compress.segments import segments_of
from langchain_tokenopt.compress.units import units_of
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from langchain_tokenopt.core.messages import atomic_groups
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import TokenCount, counter_for
from langchain_tokenopt.text.sentences import quoted_spans

pytestmark = pytest.mark.exhaustive

LAW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


class Formula:
    """A made-up tokenizer."""

    def __init__(self, formula: Any) -> None:
        self._formula = formula

    def count(self, text: str) -> TokenCount:
        return TokenCount(self._formula(text) if text else 0, exact=True)


TOKENIZERS = {
    "cl100k_base": counter_for("cl100k_base"),
    "estimated": counter_for("claude-sonnet-4-5"),
    "characters": Formula(len),
    "words": Formula(lambda text: len(text.split())),
    "rounded up": Formula(lambda text: math.ceil(len(text) / 7)),
    "with a frame": Formula(lambda text: len(text) // 3 + 5),
    "bytes": Formula(lambda text: len(text.encode("utf-8", "surrogatepass"))),
}

SENTENCES = (
    "The bridge was opened in 1931 by the mayor.",
    "It never rains here, except on 5 May 2026.",
    'She said "Wait. Do not go! Why?" and left.',
    "Revenue rose 12.5 % to $4.1 billion.",
    "See https://example.org/a.b?c=d for more.",
    "Die Brücke wurde am 3. Mai eröffnet.",
    "¿Cuándo llegó? Nadie lo sabe.",
    "桥建于1931年。没有人知道为什么。",
    "שלום עולם. זה משפט.",
    "You must answer in {language} only.",
    "Use `a. b` here.",
    "Tea is hot.",
)
BLOCKS = (
    '```python\ndef f(x):\n    return "a. B"\n```',
    '{"id": 1, "items": [{"a": 1.50, "b": "x"}, {"a": 2, "b": "y"}]}',
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    "- first point\n- second point\n  goes on",
    "2026-01-01 10:00:00 INFO up\n2026-01-01 10:00:00 INFO up\n2026-01-01 10:00:01 ERROR down",
    "@@ -1,2 +1,2 @@\n-old\n+new",
    "## Background",
    "Document [3](Title: The bridge) It is long. It is red.",
    "Context:",
    "Question: When was the bridge opened?",
    "<context>\nTea is hot.\n</context>",
    "```\nnever closed",
    "Input: good\nOutput: pos\n\nInput: bad\nOutput: neg\n\nInput: so so\nOutput:",
    "x" * 900,
    "a, " * 300,
)

texts = st.one_of(
    st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=30).map(" ".join),
    st.lists(st.sampled_from(SENTENCES + BLOCKS), min_size=1, max_size=20).map("\n\n".join),
    st.lists(st.sampled_from(SENTENCES + BLOCKS), min_size=1, max_size=20).map("\n".join),
    st.text(max_size=400),
    st.text(alphabet=" \n\t.!?\"'`{}[]<>#|-a1é中\ud800", max_size=200),
)
queries = st.one_of(
    st.none(), st.sampled_from(("When was the bridge opened?", "茶热吗", "wann?", "!!"))
)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_never_over_budget_and_every_refusal_is_right(name: str) -> None:
    """Whatever the text, tokenizer and limit: at most the limit, or proof that it cannot be met."""
    counter = TOKENIZERS[name]

    @LAW
    @given(texts, st.integers(1, 300), queries)
    def law(text: str, limit: int, query: str | None) -> None:
        compressor = PromptCompressor(limit, query=query, counter=counter, remember=0)
        try:
            result = compressor.compress(text)
        except BudgetInfeasibleError as refusal:
            assert refusal.max_tokens == limit
            assert refusal.required_tokens > limit
            return

        assert counter.count(result.content).tokens == result.tokens_after <= limit
        assert counter.count(text).tokens == result.tokens_before

    law()


@LAW
@given(st.lists(texts, max_size=6), st.integers(1, 200), queries, st.booleans())
def test_documents_fit_as_they_are_joined(
    bodies: list[str], limit: int, query: str | None, titled: bool
) -> None:
    """Documents are counted with their titles, and what is left is a part of what was there."""
    documents = [
        Document(body, metadata={"title": f"Part {n}"} if titled else {})
        for n, body in enumerate(bodies)
    ]
    result = PromptCompressor(limit, query=query, model="cl100k_base", remember=0).compress(
        documents
    )

    assert counter_for("cl100k_base").count(join_documents(result.content)).tokens <= limit
    kept = [d.metadata.get("title") for d in result.content]
    assert (
        kept == [t for t in (d.metadata.get("title") for d in documents) if t in kept][: len(kept)]
    )


@LAW
@given(texts, st.integers(1, 300))
def test_the_fallbacks_always_find_a_way(text: str, limit: int) -> None:
    """With ``truncate`` a text is never refused, and never too long."""
    compressor = PromptCompressor(limit, on_infeasible="truncate", model="cl100k_base", remember=0)

    result = compressor.compress(text)

    assert result.tokens_after <= limit
    assert counter_for("cl100k_base").count(result.content).tokens == result.tokens_after


@LAW
@given(texts)
def test_segments_and_units_cover_the_text(text: str) -> None:
    """No character is lost or doubled by cutting a text up."""
    segments = segments_of(text)
    assert text == "".join(text[s.start : s.end] for s in segments)
    for units in (units_of(text, segments), read_message(text).units, read_passage(text).units):
        assert text == "".join(text[u.start : u.end] for u in units)
        assert all(unit.head < len(units) and unit.bound < len(units) for unit in units)


@LAW
@given(texts)
def test_no_unit_ends_inside_a_quotation(text: str) -> None:
    """Quotations, code spans and placeholders in prose are kept or dropped whole."""
    for segment in segments_of(text):
        if segment.kind != "prose":
            continue
        spans = quoted_spans(text, segment.start, segment.end)
        for unit in units_of(text, [segment]):
            covering = [s for s in spans if s[0] < unit.end < s[1]]
            assert not covering or any(a[0] < s[0] < a[1] for s in covering for a in spans)


@LAW
@given(texts, st.integers(5, 200), queries)
def test_what_is_kept_stands_in_order_and_unchanged(
    text: str, limit: int, query: str | None
) -> None:
    """The output is a subsequence of the input, apart from the white space between sentences."""
    compressor = PromptCompressor(limit, query=query, model="cl100k_base", remember=0)
    try:
        result = compressor.compress(text)
    except BudgetInfeasibleError:
        return
    if "lossless" in result.steps:
        return
    rest = iter("".join(text.split()))

    assert all(character in rest for character in "".join(result.content.split()))


@LAW
@given(texts, st.integers(5, 200), queries)
def test_compressing_twice_changes_nothing_more(text: str, limit: int, query: str | None) -> None:
    """What fits is returned as the same object, and equal inputs give equal outputs."""
    compressor = PromptCompressor(limit, query=query, model="cl100k_base")
    try:
        once = compressor.invoke(text)
    except BudgetInfeasibleError:
        return

    assert compressor.invoke(once) is once
    assert compressor.invoke(text) == once
    assert PromptCompressor(limit, query=query, model="cl100k_base").invoke(text) == once


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=12),
        st.sampled_from(["true", "1.0", "a,b", "x|y", "{", "]", " ", "a:b", "é"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=6), inner, max_size=5),
        st.lists(
            st.fixed_dictionaries({"id": inner, "b c": inner, "n": st.just({"x": 1})}), max_size=4
        ),
    ),
    max_leaves=25,
)  # fmt: skip


@LAW
@given(json_values, st.sampled_from([None, 1, 4]), st.booleans())
def test_json_decodes_to_the_same_value(value: Any, indent: int | None, ascii_only: bool) -> None:
    """Every encoding comes back the same: keys in order, strings, and the digits of numbers."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    encoded = encode_json(text, len)
    if encoded is None:
        return

    assert same_json(parse_json(text), decode_json(encoded))
    assert len(encoded) < len(text)


@LAW
@given(
    st.one_of(
        st.lists(json_values, min_size=1, max_size=30),
        st.dictionaries(st.text(max_size=6), json_values, min_size=1, max_size=30),
        st.lists(
            st.fixed_dictionaries({"id": st.integers(), "name": st.text(max_size=30)}), min_size=9
        ).map(lambda rows: {"total": len(rows), "rows": rows}),
    ),
    st.sampled_from([None, 1, 4]),
    st.integers(5, 300),
)
def test_what_is_left_of_json_is_json(value: Any, indent: int | None, limit: int) -> None:
    """Elements are kept or dropped whole, with what opens and closes their list."""
    text = json.dumps(value, indent=indent)
    result = PromptCompressor(limit, query="Which id has x?", remember=0).compress(text)

    if segments_of(text)[0].kind == "json" and result.content.strip():
        json.loads(result.content)
        assert result.tokens_after <= limit


@st.composite
def conversations(draw: st.DrawFn) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    if draw(st.booleans()):
        messages.append(SystemMessage("You must be kind."))
    for turn in range(draw(st.integers(1, 5))):
        messages.append(HumanMessage(draw(texts) or "?"))
        if draw(st.booleans()):
            ids = [f"{turn}-{n}" for n in range(draw(st.integers(1, 3)))]
            calls = [{"name": "look", "args": {"n": i}, "id": i} for i in ids]
            messages.append(AIMessage("", tool_calls=calls))
            messages += [ToolMessage(draw(texts), tool_call_id=i) for i in ids]
        if draw(st.booleans()):
            messages.append(AIMessage(draw(texts) or "ok"))
    return messages


@LAW
@given(conversations(), st.integers(10, 600))
def test_conversations_fit_and_stay_valid(messages: list[BaseMessage], limit: int) -> None:
    """Within budget; system messages untouched; every call keeps its answers and vice versa."""
    before = [m.model_copy(deep=True) for m in messages]
    try:
        result = PromptCompressor(limit, model="gpt-4", remember=0).compress(messages)
    except BudgetInfeasibleError as refusal:
        assert refusal.required_tokens > limit
        return
    made = result.content

    assert before == messages
    assert count_messages(made, model="gpt-4").tokens == result.tokens_after <= limit
    assert [m for m in messages if isinstance(m, SystemMessage)] == [
        m for m in made if isinstance(m, SystemMessage)
    ]
    for group in atomic_groups(made):
        calls = {
            c["id"] for i in group if isinstance(made[i], AIMessage) for c in made[i].tool_calls
        }
        answers = {made[i].tool_call_id for i in group if isinstance(made[i], ToolMessage)}
        assert calls == answers
    assert type(made[-1]) is type(messages[-1])


@LAW
@given(conversations(), st.sampled_from(("balanced", "aggressive", "maximum")))
def test_levels_keep_the_beginning_of_a_growing_conversation(
    messages: list[BaseMessage], level: Any
) -> None:
    """One turn later the same messages are sent with the same bytes: prompt caches stay warm."""
    compressor = PromptCompressor(level=level, model="gpt-4")
    now = compressor.invoke(messages)
    later = compressor.invoke([*messages, AIMessage("Fine."), HumanMessage("And now?")])

    assert now == later[: len(now)] or now is messages
    assert [m.content for m in now] == [m.content for m in later[: len(now)]]
