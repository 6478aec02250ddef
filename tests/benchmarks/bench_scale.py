"""Accounts that many processes share, in PostgreSQL and beside it in an SQLite file.

Run:     python -m tests.benchmarks.bench_scale [--reservations 1000000] [--sqlite 100000]
Course:  8 processes, each with a run of its own, pay from 3 users' and 2 organizations'
         months.
         About every two seconds one of them is killed (SIGKILL), wherever it stands, and another
         takes its place; what the provider billed is written before anybody else hears of it. In
         the end every lease is over; then accounts and bills are compared, at every level. There is
         less than is wanted at every level.
Times:   of reserving and of settling, wall time, among 8 processes and alone. The server has its
         usual settings (fsync on), and stands on the same machine: the network adds its own time,
         twice for each.
Function: what one round trip would cost, with all decisions in the server: a function that knows
         tokens and totals only. The accounts decide in Python, so there is one arithmetic for all
         stores.
Output:  results/scale.json
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import signal
import struct
import tempfile
import time
import traceback
import warnings
from array import array
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from langchain_tokenopt.budget import BudgetLimit, Hold, Owners, TokenBudget, reports_in
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.storage import postgres
from tests.benchmarks.results import write_result
from tests.support.postgres_server import PostgresServer

PROCESSES = 8
USERS = (Owners("ann", "acme"), Owners("bob", "acme"), Owners("carl", "umbrella"))
MOST = 400
"""Tokens that are sent, and that are answered, at most."""
MEAN = MOST / 2 + MOST / 2 * 0.75
"""What a call uses on average."""
LEASE_SECONDS = 5.0


def _budget(store: str, process: int, reservations: int) -> TokenBudget:
    whole = reservations * MEAN
    return TokenBudget(
        int(whole / PROCESSES * 0.97),
        path=store,
        run=str(process),
        lease_seconds=LEASE_SECONDS,
        within=[
            BudgetLimit(total_tokens=int(whole / 3 * 0.94), per="user", window="month"),
            BudgetLimit(total_tokens=int(whole / 2 * 0.92), per="organization", window="month"),
        ],
    )


def _work(store: str, process: int, reservations: int, folder: Path, done: mmap.mmap) -> None:
    """Call until the process's part is done; what is left when it is killed, another one does."""
    budget = _budget(store, process, reservations)
    chance = random.Random(f"{process}-{os.getpid()}")
    bill = os.open(folder / f"bill-{process}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    taken = os.open(folder / f"times-{process}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    times = array("f")
    place = 8 * process
    while (count := struct.unpack_from("q", done, place)[0]) < reservations // PROCESSES:
        struct.pack_into("q", done, place, count + 1)
        owners = chance.choice(USERS)
        sent, most = chance.randrange(1, MOST), chance.randrange(1, MOST)
        began = time.perf_counter()
        hold = budget.reserve("writer", sent, most, run_id=f"{os.getpid()}-{count}", owners=owners)
        times.append(time.perf_counter() - began)
        if not isinstance(hold, Hold):
            times.append(float("nan"))
            continue
        used = sent + int(most * chance.choice((1.0, 0.5)))
        keys = " ".join(f"{key.per}/{key.owner}/{key.starts}" for key in hold.accounts)
        os.write(bill, f"{used} {keys}\n".encode())
        began = time.perf_counter()
        budget.settle(hold, Usage(used, 0))
        times.append(time.perf_counter() - began)
        if len(times) >= 200:
            os.write(taken, times.tobytes())
            times = array("f")
    os.write(taken, times.tobytes())


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def course(store: str, reservations: int, folder: Path, *, kill_every: float) -> dict[str, Any]:
    """Let processes call, kill some, and compare what came of it with the bills."""
    folder.mkdir()
    done = mmap.mmap(-1, 8 * PROCESSES)
    for process in range(PROCESSES):
        _budget(store, process, reservations).close()

    def start(process: int) -> int:
        return _fork(lambda: _work(store, process, reservations, folder, done))

    began = time.perf_counter()
    running = {start(process): process for process in range(PROCESSES)}
    kills, failed, next_kill = 0, 0, began + kill_every
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            process, code = running.pop(child), os.waitstatus_to_exitcode(status)
            failed += code > 0
            if code == -signal.SIGKILL:
                running[start(process)] = process
        elif kill_every and time.perf_counter() > next_kill:
            os.kill(random.choice([*running]), signal.SIGKILL)
            kills += 1
            next_kill = time.perf_counter() + random.uniform(0.5, 1.5) * kill_every
        else:
            time.sleep(0.01)
    seconds = time.perf_counter() - began
    time.sleep(LEASE_SECONDS + 1 if kill_every else 0)
    found = _compared(store, reservations, folder)
    return {
        "reservations": reservations,
        "processes": PROCESSES,
        "killed": kills,
        "ended_with_an_error": failed,
        **found,
        "seconds": round(seconds, 1),
        "calls_per_second": round(found["granted"] / seconds, 1),
        **_times(folder),
    }


def _compared(store: str, reservations: int, folder: Path) -> dict[str, Any]:
    findings: list[str] = []
    for process in range(PROCESSES):
        budget = _budget(store, process, reservations)
        for owners in USERS:
            findings += budget.check(owners)
        budget.close()
    billed: Counter[str] = Counter()
    granted = 0
    for process in range(PROCESSES):
        for line in (folder / f"bill-{process}").read_text().splitlines():
            used, *keys = line.split()
            granted += 1
            billed.update(dict.fromkeys(keys, int(used)))
    reports = {
        f"{report.per}/{report.owner}/"
        f"{0 if report.starts_at is None else int(report.starts_at.timestamp())}": report
        for report in reports_in(store)
    }
    return {
        "granted": granted,
        "accounts": len(reports),
        "overshot": sum(billed[key] > report.total_tokens for key, report in reports.items()),
        "overshoot_tokens": sum(
            max(billed[key] - report.total_tokens, 0) for key, report in reports.items()
        ),
        "below_the_bill": sum(billed[key] > report.spent_tokens for key, report in reports.items()),
        "charged_for_killed_calls_tokens": sum(
            report.spent_tokens - billed[key]
            for key, report in reports.items()
            if report.per == "organization"
        ),
        "tokens_left_held": sum(report.held_tokens for report in reports.values()),
        "accounts_that_do_not_add_up": len(findings),
        "least_used_of_an_organization": round(
            min(r.used_ratio for r in reports.values() if r.per == "organization"), 4
        ),
    }


def _times(folder: Path) -> dict[str, Any]:
    reserving, settling = [], []
    for process in range(PROCESSES):
        times = array("f")
        content = (folder / f"times-{process}").read_bytes()
        times.frombytes(content[: len(content) // 8 * 8])
        for reserve, settle in zip(times[::2], times[1::2], strict=True):
            if settle == settle:  # granted
                reserving.append(reserve)
                settling.append(settle)
    return {"reserve": _spread(reserving), "settle": _spread(settling)}


def _spread(seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(1_000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)

    return {"n": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)}


def alone(store: str, count: int) -> dict[str, Any]:
    """Measure one process that has everything for itself."""
    budget = _budget(store, 99, 10**9)
    reserving, settling = [], []
    for number in range(count):
        began = time.perf_counter()
        hold = budget.reserve("writer", 300, 200, run_id=f"alone-{number}", owners=USERS[0])
        between = time.perf_counter()
        budget.settle(hold, Usage(400, 0))  # type: ignore[arg-type]
        reserving.append(between - began)
        settling.append(time.perf_counter() - between)
    budget.close()
    return {"reserve": _spread(reserving), "settle": _spread(settling)}


# What one round trip would cost

_FUNCTION = """
CREATE TABLE total (id bigint PRIMARY KEY, total bigint, spent bigint, held bigint);
CREATE TABLE hold (id text, account bigint, tokens bigint, PRIMARY KEY (id, account));
CREATE FUNCTION reserve(ids bigint[], hold_id text, wanted bigint) RETURNS boolean AS $$
DECLARE each record;
BEGIN
    FOR each IN SELECT * FROM total WHERE id = ANY(ids) ORDER BY id FOR NO KEY UPDATE LOOP
        IF each.spent + each.held + wanted > each.total THEN RETURN false; END IF;
    END LOOP;
    UPDATE total SET held = held + wanted WHERE id = ANY(ids);
    INSERT INTO hold SELECT hold_id, unnest(ids), wanted;
    RETURN true;
END $$ LANGUAGE plpgsql;
CREATE FUNCTION settle(ids bigint[], hold_id text, used bigint) RETURNS void AS $$
DECLARE freed bigint;
BEGIN
    PERFORM FROM total WHERE id = ANY(ids) ORDER BY id FOR NO KEY UPDATE;
    SELECT max(tokens) INTO freed FROM hold WHERE id = hold_id AND account = ANY(ids);
    DELETE FROM hold WHERE id = hold_id AND account = ANY(ids);
    UPDATE total SET held = held - freed, spent = spent + used WHERE id = ANY(ids);
END $$ LANGUAGE plpgsql;
INSERT INTO total SELECT n, 1000000000000, 0, 0 FROM generate_series(1, 20) AS n
"""


def one_function(server: PostgresServer, count: int) -> dict[str, Any]:
    """Measure reserving and settling in the server, for three accounts, alone and among eight."""
    url = server.new_database()
    with psycopg.connect(url) as connection:
        connection.execute(_FUNCTION)

    def work(process: int, file: Path) -> None:
        times = array("f")
        with psycopg.connect(url, autocommit=True) as connection:
            for number in range(count):
                ids, name = [1, 2 + number % 3, 5 + process], f"{process}-{number}"
                for call, tokens in (("reserve", 500), ("settle", 400)):
                    began = time.perf_counter()
                    connection.execute(f"SELECT {call}(%s::bigint[], %s, %s)", (ids, name, tokens))
                    times.append(time.perf_counter() - began)
        file.write_bytes(times.tobytes())

    found = {}
    with tempfile.TemporaryDirectory() as name:
        for title, processes in (("alone", 1), ("8 processes", PROCESSES)):
            files = [Path(name) / f"{processes}-{n}" for n in range(processes)]
            began = time.perf_counter()
            for child in [_fork(partial(work, n, file)) for n, file in enumerate(files)]:
                os.waitpid(child, 0)
            seconds = time.perf_counter() - began
            times = array("f")
            for file in files:
                times.frombytes(file.read_bytes())
            found[title] = {
                "calls_per_second": round(count * processes / seconds, 1),
                "reserve": _spread([*times[::2]]),
                "settle": _spread([*times[1::2]]),
            }
    return found


def main() -> None:
    """Measure everything and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reservations", type=int, default=1_000_000)
    parser.add_argument("--sqlite", type=int, default=100_000, metavar="RESERVATIONS")
    parser.add_argument("--function", type=int, default=1_000, metavar="CALLS")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, PostgresServer({}) as server:
        folder = Path(name)
        figures["server"] = server.execute("SELECT version()")[0][0].partition(" on ")[0]
        figures["postgresql, alone"] = alone(server.new_database(), 1_000)
        figures["sqlite, alone"] = alone(str(folder / "alone.db"), 1_000)
        figures["a function in the server, tokens only"] = one_function(server, asked.function)
        url = server.new_database()
        found = course(url, asked.reservations, folder / "postgresql", kill_every=2.0)
        found["deadlocks"] = server.execute("SELECT sum(deadlocks) FROM pg_stat_database")[0][0]
        found["deadlocks"] = int(found["deadlocks"])
        figures["postgresql, 8 processes"] = found
        figures["sqlite, 8 processes"] = course(
            str(folder / "course.db"), asked.sqlite, folder / "sqlite", kill_every=2.0
        )
        postgres.close_all()
    print(json.dumps(figures, indent=1))
    command = f"python -m tests.benchmarks.bench_scale --reservations {asked.reservations}"
    write_result("scale", f"{command} --sqlite {asked.sqlite}", figures, "psycopg")


if __name__ == "__main__":
    main()
