"""Tables of the ledger, and how a database moves to a newer schema.

Times are integers: microseconds since 1970 in UTC. Money is billionths of a US dollar. What repeats
is stored once: ``origins`` holds each combination of agent, node, tool, model... and ``names`` the
users, threads and runs, so that a call is a row of small integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    inspect,
    text,
)

from langchain_tokenopt.core.dimensions import DIMENSIONS, MANY_VALUED
from langchain_tokenopt.core.records import COUNTS
from langchain_tokenopt.core.usage import TOKEN_COUNTS
from langchain_tokenopt.ledger import partitions

__all__ = ["SCHEMA_VERSION"]

ORIGIN_FIELDS: Final = tuple(name for name in DIMENSIONS if name not in MANY_VALUED)
"""What a call has in common with many others; '' stands for none."""

metadata = MetaData()

_KEY = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is SQLite's own row number


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


ledger_schema = Table(
    "ledger_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", BigInteger, nullable=False),
    Column("package_version", Text, nullable=False),
)

names = Table(
    "names",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False, unique=True),
)

origins = Table(
    "origins",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    *(Column(name, Text, nullable=False) for name in ORIGIN_FIELDS),
)

calls = Table(
    "calls",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=True),
    Column("id", LargeBinary, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("first_chunk_us", BigInteger),
    *map(_count, TOKEN_COUNTS),
    Column("cost_nano_usd", BigInteger),
    Column("saved_nano_usd", BigInteger),
    Column("status", SmallInteger, nullable=False),
    Column("cached", SmallInteger, nullable=False),
    Column("estimated", SmallInteger, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("user", BigInteger),
    Column("thread", BigInteger, key="thread_id"),
    Column("run", BigInteger),  # 0: the call is a run of its own
    Column("flaws", Text),
    Column("unpriced", Text),
    Column("source", SmallInteger),  # of rows before version 4: as "estimated" says
    Column("tool_results", Text),
    Index("calls_id", "id", unique=True),
    Index("calls_started_at", "started_at"),
    Index("calls_run", "run"),
    Index("calls_user", "user", "started_at"),
)

savings = Table(
    "savings",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=True),
    Column("id", LargeBinary, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("stage", BigInteger, nullable=False),
    Column("output_side", SmallInteger, nullable=False),
    Column("observed", SmallInteger, nullable=False),
    Column("exact", SmallInteger, nullable=False),
    _count("tokens_before"),
    _count("tokens_after"),
    _count("spent_tokens"),
    Column("saved_nano_usd", BigInteger),
    Column("origin", BigInteger, nullable=False),
    Column("user", BigInteger),
    Column("thread", BigInteger, key="thread_id"),
    Column("run", BigInteger),
    Column("call", LargeBinary),
    Index("savings_id", "id", unique=True),
    Index("savings_started_at", "started_at"),
    Index("savings_call", "call"),
    Index("savings_user", "user", "started_at"),
)

budget_events = Table(
    "budget_events",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=True),
    Column("id", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("budget", Text, nullable=False),
    Column("agent", Text, nullable=False),
    _count("spent_tokens"),
    _count("held_tokens"),
    _count("limit_tokens"),
    Column("detail", Text, nullable=False),
    Column("run", Text),
    Column("run_id", LargeBinary),
    Column("thread", Text, key="thread_id"),
    Index("budget_events_id", "id", unique=True),
    Index("budget_events_at", "at"),
)

tool_choices = Table(
    "tool_choices",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=True),
    Column("id", LargeBinary, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("observed", SmallInteger, nullable=False),
    _count("left_out"),
    _count("tokens_before"),
    _count("tokens_after"),
    _count("searches"),
    Column("tools", Text, nullable=False),
    Column("origin", BigInteger, nullable=False),
    Column("user", BigInteger),
    Column("thread", BigInteger, key="thread_id"),
    Column("run", BigInteger),
    Column("call", LargeBinary),
    Index("tool_choices_id", "id", unique=True),
    Index("tool_choices_started_at", "started_at"),
)

kpi_snapshots = Table(
    "kpi_snapshots",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("span_hours", BigInteger, primary_key=True, autoincrement=False),
    Column("kpi", Text, primary_key=True),
    Column("value", Double),
    Column("numerator", Double),
    Column("denominator", Double),
    _count("n"),
    _count("n_excluded"),
)
"""Figures as they were: of the hours before one hour. None of users, agents or models."""

forgettings = Table(
    "forgettings",
    metadata,
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("calls_before", BigInteger),
)
"""When records were deleted: what others remember of names and origins is not true any more.

