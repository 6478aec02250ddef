"""The whole path in one call: every part of the package around a model, an agent or a graph."""

from langchain_tokenopt.whole.optimize_agent import optimize_agent

__all__ = ["optimize_agent"]
