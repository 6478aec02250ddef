"""The ledger in PostgreSQL: eight processes that write, and questions to ten million calls.

Run:       python -m tests.benchmarks.scale_ledger [--calls 10000000] [--quick]
Writing:   8 processes record calls as fast as they can, into PostgreSQL and beside it into an
           SQLite file; the time from the first call to the end of the last ``flush()``. Sums
           included, every commit synchronous. Records are made beforehand.
Questions: a ledger of ten months, of which the first part is recorded and the rest are copies with
           ids, runs and times of their own; the sums are those of the copied part, shifted. With
           ``--quick`` the ledger proves that they are true (``check``). Every question is put by
           the command line, in a process of its own, whose memory is said, and again in Python.
Moving:    ``tokenopt migrate`` from a file into PostgreSQL and back, with comparison of all sums.
Output:    results/scale_ledger.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from langchain_tokenopt.ledger import Ledger, partitions
from langchain_tokenopt.ledger.schema import ROLLUPS
from tests.benchmarks.month_ledger import write_month
from tests.benchmarks.results import RESULTS, write_result
from tests.support.ledger_records import START, desk_calls
from tests.support.migrations import copy_ledger
from tests.support.postgres_server import PostgresServer

PROCESSES = 8
MONTHS = 10
RECORDED = 25_000
DAYS = 30
BEGIN = START - timedelta(days=MONTHS * DAYS)
HOUR_US = 3_600_000_000
SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
FILLING = SERVER | {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


# Writing


def writing(path: str, calls: int) -> dict[str, Any]:
    """Let processes write at the same time; return what came of it."""
    Ledger(path).close()
    command = [sys.executable, "-m", "tests.benchmarks.scale_ledger", "--write", path]
    command += ["--calls", str(calls)]
    running = [
        subprocess.Popen(
            [*command, "--seed", str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for seed in range(PROCESSES)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    began = time.perf_counter()
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    failed = sum(process.wait() != 0 for process in running)
    seconds = time.perf_counter() - began
    with Ledger(path, read_only=True) as ledger:
        stored, wrong = ledger.totals().calls, ledger.check()
    return {
        "processes": PROCESSES,
        "calls": stored,
        "lost": PROCESSES * calls - stored,
        "failed": failed,
        "wrong_sums": len(wrong),
        "seconds": round(seconds, 1),
        "rows_per_second": round(stored / seconds),
    }


def _write(path: str, calls: int, seed: int) -> None:
    records = list(desk_calls(calls, seed=seed, days=3))
    ledger = Ledger(path, max_wait_seconds=60)
    print("ready", flush=True)
    sys.stdin.readline()
    for record in records:
        ledger.record(record)
    ledger.flush()
    ledger.close()


# Ten months


def fill(url: str, calls: int) -> None:
    """Make a ledger of *calls* calls in ten months."""
    recorded = min(RECORDED, calls // MONTHS)
    copies = calls // MONTHS // recorded
    with Ledger(url) as ledger:
        writing = ledger._database.connect_to_write()
        with writing, ledger._database.writing(writing):
            first = partitions.month_of(int(BEGIN.timestamp() * 1e6))
            partitions.make(writing, range(first, first + MONTHS + 1), most_rows=None)
        for call in desk_calls(recorded, days=DAYS - 0.01):
            moved = replace(call, started_at=call.started_at + (BEGIN - START), savings=())
            savings = (replace(s, at=moved.started_at) for s in call.savings)
            ledger.record(replace(moved, savings=tuple(savings)))
    with psycopg.connect(url, autocommit=True) as connection:
        columns = {
            table: [
                name
                for (name,) in connection.execute(
                    "SELECT column_name FROM information_schema.columns "
                    "WHERE table_name = %s ORDER BY ordinal_position",
                    [table],
                )
            ]
            for table in ("calls", "savings")
        }
        connection.execute("CREATE TABLE base AS SELECT * FROM calls")
        connection.execute("CREATE TABLE base_savings AS SELECT * FROM savings")
        connection.execute("CREATE TABLE base_runs AS SELECT * FROM runs")
        ((last,),) = connection.execute("SELECT max(id) FROM names").fetchall()
        connection.execute("CREATE INDEX ON base (id)")
        for month in range(MONTHS):
            for copy in range(copies):
                if month or copy:
                    _copy(connection, columns, month, copy, last)
            print(f"{month + 1} of {MONTHS} months", file=sys.stderr, flush=True)
        _sums(connection, copies)
        connection.execute("DROP TABLE base, base_savings, base_runs")
        connection.execute("VACUUM (ANALYZE)")


def _copy(
    connection: psycopg.Connection[Any],
    columns: dict[str, list[str]],
    month: int,
    copy: int,
    last: int,
) -> None:
    shift, number = month * DAYS * 24 * HOUR_US, month * 1_000 + copy
    names = f"nullif(run, 0) + {number * (last + 1)}"
    connection.execute(
        f"INSERT INTO names SELECT run + {number * (last + 1)}, "
        f"int8send(run) || int8send({number}) FROM base_runs"
    )
    connection.execute(
        f"INSERT INTO runs SELECT run + {number * (last + 1)}, started_at + {shift}, "
        "cost_nano_usd, unpriced_calls FROM base_runs"
    )
    own = f"int8send(started_at + {shift}) || int8send(seq * 100000 + {number})"
    of_call = (
        f"(SELECT int8send(base.started_at + {shift}) || int8send(base.seq * 100000 + {number}) "
        "FROM base WHERE base.id = each.call)"
    )
    for table, changed in (
        ("calls", {"id": own, "run": f"coalesce({names}, 0)"}),
        ("savings", {"id": own, "call": of_call, "run": f"coalesce({names}, 0)"}),
    ):
        changed |= {"started_at": f"started_at + {shift}"}
        kept = [name for name in columns[table] if name != "seq"]
        values = [changed.get(name, f'"{name}"') for name in kept]
        listed = ", ".join(f'"{name}"' for name in kept)
        base = "base" if table == "calls" else "base_savings"
        connection.execute(
            f"INSERT INTO {table} ({listed}) SELECT {', '.join(values)} FROM {base} AS each"
        )


def _sums(connection: psycopg.Connection[Any], copies: int) -> None:
    """Of each month as many times the sums of what was recorded as there are copies of it."""
    for rollup in ROLLUPS:
        for table in rollup.tables:
            period, *rest = table.columns.keys()
            width = DAYS if period == "day" else DAYS * 24
            keys = [name for name in rest if name in rollup.keys]
            quoted = [f'"{name}"' for name in keys]
            counts = ", ".join(f"{name} * {copies}" for name in rollup.counts)
            listed = ", ".join([period, *quoted, *rollup.counts])
            connection.execute(f"CREATE TABLE base_sums AS SELECT * FROM {table.name}")
            connection.execute(f"DELETE FROM {table.name}")
            connection.execute(
                f"INSERT INTO {table.name} ({listed}) SELECT {period} + month * {width}, "
                f"{', '.join([*quoted, counts])} "
                f"FROM base_sums, generate_series(0, {MONTHS - 1}) AS month"
            )
            connection.execute("DROP TABLE base_sums")


# Questions

_COMMANDS: dict[str, list[str]] = {
    "daily": ["daily"],
    "top, by agent": ["top", "--by", "agent"],
    "top, by user": ["top", "--by", "user"],
    "daily, one user": ["daily", "--user", "user-3"],
    "daily, one month": ["daily", "--since", "2026-05-01", "--until", "2026-05-31"],
    "top, by user and agent, one day": [
        *("top", "--by", "user", "--by", "agent"),
        *("--since", "2026-05-05", "--until", "2026-05-05"),
    ],
}


def asking(url: str) -> dict[str, Any]:
    """Put questions by the command line, and in Python."""
    found: dict[str, Any] = {}
    for title, words in _COMMANDS.items():
        command = [sys.executable, "-m", "langchain_tokenopt", *words, "--json", "--ledger", url]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        found[f"tokenopt {title}"] = {
            "seconds": round(time.perf_counter() - began, 2),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "exit_code": os.waitstatus_to_exitcode(status),
        }
    since, until = BEGIN + timedelta(days=120), BEGIN + timedelta(days=150)
    asked: dict[str, Callable[[Ledger], Any]] = {
        "by day": lambda ledger: ledger.by("day"),
        "by agent": lambda ledger: ledger.by("agent"),
        "by user": lambda ledger: ledger.by("user"),
        "by day, one user": lambda ledger: ledger.by("day", user="user-3"),
        "totals of a month": lambda ledger: ledger.totals(since=since, until=until),
        "the last 20 runs": lambda ledger: ledger.runs(),
    }
    with Ledger(url, read_only=True) as ledger:
        for title, ask in asked.items():
            times = []
            for _ in range(3):
                began = time.perf_counter()
                ask(ledger)
                times.append(time.perf_counter() - began)
            found[f"Ledger: {title}"] = {"ms": round(1_000 * sorted(times)[1], 1)}
    return found


# All of it


PARTS = ("writing", "moving", "questions")


def run(
    *, calls: int, each: int, moved: int, quick: bool = False, parts: Sequence[str] = PARTS
) -> dict[str, Any]:
    """Measure everything; return figures.

    Args:
        calls: In the ledger that is asked.
        each: That every process writes.
        moved: In the ledger that is moved.
        quick: Prove the sums of the large ledger.
        parts: What is measured.
    """
    figures: dict[str, Any] = {}
    if parts != ["questions"]:
        with tempfile.TemporaryDirectory() as name, PostgresServer(SERVER) as server:
            if "writing" in parts:
                figures["writing, postgresql"] = writing(server.new_database(), each)
                figures["writing, sqlite"] = writing(f"{name}/usage.db", each)
            if "moving" in parts:
                figures["moving"] = _moving(server, Path(name), moved)
    if "questions" in parts:
        with PostgresServer(FILLING) as server:
            url = server.new_database()
            began = time.perf_counter()
            fill(url, calls)
            figures["large ledger"] = _described(url, time.perf_counter() - began)
            if quick:
                with Ledger(url, read_only=True) as ledger:
                    figures["large ledger"]["wrong_sums"] = len(ledger.check())
            figures["questions"] = asking(url)
    return figures


def _described(url: str, seconds: float) -> dict[str, Any]:
    with psycopg.connect(url) as connection:
        ((calls, parts, size, server),) = connection.execute(
            "SELECT (SELECT count(*) FROM calls), (SELECT count(*) FROM pg_inherits "
            "WHERE inhparent = 'calls'::regclass), pg_database_size(current_database()), version()"
        ).fetchall()
    return {
        "server": server.partition(" on ")[0],
        "calls": calls,
        "partitions": parts,
        "gigabytes": round(size / 1e9, 2),
        "filled_in_seconds": round(seconds),
    }


def _moving(server: PostgresServer, folder: Path, calls: int) -> dict[str, Any]:
    write_month(folder / "month.db", calls, START)
    url, found = server.new_database(), {}
    for title, source, target in (
        ("file to postgresql", str(folder / "month.db"), url),
        ("again, nothing to do", str(folder / "month.db"), url),
        ("postgresql to file", url, str(folder / "back.db")),
    ):
        began = time.perf_counter()
        moved = copy_ledger(source, target)["calls"]
        seconds = time.perf_counter() - began
        found[title] = {
            "calls": moved,
            "seconds": round(seconds, 1),
            "calls_per_second": round(moved / seconds),
        }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--each", type=int, default=20_000, help="calls that each process writes")
    parser.add_argument("--moved", type=int, default=1_000_000, help="calls that are moved")
    parser.add_argument("--quick", action="store_true", help="some thousand calls, no result file")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured anew")
    parser.add_argument("--write", metavar="LEDGER", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore", DeprecationWarning)
    if asked.write:
        _write(asked.write, asked.calls, asked.seed)
        return
    if asked.quick:
        print(json.dumps(run(calls=20_000, each=300, moved=2_000, quick=True), indent=1))
        return
    parts = asked.parts.split(",")
    known = RESULTS / "scale_ledger.json"
    before = json.loads(known.read_text())["figures"] if known.exists() else {}
    figures = before | run(calls=asked.calls, each=asked.each, moved=asked.moved, parts=parts)
    print(json.dumps(figures, indent=1))
    command = "python -m tests.benchmarks.scale_ledger"
    sizes = f"--calls {asked.calls} --each {asked.each} --moved {asked.moved}"
    write_result("scale_ledger", f"{command} {sizes}", figures, "psycopg")


if __name__ == "__main__":
    main()
