"""Plans are written into files as they are read, and their settings are typed and explained."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from langchain_tokenopt.budget import AgentBudget, BudgetLimit, BudgetPlan
from langchain_tokenopt.budget.allocation import Equal
from langchain_tokenopt.budget.levels import LimitValues
from langchain_tokenopt.budget.plan_settings import AgentValues

NAMES = some.text(some.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
TOKENS = some.integers(0, 1_000)
AGENTS = some.fixed_dictionaries(
    {},
    optional={
        "tokens": some.integers(1_000, 9_000) | some.none(),
        "words": some.integers(1, 10**9),
        "floor": TOKENS,
        "cap": some.integers(9_000, 10**9) | some.none(),
        "priority": some.floats(1e-300, 1e300),
    },
)
LIMITS = some.fixed_dictionaries(
    {"total_usd": some.floats(1e-9, 1e9)},
    optional={
        "total_tokens": some.integers(10**6, 2**62) | some.none(),
        "per": some.sampled_from(["thread", "user", "organization"]),
        "window": some.sampled_from(["hour", "day", "week", "month"]),
        "timezone": some.sampled_from(["UTC", "Asia/Tokyo"]),
        "name": NAMES,
    },
)
PLANS = some.fixed_dictionaries(
    {"total_tokens": some.integers(10**6, 2**62)},
    optional={
        "agents": some.dictionaries(NAMES, AGENTS, max_size=4),
        "within": some.lists(LIMITS, max_size=1),
        "name": NAMES,
        "buffer": TOKENS,
        "soft_limit": some.floats(0.01, 1.0),
        "strategy": some.sampled_from(["equal", "priority", "proportional"]),
        "show_remaining": some.booleans(),
        "cheaper_model": NAMES | some.none(),
        "max_input_tokens_per_call": some.integers(1, 10**9) | some.none(),
        "per": some.sampled_from(["run", "user"]),
        "window": some.sampled_from(["run", "month"]),
    },
).filter(
    lambda plan: all(limit.get("per") != plan.get("per") for limit in plan.get("within", ()))
)  # else both may be one account, which is refused


@pytest.mark.parametrize("ending", ["toml", "json"])
@given(values=PLANS)
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_saved_plan_is_read_back_the_same(ending, values, tmp_path):
    """Whatever its agents are called."""
    path = tmp_path / f"plan.{ending}"
    plan = BudgetPlan(**values)

    plan.to_file(path)

    again = BudgetPlan.from_file(path)
    assert plan == again
    assert plan.fingerprint == again.fingerprint


def test_what_cannot_be_saved_is_a_sentence(tmp_path):
    """A strategy of one's own, a name that is no text, a file of another kind."""
    with pytest.raises(ValueError, match="a file names strategies"):
        BudgetPlan(total_tokens=9, strategy=Equal()).to_file(tmp_path / "plan.json")
    with pytest.raises(ValueError, match="no UTF-8"):
        BudgetPlan(total_tokens=9, name="\udcff").to_toml()
    with pytest.raises(ValueError, match=r"a \.toml or a \.json"):
        BudgetPlan(total_tokens=9).to_file(tmp_path / "plan.yaml")
    with pytest.raises(ValueError, match="not a folder"):
        BudgetPlan.from_file(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_type_checkers_see_the_fields_that_there_are():
    """The signature that they read is written by hand, because fields take more than their type."""
    tree = ast.parse(Path(inspect.getfile(BudgetPlan)).read_text(encoding="utf-8"))
    (written,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    assert {argument.arg for argument in written.args.kwonlyargs} == BudgetPlan.model_fields.keys()
    assert get_type_hints(AgentValues).keys() == AgentBudget.model_fields.keys()
    assert get_type_hints(LimitValues).keys() == BudgetLimit.model_fields.keys()


@pytest.mark.parametrize("model", [BudgetPlan, AgentBudget, BudgetLimit])
def test_help_names_every_field(model):
    """``help(BudgetPlan)`` says what can be set."""
    words = inspect.getdoc(BudgetPlan) if model is AgentBudget else inspect.getdoc(model)
    for name in model.model_fields:
        assert f"``{name}``" in words or f"\n    {name}: " in words
