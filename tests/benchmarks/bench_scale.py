"""Accounts that many processes share, in PostgreSQL and beside it in an SQLite file.

Run:     python -m tests.benchmarks.bench_scale [--reservations 1000000] [--rounds 4]
                                                [--sqlite 100000] [--schedules 10000]
Course:  8 processes with 16 callers each, threads that have a run of their own and pay from the
         months of 12 users in 4 organizations. (With a file it is one caller for each process: more
         would only wait for its lock.)
         About every two seconds a process is killed (SIGKILL), wherever it stands, and another
         takes its place; what the provider billed is written before anybody else hears of it. In
         the end every lease is over; then accounts and bills are compared, at every level. There is
         less than is wanted at every level. Done in rounds, each with accounts of its own.
Schedules: the random courses of tests/support/budget_schedules.py, as bench_budget does with files.
Async:   1,000 calls of a budgeted model at once, and how late the event loop was for others.
Times:   of reserving and of settling, wall time, among 8 processes and alone. The server has its
         usual settings (fsync on), and stands on the same machine: the network adds its own time,
         twice for each.
Output:  results/scale.json
"""

from __future__ import annotations

import argparse
import asyncio
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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from langchain_tokenopt import BudgetPlan, optimize
from langchain_tokenopt.budget import BudgetLimit, Hold, Owners, TokenBudget, reports_in
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.storage import postgres
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.benchmarks.results import write_result
from tests.support import budget_workers
from tests.support.budget_schedules import draw_schedule
from tests.support.budget_workers import fork_processes, run_threads
from tests.support.postgres_server import PostgresServer

PROCESSES = 8
CALLERS = 16
"""Threads of a process that call at once."""
ORGANIZATIONS = 4
USERS = [Owners(f"user-{n}", f"organization-{n % ORGANIZATIONS}") for n in range(12)]
MOST = 400
"""Tokens that are sent, and that are answered, at most."""
MEAN = MOST / 2 + MOST / 2 * 0.75
"""What a call uses on average."""
LEASE_SECONDS = 5.0


