"""Token budgets: reserved before a call, settled after it, divided among agents, never exceeded."""

from langchain_tokenopt.budget.account import TokenBudget
from langchain_tokenopt.budget.account_reports import AgentReport, BudgetReport, reports_in
from langchain_tokenopt.budget.alerts import BudgetAlert
from langchain_tokenopt.budget.allocation import (
    AllocationStrategy,
    Claim,
    Equal,
    Priority,
    Proportional,
    allocate,
)
from langchain_tokenopt.budget.auto_strategy import Auto
from langchain_tokenopt.budget.forecast_need import ForecastNeed
from langchain_tokenopt.budget.holds import Denial, Hold, Settlement
from langchain_tokenopt.budget.levels import BudgetLimit, Owners
from langchain_tokenopt.budget.performance import Performance
from langchain_tokenopt.budget.plan import AgentBudget, BudgetPlan
from langchain_tokenopt.budget.records import BudgetStoreError
from langchain_tokenopt.budget.run import BudgetRun, NoBudgetRunError
from langchain_tokenopt.budget.run_report import AgentRunReport, BudgetRunReport

__all__ = [
    "AgentBudget",
    "AgentReport",
    "AgentRunReport",
    "AllocationStrategy",
    "Auto",
    "BudgetAlert",
    "BudgetLimit",
    "BudgetPlan",
    "BudgetReport",
    "BudgetRun",
    "BudgetRunReport",
    "BudgetStoreError",
    "Claim",
    "Denial",
    "Equal",
    "ForecastNeed",
    "Hold",
    "NoBudgetRunError",
    "Owners",
    "Performance",
    "Priority",
    "Proportional",
    "Settlement",
    "TokenBudget",
    "allocate",
    "reports_in",
]
