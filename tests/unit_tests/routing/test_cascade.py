"""Which answers a cascade sends back, and what it learns of that."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage

from langchain_tokenopt import ModelRouter, optimize


def cascade(answer: AIMessage) -> Any:
    models: dict[str, Any] = {
        "cheap": GenericFakeChatModel(messages=iter([answer])),
        "strong": FakeListChatModel(responses=["strong"]),
    }
    return optimize(models["strong"], ModelRouter(models, cascade="refusal"))


@pytest.mark.parametrize(
    "answer",
    [
        AIMessage("I'm sorry, but I can't help with that."),
        AIMessage('"I cannot help with that."'),
        AIMessage([{"type": "refusal", "refusal": "No."}]),
        AIMessage("", additional_kwargs={"refusal": "No."}, response_metadata={"refusal": None}),
        AIMessage(""),
        AIMessage([{"type": "reasoning", "summary": []}, {"type": "text", "text": " "}]),
        AIMessage("The bridge was", response_metadata={"finish_reason": "length"}),
    ],
)
async def test_what_declines_says_nothing_or_is_cut_off_asks_the_next(answer: AIMessage) -> None:
    """Whether in words, or as its provider says it."""
    assert "strong" == cascade(answer).invoke("Hi").text
    assert "strong" == (await cascade(answer).ainvoke("Hi")).text


@pytest.mark.parametrize(
    "answer",
    [
        "The letter says: 'I cannot help you'",
        "They're clear: 'I can't help you, I'm sorry', and hang up.",
        '"I\'m sorry, I cannot help" is what he wrote.',
        "He wrote:\n> I cannot help you.\nThat's rude.",
        "Er schreibt: „Das kann ich leider nicht.“",
        "```\nraise Refused('I cannot help you')\n```\nThat raises.",
    ],
)
def test_what_is_quoted_is_no_refusal(answer: str) -> None:
    assert answer == cascade(AIMessage(answer)).invoke("Hi").text
