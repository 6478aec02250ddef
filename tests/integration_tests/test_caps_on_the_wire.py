"""A cap reaches every provider, through its own LangChain package, under the name that it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from langchain_tokenopt import BudgetPlan, optimize
from tests.support.model_server import ModelServer
from tests.support.providers import PROVIDERS, Answer

ON_THE_WIRE = {"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"}
ON_THE_WIRE |= {"num_predict", "maxTokens"}
LIMIT = 150


def caps_in(body: Any) -> Iterator[int]:
    """Every number under a name that providers read as a cap, wherever it stands."""
    if isinstance(body, Mapping):
        for name, value in body.items():
            if name in ON_THE_WIRE and value is not None:
                yield value
            else:
                yield from caps_in(value)


@pytest.mark.parametrize("mode", ["invoke", "stream", "ainvoke"])
@pytest.mark.parametrize("name", list(PROVIDERS))
def test_a_plan_bounds_every_providers_answer(
    model_server: ModelServer, name: str, mode: str
) -> None:
    """Whatever the provider calls it, what is sent has a cap, and what is said is charged."""
    provider = PROVIDERS[name]
    answer = Answer(usage=provider.usage(provider.known(answer_usage())))
    model_server.script(provider.stream(answer) if mode == "stream" else provider.whole(answer))
    plan = BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=LIMIT)
    model = optimize(provider.chat(model_server), plan)
    with plan.run() as run:
        if mode == "stream":
            list(model.stream("What does the river do?"))
        elif mode == "invoke":
            model.invoke("What does the river do?")
        else:
            asyncio.run(model.ainvoke("What does the river do?"))

    caps = list(caps_in(model_server.requests[-1].body))
    assert [LIMIT] == caps, model_server.requests[-1].body
    assert run.report().account.spent_tokens == 140


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ollama", {"options": {"num_predict": 4_000, "seed": 1}}),
        ("ollama", {"options": {"seed": 1}}),
        ("bedrock", {"max_tokens": 4_000}),
        ("openai", {"max_completion_tokens": 4_000}),
        ("openai", {"max_tokens": 40}),
        ("gemini", {"max_output_tokens": 4_000}),
    ],
)
def test_a_callers_own_cap_is_lowered_where_it_stands(
    model_server: ModelServer, name: str, given: dict[str, Any]
) -> None:
    """And a lower one is left as it is."""
    provider = PROVIDERS[name]
    model_server.script(provider.whole(Answer(usage=provider.usage(answer_usage()))))
    plan = BudgetPlan(total_tokens=10_000, max_output_tokens_per_call=LIMIT)
    with plan.run():
        optimize(provider.chat(model_server), plan).invoke("What does it do?", **given)

    expected = min([LIMIT, *caps_in({"max_tokens": given.get("max_tokens")})])
    assert [expected] == list(caps_in(model_server.requests[-1].body))


def answer_usage() -> Any:
    """The bill of each answer."""
    from langchain_tokenopt.core.usage import Usage

    return Usage(100, 40)
