"""The columns in which databases keep accounts, made from the records themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from langchain_tokenopt.budget.records import AccountTotals, AgentAccount, Lease

__all__ = ["AGENT", "KEY", "LEASE", "PLACE", "TOTALS", "columns"]

KEY: Final = ["name", "per", "owner", "part", "window", "starts", "ends", "timezone"]
PLACE: Final = KEY[:6]
"""What tells an account from all others."""
TOTALS: Final = [field.name for field in fields(AccountTotals)]
AGENT: Final = [field.name for field in fields(AgentAccount)]
LEASE: Final = [field.name for field in fields(Lease)]
values_of_totals: Callable[[AccountTotals], tuple[Any, ...]] = attrgetter(*TOTALS)
values_of_agent: Callable[[AgentAccount], tuple[Any, ...]] = attrgetter(*AGENT)
values_of_lease: Callable[[Lease], tuple[Any, ...]] = attrgetter(*LEASE)


def columns(names: Iterable[str], of: str = "") -> str:
    """Return a list of columns for SQL.

    Example:
        >>> columns(["id", "window"])
        '"id", "window"'
    """
    return ", ".join(f'{of}"{name}"' for name in names)
