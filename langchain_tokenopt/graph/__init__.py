"""Budgets across the agents of a LangGraph graph."""

from __future__ import annotations

from langchain_tokenopt.core.host_releases import check_host
from langchain_tokenopt.graph.allocation_node import BudgetAllocationNode
from langchain_tokenopt.graph.graph import budget_graph
from langchain_tokenopt.graph.node import budgeted
from langchain_tokenopt.graph.state import BudgetState, merge_budget

__all__ = ["BudgetAllocationNode", "BudgetState", "budget_graph", "budgeted", "merge_budget"]

check_host("langgraph")
