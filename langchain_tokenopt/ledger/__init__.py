"""The durable record of every call: a file that survives the process and can be asked about."""

from __future__ import annotations

from langchain_tokenopt.ledger.database import LedgerError
from langchain_tokenopt.ledger.ledger import Ledger
from langchain_tokenopt.ledger.period_figures import PeriodFigures
from langchain_tokenopt.ledger.queries import Effect, RunTotals
from langchain_tokenopt.ledger.snapshots import KpiSnapshot
from langchain_tokenopt.ledger.tool_questions import ToolFigures

__all__ = [
    "Effect",
    "KpiSnapshot",
    "Ledger",
    "LedgerError",
    "PeriodFigures",
    "RunTotals",
    "ToolFigures",
]
