"""Accounts of every kind, and a clock that the test moves."""

from __future__ import annotations

import pytest

from langchain_tokenopt.budget import TokenBudget


class Clock:
    """Time that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def make_budget(request, tmp_path, clock):
    """Make budgets whose account is kept in memory, or in a file."""
    path = tmp_path / "budgets.db" if request.param == "sqlite" else None
    made = []

    def make(total_tokens=1_000, **settings):
        budget = TokenBudget(total_tokens, **({"path": path, "clock": clock} | settings))
        made.append(budget)
        return budget

    yield make
    for budget in made:
        budget.close()


class Heard:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.events = []

    def record(self, event):
        self.events.append(event)

    @property
    def kinds(self):
        return [event.kind for event in self.events]


@pytest.fixture
def heard():
    return Heard()
