"""Hard bounds: what an agent, a user, an organization or a run never exceeds, from its first call.

Answers are longer than any bound, by a real ``ChatOpenAI``; what the server bills is the oracle.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from langchain_tokenopt.budget import BudgetPlan
from langchain_tokenopt.chat_model.optimize import optimize
from tests.support.model_server import ModelServer, Reply

AMPLE = 10_000_000
POET = {"metadata": {"tokenopt_agent": "poet", "user_id": "kim", "org_id": "acme"}}


def _of_poet(tokens: int) -> dict[str, Any]:
    return {"total_tokens": AMPLE, "agents": {"poet": {"cap": tokens}}}


def _of_all(tokens: int) -> dict[str, Any]:
    return {"total_tokens": tokens}


def _of_user(tokens: int) -> dict[str, Any]:
    return {"total_tokens": AMPLE, "within": [{"total_tokens": tokens, "per": "user"}]}


def _of_organization(tokens: int) -> dict[str, Any]:
    return {"total_tokens": AMPLE, "within": [{"total_tokens": tokens, "per": "organization"}]}


def _invoked(model: Any) -> None:
    model.invoke("Write.", POET)


def _streamed(model: Any) -> None:
    list(model.stream("Write.", POET))


def _invoked_async(model: Any) -> None:
    asyncio.run(model.ainvoke("Write.", POET))


def _streamed_async(model: Any) -> None:
    async def read() -> None:
        async for _ in model.astream("Write.", POET):
            pass

    asyncio.run(read())


def _billed(server: ModelServer) -> int:
    return sum(usage.total_tokens for usage in server.billed)


def _caps(server: ModelServer) -> list[int | None]:
    return [request.body.get("max_completion_tokens") for request in server.requests]


@pytest.mark.parametrize(
    ("bound", "tokens", "call"),
    [
        (_of_poet, 700, _invoked),
        (_of_poet, 700, _streamed),
        (_of_poet, 700, _invoked_async),
        (_of_poet, 700, _streamed_async),
        (_of_poet, 6_000, _invoked),
        (_of_all, 4_500, _invoked),
        (_of_all, 4_500, _streamed),
        (_of_all, 19_000, _invoked_async),
        (_of_user, 700, _streamed_async),
        (_of_user, 9_000, _invoked),
        (_of_organization, 5_500, _invoked_async),
    ],
)
def test_no_first_call_exceeds_a_bound(
    model_server: ModelServer, tmp_path: Any, bound: Any, tokens: int, call: Any
) -> None:
    """Nothing is known of the agent yet, and the model obeys a cap: so it is sent one."""
    model_server.answer = lambda request: Reply(text="tide " * (tokens + 500))
    plan = BudgetPlan(**bound(tokens))
    with plan.run(user="kim", organization="acme", path=tmp_path / "budgets.db") as run:
        call(optimize(model_server.chat_openai(), plan))
    (cap,) = _caps(model_server)

    assert cap is not None
    assert tokens // 5 < _billed(model_server) <= tokens
    assert run.report().account.overshoot_tokens == 0


@pytest.mark.parametrize("bound", [_of_poet, _of_all, _of_user, _of_organization])
def test_a_bound_is_kept_to_the_last_call(
    model_server: ModelServer, tmp_path: Any, bound: Any
) -> None:
    """Call after call takes what it may, until one is answered in the model's place."""
    model_server.answer = lambda request: Reply(text="tide " * 9_000)
    plan = BudgetPlan(**bound(8_000))
    with plan.run(user="kim", organization="acme", path=tmp_path / "budgets.db") as run:
        for _ in range(8):
            _invoked(optimize(model_server.chat_openai(), plan))

    assert None not in _caps(model_server)
    assert 7_000 < _billed(model_server) <= 8_000
    assert run.report().account.overshoot_tokens == 0


@pytest.mark.parametrize("bound", [_of_poet, _of_all, _of_user, _of_organization])
def test_a_bound_that_no_answer_comes_near_to_adds_nothing(
    model_server: ModelServer, tmp_path: Any, bound: Any
) -> None:
    """The request is the caller's own."""
    plan = BudgetPlan(**bound(1_000_000))
    with plan.run(user="kim", organization="acme", path=tmp_path / "budgets.db"):
        _invoked(optimize(model_server.chat_openai(), plan))
    _invoked(model_server.chat_openai())
    budgeted, bare = (request.body for request in model_server.requests)

    assert bare == budgeted


@pytest.mark.parametrize(
    ("model", "most"), [("gpt-4o-mini", 16_384), ("gpt-4.1-mini", 32_768), ("of-nobody", 4_096)]
)
def test_no_cap_is_greater_than_its_model_takes(
    model_server: ModelServer, model: str, most: int
) -> None:
    """A provider refuses it: the model's profile says, and where it has none, what all take."""
    for tokens in (3_000, 6_000, 12_000, 24_000, 36_000, 48_000):
        plan = BudgetPlan(total_tokens=tokens)
        with plan.run():
            _invoked(optimize(model_server.chat_openai(model=model), plan))
    sent = [cap for cap in _caps(model_server) if cap is not None]

    assert len(sent) > 2
    assert max(sent) <= most


def test_answers_that_fit_are_whole(model_server: ModelServer) -> None:
    """A long answer for which there is room is not cut for the sake of a bound."""
    model_server.answer = lambda request: Reply(text="tide " * 6_000)
    plan = BudgetPlan(total_tokens=26_000)
    with plan.run():
        answer = optimize(model_server.chat_openai(), plan).invoke("Write.", POET)

    assert answer.text.count("tide") == 6_000


def test_an_agent_with_a_cap_of_zero_calls_no_model(model_server: ModelServer) -> None:
    """It is answered in the model's place, and others are not concerned."""
    plan = BudgetPlan(total_tokens=50_000, agents={"poet": {"cap": 0}})
    with plan.run() as run:
        model = optimize(model_server.chat_openai(), plan)
        answer = model.invoke("Write.", POET)
        refused = len(model_server.requests)
        model.invoke("Write.", {"metadata": {"tokenopt_agent": "typist"}})

    assert answer.text.startswith("[No answer: 'poet' needs ")
    assert refused == 0
    assert len(model_server.requests) == 1
    assert run.report().account.agents["poet"].spent_tokens == 0
