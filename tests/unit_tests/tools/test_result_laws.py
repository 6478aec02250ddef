"""Laws of shortened results, over generated ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import ToolMessage

from langchain_tokenopt import ToolLimits, counter_for
from langchain_tokenopt.tools.result_limit import shortened_result
from langchain_tokenopt.tools.tool_limits import ToolAccount, ToolCallUse

pytestmark = pytest.mark.exhaustive

COUNT = counter_for("gpt-4o").count
PICTURE = 772
"""Tokens of a picture of which only the address is known."""
WORDS = st.sampled_from(
    [
        "tea",
        "Brücke",
        "漢字",
        "42",
        "{",
        "]",
        '"',
        "\\",
        "\n",
        "|",
        "```",
        "<b>",
        "\ud83d\ude00",
        "\x00",
    ]
)
texts = st.lists(WORDS, max_size=400).map(" ".join) | st.text(max_size=300)
values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(texts, inner, max_size=6),
    max_leaves=60,
)
limits = st.integers(1, 400)


def use_of(limit: int) -> tuple[ToolAccount, ToolCallUse]:
    account = ToolAccount("t", ToolLimits(max_result_tokens_per_call=limit))
    use = account.begin(None)
    assert isinstance(use, ToolCallUse)
    return account, use


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=texts, limit=limits, query=st.none() | texts)
@example(text='{"a": "' + "b" * 5_000 + '"}', limit=80, query=None)
@example(text="[" * 3_000, limit=80, query="[")
@example(text='{"_left_out": 1, "a": "' + "b " * 900 + '"}', limit=90, query=None)
def test_no_text_is_longer_than_its_limit(text: str, limit: int, query: str | None) -> None:
    """What is shown fits, or is refused; what fits anyhow is untouched; the report adds up."""
    account, use = use_of(limit)
    shown = shortened_result(ToolMessage(text, tool_call_id="1"), use, query)
    report = account.report()

    if COUNT(text).tokens <= limit:
        assert text == shown.content
    elif shown.status == "error":
        assert limit < 64
        assert "max" not in shown.content
    else:
        assert COUNT(shown.content).tokens <= limit
        assert COUNT(shown.content).tokens == report.result_tokens_after


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=st.lists(values, min_size=1) | st.dictionaries(texts, values), limit=limits)
@example(value={"tea": ["\ud83d\ude00"] * 12, "\ud83d": [[None] * 9]}, limit=64)
def test_json_stays_json(value: Any, limit: int) -> None:
    """Whatever stands in it."""
    text = json.dumps(value, ensure_ascii=False)
    shown = shortened_result(ToolMessage(text, tool_call_id="1"), use_of(limit)[1], "tea")

    if shown.status == "success":
        assert COUNT(shown.content).tokens <= max(limit, 0)
        json.loads(shown.content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    blocks=st.lists(
        texts.map(lambda text: {"type": "text", "text": text})
        | st.just({"type": "image", "url": "https://example.org/a.png"})
        | texts,
        min_size=1,
        max_size=4,
    ),
    limit=limits,
)
def test_blocks_keep_their_number_and_kind(blocks: list[Any], limit: int) -> None:
    """Only texts change."""
    account, use = use_of(limit)
    shown = shortened_result(ToolMessage(blocks, tool_call_id="1"), use, None)

    if shown.status == "success":
        report, picture = account.report(), {"type": "image", "url": "https://example.org/a.png"}
        pictures = blocks.count(picture) * PICTURE
        assert report.result_tokens_after <= max(limit, pictures + min(limit, 64))
        assert blocks.count(picture) == shown.content.count(picture)
        if pictures and limit < 64:
            return  # texts that have hardly any room are one
        assert [type(block) for block in blocks] == [type(block) for block in shown.content]
        for before, after in zip(blocks, shown.content, strict=True):
            if isinstance(before, dict):
                assert before.keys() == after.keys()
                assert before["type"] != "image" or before == after
