"""How a period went: key figures, what to do next, and both on a page."""

from __future__ import annotations

from langchain_tokenopt.report.facts import Facts
from langchain_tokenopt.report.kpis import KPIS, TARGETS, Kpi, Target, kpis, state_of
from langchain_tokenopt.report.recommendations import Recommendation, recommendations

__all__ = [
    "KPIS",
    "TARGETS",
    "Facts",
    "Kpi",
    "Recommendation",
    "Target",
    "kpis",
    "recommendations",
    "state_of",
]