``calls_before``, where it stands: records that began earlier went, and their sums stayed.
"""

# Sums by the hour and by the day: what a question about a long period reads in place of rows.

SPEND_COUNTS: Final = (
    *COUNTS,
    "inexact_calls",
    "unpriced_tokens",
    "unpriced_savings",
    "measured_calls",
    "measured_tokens",
)
SAVING_COUNTS: Final = (
    "savings",
    "inexact",
    "unpriced",
    "tokens_before",
    "tokens_after",
    "spent_tokens",
    "saved_nano_usd",
    "shortened",
    "shortened_before",
    "shortened_after",
    "net_of_calls",
)


@dataclass(frozen=True)
class Rollup:
    """The same sums in two tables: of hours, and of days of UTC."""

    hours: Table
    days: Table
    keys: tuple[str, ...]
    counts: tuple[str, ...]

    @property
    def tables(self) -> tuple[Table, Table]:
        """Both."""
        return self.hours, self.days


def _rollup(name: str, keys: Mapping[str, Any], counts: Sequence[str]) -> Rollup:
    def table(period: str) -> Table:
        return Table(
            f"{name}_{period}s",
            metadata,
            Column(period, BigInteger, primary_key=True, autoincrement=False),
            *(
                Column(key, kind, primary_key=True, autoincrement=False)
                for key, kind in keys.items()
            ),
            *map(_count, counts),
            sqlite_with_rowid=False,
        )

    return Rollup(table("hour"), table("day"), tuple(keys), tuple(counts))


call_sums = _rollup("call", {"origin": BigInteger, "kind": SmallInteger}, SPEND_COUNTS)
"""By origin, and by the kind of the call: see ``rollups``."""
user_sums = _rollup("user", {"user": BigInteger, "kind": SmallInteger}, SPEND_COUNTS)
"""By user; 0 stands for none."""
saving_sums = _rollup(
    "saving",
    {
        "origin": BigInteger,
        "stage": BigInteger,
        "output_side": SmallInteger,
        "observed": SmallInteger,
    },
    SAVING_COUNTS,
)
latency_sums = _rollup(
    "latency",
    {"origin": BigInteger, "measure": SmallInteger, "bucket": SmallInteger},
    ("times",),
)
"""How many billed, successful calls took how long: see ``buckets``."""
result_sums = _rollup(
    "result",
    {"origin": BigInteger, "result_tool": Text},
    ("results", "tokens", "cost_nano_usd", "unpriced"),
)
"""What results of tools weighed in billed calls."""
run_sums = _rollup("run", {"bucket": SmallInteger}, ("runs", "cost_nano_usd"))
"""Runs, in the period in which they began, by what they cost; -1: some of it has no price."""

ROLLUPS: Final = (call_sums, user_sums, saving_sums, latency_sums, result_sums, run_sums)

runs = Table(
    "runs",
    metadata,
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("started_at", BigInteger, nullable=False),
    _count("cost_nano_usd"),
    _count("unpriced_calls"),
    Index("runs_started_at", "started_at"),
)
"""What every run with a name has cost so far, and when it began."""

DERIVED: Final = (*(table for rollup in ROLLUPS for table in rollup.tables), runs)
"""Tables that follow from the others."""


def _first_tables(connection: Connection) -> None:
    """Version 1: everything above."""
    metadata.create_all(connection)


def _organizations(connection: Connection) -> None:
    """Version 2: a call's organization. New ledgers have the column since version 1."""
    if "organization" not in {
        column["name"] for column in inspect(connection).get_columns("origins")
    }:
        connection.execute(
            text("ALTER TABLE origins ADD COLUMN organization TEXT NOT NULL DEFAULT ''")
        )


def _unpriced_parts(connection: Connection) -> None:
    """Version 3: images and video apart, and which part of a call has no known price."""
    present = {column["name"] for column in inspect(connection).get_columns("calls")}
    wanted = dict.fromkeys(TOKEN_COUNTS, "BIGINT NOT NULL DEFAULT 0") | {"unpriced": "TEXT"}
    for name, kind in wanted.items():
        if name not in present:
            connection.execute(text(f"ALTER TABLE calls ADD COLUMN {name} {kind}"))


def _sources(connection: Connection) -> None:
    """Version 4: how the usage of a call was found."""
    if "source" not in {column["name"] for column in inspect(connection).get_columns("calls")}:
        connection.execute(text("ALTER TABLE calls ADD COLUMN source SMALLINT"))


def _tool_results(connection: Connection) -> None:
    """Version 5: what results of tools weighed in a call."""
    if "tool_results" not in {
        column["name"] for column in inspect(connection).get_columns("calls")
    }:
        connection.execute(text("ALTER TABLE calls ADD COLUMN tool_results TEXT"))


def _tool_choices(connection: Connection) -> None:
    """Version 6: which tools calls were shown. New ledgers have the table since version 1."""
    tool_choices.create(connection, checkfirst=True)


def _tags_and_snapshots(connection: Connection) -> None:
    """Version 7: a tag of the application's own; figures as they were."""
    if "tag" not in {column["name"] for column in inspect(connection).get_columns("origins")}:
        connection.execute(text("ALTER TABLE origins ADD COLUMN tag TEXT NOT NULL DEFAULT ''"))
    kpi_snapshots.create(connection, checkfirst=True)


def _rollups(connection: Connection) -> None:
    """Version 8: more sums, also by the day. They are computed anew after the last step."""
    for table in DERIVED:
        table.drop(connection, checkfirst=True)
        table.create(connection)
    for index in (*savings.indexes, *calls.indexes):
        index.create(connection, checkfirst=True)


def _forgettings(connection: Connection) -> None:
    """Version 9: records can be deleted."""
    forgettings.create(connection, checkfirst=True)


def _months(connection: Connection) -> None:
    """Version 10: old records go, and their sums stay; in PostgreSQL each month is a partition."""
    columns = {column["name"] for column in inspect(connection).get_columns("forgettings")}
    if "calls_before" not in columns:
        connection.execute(text("ALTER TABLE forgettings ADD COLUMN calls_before BIGINT"))
    if connection.dialect.name == "postgresql":
        partitions.divide(connection)


MIGRATIONS: list[Callable[[Connection], None]] = [
    _first_tables,
    _organizations,
    _unpriced_parts,
    _sources,
    _tool_results,
    _tool_choices,
    _tags_and_snapshots,
    _rollups,
    _forgettings,
    _months,
]
"""Step *n* brings a database from version *n* to *n + 1*. Steps are only ever added."""

SCHEMA_VERSION = len(MIGRATIONS)
ROLLUPS_VERSION: Final = MIGRATIONS.index(_rollups) + 1
"""Older databases have other sums."""


def columns_of(table: Table) -> Sequence[Any]:
    """Return the columns that a writer fills in: all but the running number."""
    return [column for column in table.columns if column.name != "seq"]
