"""Budgets across the agents of a LangGraph graph, and a cache of its nodes."""

from __future__ import annotations

from langchain_tokenopt.core.host_releases import check_host
from langchain_tokenopt.graph.allocation_node import BudgetAllocationNode
from langchain_tokenopt.graph.graph import budget_graph
from langchain_tokenopt.graph.node import budgeted
from langchain_tokenopt.graph.node_cache import NodeCache, node_cache
from langchain_tokenopt.graph.state import BudgetState, merge_budget
from langchain_tokenopt.graph.templated import templated

__all__ = [
    "BudgetAllocationNode",
    "BudgetState",
    "NodeCache",
    "budget_graph",
    "budgeted",
    "merge_budget",
    "node_cache",
    "templated",
]

check_host("langgraph")
