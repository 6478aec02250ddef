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
from langchain_tokenopt.budget.run import AgentRun, BudgetRun, NoBudgetRunError, RunReport

__all__ = [
    "AgentBudget",
    "AgentReport",
    "AgentRun",
    "AllocationStrategy",
    "BudgetAlert",
    "BudgetPlan",
    "BudgetReport",
    "BudgetRun",
    "BudgetStoreError",
    "Claim",
    "Denial",
    "Equal",
    "Hold",
    "NoBudgetRunError",
    "Priority",
    "Proportional",
    "RunReport",
    "Settlement",
    "TokenBudget",
    "allocate",
    "reports_in",
]
