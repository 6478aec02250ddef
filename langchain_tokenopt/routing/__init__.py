"""Ask, for each request, the cheapest model that is good enough."""

from __future__ import annotations

from langchain_tokenopt.routing.complexity import Complexity
from langchain_tokenopt.routing.route import Route
from langchain_tokenopt.routing.router import ModelRouter

__all__ = ["Complexity", "ModelRouter", "Route"]
