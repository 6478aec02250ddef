"""Token budgets: reserved before a call, settled after it, divided among agents, never exceeded."""

from langchain_tokenopt.budget.account import (
    AgentReport,
    BudgetReport,
    BudgetStoreError,
    Denial,
    Hold,
    Settlement,
    TokenBudget,
    reports_in,
)
from langchain_tokenopt.budget.alerts import BudgetAlert
from langchain_tokenopt.budget.allocation import (
    AllocationStrategy,
    Claim,
    Equal,
    Priority,
    Proportional,
    allocate,
)
from langchain_tokenopt.budget.plan import AgentBudget, BudgetPlan

__all__ = [
    "AgentBudget",
    "AgentReport",
    "AllocationStrategy",
    "BudgetAlert",
    "BudgetPlan",
    "BudgetReport",
    "BudgetStoreError",
    "Claim",
    "Denial",
    "Equal",
    "Hold",
    "Priority",
    "Proportional",
    "Settlement",
    "TokenBudget",
    "allocate",
    "reports_in",
]
