"""What a model's own class makes of its answers, with and without stages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from langchain_tokenopt import BudgetPlan, WordLimit, optimize
from tests.support.model_server import ModelServer, Reply


class KeepsReasoning(ChatOpenAI):
    """Keeps something of whole answers that it does not see in a stream."""

    def _create_chat_result(self, response: Any, generation_info: Any = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        for generation in result.generations:
            generation.message.additional_kwargs["reasoning_content"] = "because"
        return result


class Named(ChatOpenAI):
    """Adds nothing to answers."""

    @property
    def _llm_type(self) -> str:
        return "named"


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return word


def _asked(server: ModelServer, kind: type[ChatOpenAI]) -> ChatOpenAI:
    return kind(model="gpt-4.1-mini", base_url=server.url + "/v1", api_key="test")


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("binds", [False, True])
@pytest.mark.parametrize("stage", ["limit", "plan", "words"])
def test_a_class_of_ones_own_says_the_same(
    model_server: ModelServer, stage: str, binds: bool, is_async: bool
) -> None:
    """Word limits and plans do not go round what a class does with whole answers."""
    words = {"default": {"words": 50}} if stage == "words" else {}
    plan = BudgetPlan(total_tokens=50_000, agents=words)
    model = _asked(model_server, KeepsReasoning)
    staged = optimize(model, WordLimit(50) if stage == "limit" else plan)

    def ask(asked: Any) -> AIMessage:
        asked = asked.bind_tools([lookup]) if binds else asked
        return asyncio.run(asked.ainvoke("Hi")) if is_async else asked.invoke("Hi")  # type: ignore[no-any-return]

    with plan.run():
        plain, same = ask(model), ask(staged)

    assert "because" == same.additional_kwargs["reasoning_content"]
    assert plain.additional_kwargs == same.additional_kwargs
    assert plain.text == same.text
    assert not any(request.body.get("stream") for request in model_server.requests)


def test_an_answer_beyond_the_limit_is_trimmed_without_a_stream(model_server: ModelServer) -> None:
    """What cannot be stopped is trimmed, and a class that adds nothing is stopped as ever."""
    model_server.answer = lambda request: Reply(text="One two three four. " * 30)
    limit = WordLimit(10)
    own, named = (
        optimize(_asked(model_server, kind), limit).invoke("Hi") for kind in (KeepsReasoning, Named)
    )

    assert "One two three four. One two three four." == own.text == named.text
    assert [False, True] == [bool(r.body.get("stream")) for r in model_server.requests]
