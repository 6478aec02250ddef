"""A ledger of a month with a million calls, quickly: some are recorded, the others are copies.

A copy has its own id, time and run; agents, users, costs and durations are those of the original.
Sums are computed by the ledger itself.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from langchain_tokenopt.ledger import Ledger
from tests.support import ledger_records

__all__ = ["write_month"]

RECORDED = 50_000


def write_month(path: Path, calls: int, until: datetime) -> None:
    """Write a ledger of *calls* calls in the 30 days before *until*."""
    recorded = min(calls, RECORDED)
    shift = until - timedelta(days=30) - ledger_records.START
    with Ledger(path) as ledger:
        for call in ledger_records.desk_calls(recorded, days=29.9):
            ledger.record(replace(call, started_at=call.started_at + shift))
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(1, calls // recorded):
            _copy(connection, recorded, number)
    with Ledger(path) as ledger:
        ledger.rebuild()


def _copy(connection: sqlite3.Connection, recorded: int, number: int) -> None:
    """Copy calls with runs of their own, and savings, which belong to no call then."""
    (last,) = connection.execute("SELECT max(id) FROM names").fetchone()
    runs = "SELECT DISTINCT run FROM calls WHERE seq <= ? AND run > 0"
    connection.execute(
        f"INSERT INTO names SELECT run + {last}, randomblob(16) FROM ({runs})", [recorded]
    )
    for table, changed in (("calls", {"run": f"run + {last}"}), ("savings", {"call": "NULL"})):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        values = {
            **{name: f'"{name}"' for name in columns},
            "seq": "NULL",
            "id": "randomblob(16)",
            "started_at": f"started_at + {number * 130_000_003}",
            **changed,
        }
        connection.execute(
            f"INSERT INTO {table} SELECT {', '.join(values.values())} FROM {table} WHERE seq <= ?",
            [recorded],
        )
