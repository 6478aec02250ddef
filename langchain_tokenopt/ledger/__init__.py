"""The durable record of every call: a file that survives the process and can be asked about."""

from __future__ import annotations

from langchain_tokenopt.ledger.database import LedgerError
from langchain_tokenopt.ledger.figures import BudgetState, Effect, PeriodFigures
from langchain_tokenopt.ledger.ledger import Ledger
from langchain_tokenopt.ledger.period import Period
from langchain_tokenopt.ledger.reading import RunTotals
from langchain_tokenopt.ledger.snapshots import KpiSnapshot
from langchain_tokenopt.ledger.tool_questions import ToolFigures

__all__ = [
    "BudgetState",
    "Effect",
    "KpiSnapshot",
    "Ledger",
    "LedgerError",
    "Period",
    "PeriodFigures",
    "RunTotals",
    "ToolFigures",
]
