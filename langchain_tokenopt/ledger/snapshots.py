"""Figures as they were: kept by the hour, so that a trend outlives the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from langchain_tokenopt.ledger import rows
from langchain_tokenopt.ledger.rows import HOUR_US
from langchain_tokenopt.ledger.schema import kpi_snapshots

__all__ = ["KpiSnapshot", "keep", "kept"]


@dataclass(frozen=True, slots=True)
class KpiSnapshot:
    """One figure, of the hours before a moment."""

    at: datetime
    """Of one hour the latest is kept."""
    span_hours: int
    """How long the period was."""
    kpi: str
    value: float | None
    numerator: float
    denominator: float
    n: int
    n_excluded: int


def keep(connection: Connection, figures: Iterable[KpiSnapshot]) -> None:
    """Store figures in place of those of the same hour."""
    for figure in figures:
        values = asdict(figure)
        values["hour"] = rows.microseconds(values.pop("at")) // HOUR_US
        key = [kpi_snapshots.c[name] == values[name] for name in ("hour", "span_hours", "kpi")]
        connection.execute(kpi_snapshots.delete().where(*key))
        connection.execute(kpi_snapshots.insert().values(values))


def kept(connection: Connection, start: int, end: int) -> list[KpiSnapshot]:
    """Read the figures of a period of microseconds."""
    hour = kpi_snapshots.c.hour
    query = select(kpi_snapshots).where(
        hour * HOUR_US >= start - HOUR_US + 1, hour < end // HOUR_US + 1
    )
    found = []
    for row in connection.execute(query.order_by(hour, kpi_snapshots.c.kpi)).mappings():
        values = dict(row)
        values["at"] = rows.moment_of(values.pop("hour") * HOUR_US)
        found.append(KpiSnapshot(**values))
    return found