class Course:
    """Processes that call, some of them killed, and what came of it compared with the bills."""

    def __init__(self, store: str, reservations: int, folder: Path, callers: int) -> None:
        self.store = store
        self.reservations = reservations
        self.callers = callers
        self.folder = folder
        folder.mkdir()
        self._done = mmap.mmap(-1, 8 * PROCESSES * callers)
        """How many calls each caller has begun; it outlives the processes."""

    def budget(self, caller: int) -> TokenBudget:
        """Open the account of a caller's run, and those around it."""
        whole = self.reservations * MEAN
        user, organization = int(whole / len(USERS) * 0.94), int(whole / ORGANIZATIONS * 0.92)
        return TokenBudget(
            max(int(whole / PROCESSES / self.callers * 0.97), 1),
            path=self.store,
            run=str(caller),
            lease_seconds=LEASE_SECONDS,
            within=[
                BudgetLimit(total_tokens=user, per="user", window="month"),
                BudgetLimit(total_tokens=organization, per="organization", window="month"),
            ],
        )

    def _work(self, process: int) -> None:
        """Let all callers call until their part is done; one that is killed is replaced."""
        numbers = range(process * self.callers, (process + 1) * self.callers)
        with ThreadPoolExecutor(self.callers) as threads:
            list(threads.map(self._call, numbers))

    def _call(self, caller: int) -> None:
        budget = self.budget(caller)
        chance = random.Random(f"{caller}-{os.getpid()}")
        bill = os.open(self.folder / f"bill-{caller}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        taken = os.open(self.folder / f"times-{caller}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        times, place = array("f"), 8 * caller
        most = self.reservations // PROCESSES // self.callers
        while (count := struct.unpack_from("q", self._done, place)[0]) < most:
            struct.pack_into("q", self._done, place, count + 1)
            self._reserve_and_settle(budget, chance, f"{os.getpid()}-{caller}-{count}", bill, times)
            if len(times) >= 20:
                os.write(taken, times.tobytes())
                times = array("f")
        os.write(taken, times.tobytes())

    def _reserve_and_settle(
        self, budget: TokenBudget, chance: random.Random, name: str, bill: int, times: array[float]
    ) -> None:
        owners = chance.choice(USERS)
        sent, most = chance.randrange(1, MOST), chance.randrange(1, MOST)
        began = time.perf_counter()
        hold = budget.reserve("writer", sent, most, run_id=name, owners=owners)
        reserved = time.perf_counter() - began
        settled = float("nan")
        if isinstance(hold, Hold):
            used = sent + int(most * chance.choice((1.0, 0.5)))
            keys = " ".join(f"{key.per}/{key.owner}/{key.starts}" for key in hold.accounts)
            os.write(bill, f"{used} {keys}\n".encode())
            began = time.perf_counter()
            budget.settle(hold, Usage(used, 0))
            settled = time.perf_counter() - began
        times.extend((reserved, settled))

    def run(self, *, kill_every: float) -> dict[str, Any]:
        """Let processes call and be killed; return what came of it."""
        for caller in range(PROCESSES * self.callers):
            self.budget(caller).close()
        began = time.perf_counter()
        running = {_fork(partial(self._work, n)): n for n in range(PROCESSES)}
        kills, failed, next_kill = 0, 0, began + kill_every
        while running:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child:
                process, code = running.pop(child), os.waitstatus_to_exitcode(status)
                failed += code > 0
                if code == -signal.SIGKILL:
                    running[_fork(partial(self._work, process))] = process
            elif kill_every and time.perf_counter() > next_kill:
                os.kill(random.choice([*running]), signal.SIGKILL)
                kills += 1
                next_kill = time.perf_counter() + random.uniform(0.5, 1.5) * kill_every
            else:
                time.sleep(0.01)
        seconds = time.perf_counter() - began
        time.sleep(LEASE_SECONDS + 1 if kill_every else 0)
        found = self._compared()
        return {
            "reservations": self.reservations,
            "processes": PROCESSES,
            "callers_of_each": self.callers,
            "killed": kills,
            "ended_with_an_error": failed,
            **found,
            "seconds": seconds,
        }

    def _compared(self) -> dict[str, Any]:
        findings: list[str] = []
        billed: Counter[str] = Counter()
        granted = 0
        for caller in range(PROCESSES * self.callers):
            budget = self.budget(caller)
            for owners in USERS if caller == 0 else USERS[:1]:
                findings += budget.check(owners)
            budget.close()
            for line in (self.folder / f"bill-{caller}").read_text().splitlines():
                used, *keys = line.split()
                granted += 1
                billed.update(dict.fromkeys(keys, int(used)))
        reports = {
            f"{report.per}/{report.owner}/"
            f"{0 if report.starts_at is None else int(report.starts_at.timestamp())}": report
            for report in reports_in(self.store)
        }
        return {
            "granted": granted,
            "accounts": len(reports),
            "overshot": sum(billed[key] > report.total_tokens for key, report in reports.items()),
            "overshoot_tokens": sum(
                max(billed[key] - report.total_tokens, 0) for key, report in reports.items()
            ),
            "below_the_bill": sum(
                billed[key] > report.spent_tokens for key, report in reports.items()
            ),
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

    def times(self) -> list[tuple[float, float]]:
        """Return how long reserving and settling took of each call that was granted."""
        times = array("f")
        for caller in range(PROCESSES * self.callers):
            times.frombytes((self.folder / f"times-{caller}").read_bytes())
        return [pair for pair in zip(times[::2], times[1::2], strict=True) if pair[1] == pair[1]]


def rounds(
    stores: Iterable[str], reservations: int, folder: Path, callers: int
) -> Iterator[dict[str, Any]]:
    """Let all of it be done on each store in turn; yield what has come of all so far."""
    total: dict[str, Any] = {}
    times: list[tuple[float, float]] = []
    for number, store in enumerate(stores):
        course = Course(store, reservations, folder / f"round-{number}", callers)
        found = course.run(kill_every=2.0)
        times += course.times()
        for name, value in found.items():
            kept = name in {"processes", "callers_of_each"}
            if name.startswith("least"):
                total[name] = min(total.get(name, 1.0), value)
            else:
                total[name] = value if kept else total.get(name, 0) + value
        yield total | {
            "rounds": number + 1,
            "seconds": round(total["seconds"], 1),
            "calls_per_second": round(total["granted"] / total["seconds"], 1),
            "asked_per_second": round(total["reservations"] / total["seconds"], 1),
            "reserve": _spread([reserving for reserving, _ in times]),
            "settle": _spread([settling for _, settling in times]),
        }


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


def _spread(seconds: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(1_000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)

    return {"n": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)}


def alone(store: str, count: int, folder: Path) -> dict[str, Any]:
    """Measure one process that has everything for itself."""
    budget = Course(store, 10**9, folder, 1).budget(0)
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


def schedules(store: str, count: int, folder: Path) -> dict[str, Any]:
    """Let as many random schedules as for files be done on a server, and compare with the bills.

    One in twenty by processes of which some are killed, the others by threads, 8 at a time.
    """
    folder.mkdir()
    few = count // 20
    courses = [fork_processes(draw_schedule(n, callers=4), folder, store) for n in range(few)]

    def by_threads(seed: int) -> budget_workers.Course:
        schedule = draw_schedule(seed, callers=4 + seed % 5, overcounts=seed % 2 == 1)
        make = partial(TokenBudget, path=store, run=str(seed))
        return run_threads(schedule, make, each_has_its_own=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(8) as threads:
        courses += threads.map(by_threads, range(few, count))
    used_up = [each.utilisation for each in courses if each.demand > 1.05 * each.total]
    return {
        "schedules": len(courses),
        "by_processes_with_kills": few,
        "schedules_per_second": round((count - few) / (time.perf_counter() - began), 1),
        "overshot": sum(each.overshoot > 0 for each in courses),
        "below_the_bill": sum(each.below_the_bill > each.surplus for each in courses),
        "left_held": sum(each.report.held_tokens > 0 for each in courses),
        "do_not_add_up": sum(bool(each.findings) for each in courses),
        "least_used_where_more_was_wanted": round(min(used_up), 4),
    }


def asynchronous(store: str, count: int, threads: int | None = None) -> dict[str, Any]:
    """Measure calls of a model that are all made at once in one event loop.

    Args:
        store: URL of the accounts; empty: in memory.
        count: How many calls.
        threads: Of the loop's executor; ``None``: Python's default.
    """
    plan = BudgetPlan(total_tokens=10**9, name="at once")
    model = optimize(ExtractiveChatModel(), plan)

    async def late(stalls: list[float]) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            stalls.append(time.perf_counter() - before - 0.001)

    async def all_at_once() -> dict[str, Any]:
        if threads is not None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
        stalls: list[float] = []
        watch = asyncio.create_task(late(stalls))
        await model.ainvoke("What is blue? The sky is blue.")
        stalls.clear()
        began = time.perf_counter()
        asked = (model.ainvoke(f"What is number {n}? It is {n}.") for n in range(count))
        answers = await asyncio.gather(*asked)
        seconds = time.perf_counter() - began
        watch.cancel()
        return {
            "calls": len(answers),
            "calls_per_second": round(count / seconds, 1),
            "event_loop_late": _spread(stalls),
        }

    with plan.run(**({"store": store} if store else {})) as run:
        found = asyncio.run(all_at_once())
        account = run.report().account
    return found | {
        "charged_calls": sum(a.calls for a in account.agents.values()),
        "left_held": account.held_tokens,
    }


def main() -> None:
    """Measure everything and write the result, as far as it has come."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reservations", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sqlite", type=int, default=100_000, metavar="RESERVATIONS")
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=CALLERS, help="threads of each process")
    parser.add_argument("--load", default="", help="what else the machine did")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    figures: dict[str, Any] = {"besides": asked.load}
    command = f"python -m tests.benchmarks.bench_scale --reservations {asked.reservations}"
    command += f" --rounds {asked.rounds} --sqlite {asked.sqlite} --schedules {asked.schedules}"
    with tempfile.TemporaryDirectory() as name, PostgresServer({}) as server:
        folder = Path(name)
        figures["server"] = server.execute("SELECT version()")[0][0].partition(" on ")[0]
        figures["postgresql, alone"] = alone(server.new_database(), 1_000, folder / "a")
        figures["sqlite, alone"] = alone(str(folder / "alone.db"), 1_000, folder / "b")
        for threads in (None, 32):
            title = f"postgresql, 1,000 async calls, {threads or 'usual'} threads"
            figures[title] = asynchronous(server.new_database(), 1_000, threads)
        figures["memory, 1,000 async calls"] = asynchronous("", 1_000)
        figures["postgresql, schedules"] = schedules(
            server.new_database(), asked.schedules, folder / "schedules"
        )
        figures["sqlite, 8 processes"] = next(
            rounds([str(folder / "course.db")], asked.sqlite, folder, callers=1)
        )
        folder /= "postgresql"
        folder.mkdir()
        databases = (server.new_database() for _ in range(asked.rounds))
        for found in rounds(databases, asked.reservations // asked.rounds, folder, asked.callers):
            deadlocks = server.execute("SELECT sum(deadlocks) FROM pg_stat_database")[0][0]
            figures["postgresql, 8 processes"] = found | {"deadlocks": int(deadlocks)}
            print(json.dumps(figures, indent=1), flush=True)
            write_result("scale", command, figures, "psycopg")
        postgres.close_all()


if __name__ == "__main__":
    main()
