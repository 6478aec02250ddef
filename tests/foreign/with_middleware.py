"""A pytest plugin that puts our middleware into every agent that a suite makes.

One of each kind, with limits too wide to matter, stands before the suite's own middleware or behind
it, as ``TOKENOPT_FOREIGN_PLACE`` says. It is loaded by name (``-p with_middleware``), as the folder
``tests`` of the suite hides ours.
"""

from __future__ import annotations

import json
import os
from functools import wraps
from pathlib import Path
from typing import Any

import langchain.agents
import pytest
from langchain.agents import factory
from langchain.agents.middleware import AgentMiddleware
from langchain_core.language_models import BaseChatModel

from langchain_tokenopt import (
    BudgetPlan,
    ContextMiddleware,
    ModelRoutingMiddleware,
    PromptCompressionMiddleware,
    SemanticCacheMiddleware,
    StageMiddleware,
    TokenBudgetMiddleware,
    ToolSelectionMiddleware,
    WordLimitMiddleware,
)
from langchain_tokenopt.stage import PassThrough

COUNTS = {"agents": 0, "seam_calls": 0}
"""Proof that the package was really on: agents with our middleware, and calls through it."""


class Counting(PassThrough):
    """Does nothing, and counts."""

    def open(self, request: Any) -> Any:
        COUNTS["seam_calls"] += 1
        return super().open(request)


def ours(model: Any) -> list[AgentMiddleware[Any, Any, Any]]:
    """Return one of each, with nothing to do: the router always chooses the agent's own model."""
    routing = []
    if isinstance(model, BaseChatModel):
        tiers = {"another": model.model_copy(), "own": model}
        routing = [ModelRoutingMiddleware(tiers, policy=1.0)]
    return [
        *routing,
        TokenBudgetMiddleware(BudgetPlan(total_tokens=10**12)),
        SemanticCacheMiddleware(semantic=False),
        ToolSelectionMiddleware(max_tools=1_000, embeddings=False),
        ContextMiddleware(max_tokens=10**9),
        PromptCompressionMiddleware(max_tokens=10**9),
        WordLimitMiddleware(10**6, ask=False),
        StageMiddleware(Counting()),
    ]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have agents made with our middleware before the suite makes its first."""
    del session
    making = factory.create_agent
    behind = os.environ["TOKENOPT_FOREIGN_PLACE"] == "behind"

    @wraps(making)
    def create_agent(model: Any, *args: Any, middleware: Any = (), **kwargs: Any) -> Any:
        COUNTS["agents"] += 1
        together = [*middleware, *ours(model)] if behind else [*ours(model), *middleware]
        return making(model, *args, middleware=together, **kwargs)

    factory.create_agent = langchain.agents.create_agent = create_agent


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the counts where the harness looks for them."""
    del session
    if path := os.environ.get("TOKENOPT_FOREIGN_COUNTS"):
        Path(path).write_text(json.dumps(COUNTS))
