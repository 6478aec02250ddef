"""A pytest plugin that switches the package on for a suite that knows nothing of it.

``track_usage`` stands around every test, every chat model that a test makes goes through
``optimize`` with a stage that does nothing, and every ``StateGraph`` that is compiled goes through
``budget_graph`` under a plan too large to matter. It is loaded by name (``-p with_tokenopt``), as
the folder ``tests`` of the suite hides ours.

Models are staged where they are made: the call of the class returns the optimized copy, as if the
test had written ``optimize(Model(...), PassThrough())``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langgraph.graph import StateGraph

from langchain_tokenopt import BudgetPlan, budget_graph, optimize, track_usage
from langchain_tokenopt.stage import PassThrough

PLAN = BudgetPlan(total_tokens=10**12)

COUNTS = {"models": 0, "seam_calls": 0, "graphs": 0, "tracked_calls": 0, "tests_with_calls": 0}
"""Proof that the package was really on: what was staged, and what went through it."""


class Counting(PassThrough):
    """Does nothing, and counts."""

    def open(self, request: Any) -> Any:
        COUNTS["seam_calls"] += 1
        return super().open(request)


STAGE = Counting()


def _stage_every_model() -> None:
    metaclass: Any = type(BaseChatModel)
    making = metaclass.__call__
    staged_classes: set[type] = set()  # a test may make another of the class that it was given

    def make(cls: Any, *args: Any, **kwargs: Any) -> Any:
        made = making(cls, *args, **kwargs)
        if not issubclass(cls, BaseChatModel) or cls in staged_classes:
            return made
        COUNTS["models"] += 1
        staged = optimize(made, STAGE)
        staged_classes.add(type(staged))
        return staged

    metaclass.__call__ = make


def _budget_every_graph() -> None:
    compiling = StateGraph.compile
    inside = threading.local()

    def compile(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(inside, "budget_graph", False):  # which compiles its copy
            return compiling(self, *args, **kwargs)
        compiled = compiling(self, *args, **kwargs)
        inside.budget_graph = True
        try:
            budgeted = budget_graph(compiled, PLAN)
        finally:
            inside.budget_graph = False
        COUNTS["graphs"] += 1
        return budgeted

    compile.__wrapped__ = compiling  # type: ignore[attr-defined]
    StateGraph.compile = compile  # type: ignore[method-assign]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Switch the package on before the suite makes its first model."""
    del session
    _stage_every_model()
    _budget_every_graph()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Track the test, fixtures included, under a run of its own."""
    del item
    with PLAN.run(), track_usage() as usage:
        yield
    calls = usage.totals().calls
    COUNTS["tracked_calls"] += calls
    COUNTS["tests_with_calls"] += bool(calls)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the counts where the harness looks for them."""
    del session
    if path := os.environ.get("TOKENOPT_FOREIGN_COUNTS"):
        Path(path).write_text(json.dumps(COUNTS))
