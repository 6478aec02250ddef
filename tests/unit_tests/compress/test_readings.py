"""One reading for every kind of prompt: the answer, what is asked and the caller's rules stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue

from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.core.errors import BudgetInfeasibleError
from tests.support.readings import CASES

MODEL = "gpt-4o"


def shape_of(content: Any) -> Any:
    """Say of which form a content is: its types, and the keys of dicts."""
    if isinstance(content, dict):
        return {key: shape_of(value) for key, value in content.items()}
    if isinstance(content, PromptValue | BaseMessage):
        return type(content)
    if isinstance(content, list):
        return list
    return (tuple, len(content)) if isinstance(content, tuple) else type(content)


def text_of(content: Any) -> str:
    """Return all text of a content."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = content["messages"]
    if isinstance(content, PromptValue):
        content = content.to_messages()
    return "\n\n".join(message.text for message in convert_to_messages(content))


@pytest.mark.parametrize("name", CASES)
async def test_answer_question_and_rules_stay(name):
    """In a share of the tokens, in the same form, sync and async alike."""
    case = CASES[name]
    whole = PromptCompressor(10**9, model=MODEL).compress(case.prompt).tokens_before
    shorten = PromptCompressor(max(1, int(whole * case.share)), model=MODEL)

    result = shorten.compress(case.prompt)
    left = text_of(result.content)

    assert result.tokens_after <= shorten.max_tokens
    one_line = " ".join(left.split())
    assert [] == [part for part in case.keeps if " ".join(part.split()) not in one_line]
    assert [] == [part for part in case.loses if left.count(part) > 2]
    assert shape_of(case.prompt) == shape_of(result.content)
    assert result.content == shorten.invoke(case.prompt)
    assert result.content == await shorten.ainvoke(case.prompt)


LINES = st.sampled_from(
    [
        "# a",
        "## b c",
        "\f",
        "---",
        "<a>",
        "</a>",
        "<a b='c'/>",
        "<![CDATA[",
        "```",
        "",
        "",
        "Q: is it?",
        "Note:",
        "- x",
        "[1] tea",
        "x =",
        "It rains. It snows. " * 9,
        "| a | b |",
        '{"a": "b"}',
        "> c",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=30), st.integers(5, 60), st.booleans())
def test_marks_in_any_order_are_within_the_budget_or_refused(lines, limit, as_blocks):
    """Marks that are missing, doubled or alone break no reading."""
    shorten = PromptCompressor(limit, model=MODEL, remember=0)
    text = "\n".join(lines)
    try:
        result = shorten.compress([HumanMessage([*lines])] if as_blocks else text)
    except BudgetInfeasibleError:
        return

    assert result.tokens_after <= limit or result.reason
