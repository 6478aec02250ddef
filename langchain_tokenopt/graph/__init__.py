"""Budgets across the agents of a LangGraph graph."""

from langchain_tokenopt.graph.graph import (
    BudgetAllocationNode,
    BudgetState,
    budget_graph,
    budgeted,
    merge_budget,
)

__all__ = ["BudgetAllocationNode", "BudgetState", "budget_graph", "budgeted", "merge_budget"]
