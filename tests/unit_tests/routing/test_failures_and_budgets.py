"""Where a tier has failed, or where any of the budgets around a call runs low."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware
from langchain_core.language_models import FakeListChatModel

from langchain_tokenopt import BudgetPlan, ModelRouter, ModelRoutingMiddleware, optimize

EASY = "What is the capital of France?"
HARD = "Compare 3 designs, prove which is right step by step, and derive the cost of each."


class Down(FakeListChatModel):
    asked: int = 0

    def _call(self, *args: Any, **kwargs: Any) -> str:
        self.asked += 1
        raise ConnectionError("down")


@pytest.mark.parametrize("order", [1, -1])
def test_a_tier_that_failed_is_not_asked_again_for_the_same(order: int) -> None:
    """Even where the fallback is the model that the router stands around."""
    models: dict[str, Any] = {
        "cheap": Down(responses=[""]),
        "strong": FakeListChatModel(responses=["Paris."]),
    }
    both = [ModelRoutingMiddleware(models), ModelFallbackMiddleware(models["strong"])]
    agent = create_agent(models["strong"], middleware=both[::order])
    assert "Paris." == agent.invoke({"messages": [("user", EASY)]})["messages"][-1].text
    assert models["cheap"].asked == 1


def test_where_all_have_failed_it_begins_anew() -> None:
    models: dict[str, Any] = {name: Down(responses=[""]) for name in ("cheap", "strong")}
    model = optimize(models["strong"], ModelRouter(models))
    for _ in range(4):
        with pytest.raises(ConnectionError):
            model.invoke(EASY)
    assert (3, 1) == (models["cheap"].asked, models["strong"].asked)


@pytest.mark.parametrize(
    "limit", [{"total_tokens": 1_500}, {"total_tokens": 10**7, "total_usd": 0.0062}]
)
def test_a_limit_around_the_run_that_runs_low_asks_cheaper_ones(
    limit: dict[str, Any], tmp_path: Path, model_server: Any
) -> None:
    """As a user's of a day, in tokens or in money."""
    models = {
        name: model_server.chat_openai(model=model)
        for name, model in (("cheap", "gpt-4.1-nano"), ("strong", "gpt-4.1"))
    }
    plan = BudgetPlan(total_tokens=10**7, within=[{**limit, "per": "user", "window": "day"}])
    model = optimize(models["strong"], ModelRouter(models), plan)
    with plan.run(user="ann", path=tmp_path / "spent.db"):
        answers = [model.invoke(f"{HARD} {n}") for n in range(24)]
    tiers = [answer.response_metadata.get("tokenopt_tier") for answer in answers]
    assert tiers[0] == "strong", tiers
    assert "cheap" in tiers
