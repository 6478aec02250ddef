"""A month of 50 workers on its own clock: accounts, cache and ledger agree to the token.

Workers are threads, spread over a few processes; all use one PostgreSQL database. Each runs tasks:
some calls of some agents for some user, through ``optimize(model, plan, cache)`` and a ledger, in
all the ways there are (plain, async, streamed, cut off, retried, failed, answered before).
Processes are killed, and the server crashes in the middle. The clock stands where it is told to: at
two moments of each day, so that windows begin and end and leases run out. A day ends when its tasks
have.

The model writes down what it bills before it answers, as a provider does; that is the oracle. What
must agree in the end:

- **Ledger and oracle**: each call that ended has the tokens that were billed for it, and no other
  call has any; only what a killed process had not told yet may be missing.
- **Accounts and oracle**: the account of each task has been charged what its calls were billed; for
  a stream that was cut off, of which nobody reports the cost, no less than it was billed and the
  ledger counted, and no more than was reserved; for a call whose worker was killed, or that ended
  while the server was away, what it was billed or the whole reservation.
- **Accounts among themselves**: the day of a user, the month of an organization and that of all
  have what the tasks in them have, and no account was billed more than its total.
- **Cache and ledger**: as many hits and saved tokens, in every process that was not killed; each
  answer is the right one, and the user's own.

Command: ``python -m tests.benchmarks.scale_month [--quick]``
Output:  results/scale_month.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_tokenopt import Ledger
from langchain_tokenopt.budget import BudgetReport, reports_in
from langchain_tokenopt.core.records import CallRecord
from langchain_tokenopt.storage import postgres
from tests.benchmarks.results import write_result
from tests.support.month_workers import (
    CUT_WORDS,
    HOURS,
    STARTS,
    Clock,
    Journal,
    Process,
    Size,
    Task,
    fork,
)
from tests.support.postgres_server import PostgresServer

MOST_HELD = 1_200
"""What a user may spend in a day, and so the most that one call holds."""
QUICK = Size(days=3, processes=2, workers=8, kill_every=3, restarts=1, busy=1.0)


def _reap(running: dict[int, Process], options: int = 0) -> None:
    child, status = os.waitpid(-1, options) if running else (0, 0)
    if status:
        raise RuntimeError(f"process {child} ended with {status}")
    running.pop(child, None)


# What came of it


@dataclass
class Ended:
    """One call, as the reservation and the model know it."""

    held: int | None = 0
    """``None``: nobody knows whether, and for how much, a killed process has reserved."""
    run_id: str | None = None
    bill: tuple[int, int] | None = None
    is_cut: bool = False
    """Whether its stream was cut off, so that nobody reports what it has cost."""


@dataclass
class Findings:
    """What was written down by all, and where it disagrees."""

    lines: list[list[str]]
    accounts: dict[tuple[str, str, float], BudgetReport]
    rows: dict[str, CallRecord]
    disagreements: list[str] = field(default_factory=list)

    @cached_property
    def tasks(self) -> dict[str, list[Ended]]:
        """The calls of each task, one after the other; what was refused at once is none."""
        found: dict[str, list[Ended]] = {}
        for kind, task, *rest in self.lines:
            calls = found.setdefault(task, []) if kind == "begin" else found.get(task, [])
            if kind == "asks":
                calls.append(Ended(None))
            elif kind == "hold":
                calls[-1].held = int(rest[0])
                if calls[-1].held == 0:
                    calls.pop()
            elif kind == "bill":
                calls[-1].run_id, calls[-1].bill = rest[0], (int(rest[1]), int(rest[2]))
                calls[-1].is_cut = int(rest[2]) == CUT_WORDS
        return found

    @cached_property
    def bills(self) -> dict[str, tuple[int, int]]:
        """What was billed, by the id of the call."""
        calls = (call for calls in self.tasks.values() for call in calls)
        return {call.run_id: call.bill for call in calls if call.run_id and call.bill}

    @cached_property
    def process_of(self) -> dict[str, str]:
        """In which process each task was begun."""
        return {task: rest[0] for kind, task, *rest in self.lines if kind == "begin"}

    @cached_property
    def killed(self) -> set[str]:
        """Processes that were."""
        return {who for kind, who, *_ in self.lines if kind == "killed"}

    @cached_property
    def disturbed(self) -> set[str]:
        """Tasks that were killed, or under way while the server was away."""
        running: set[str] = set()
        found: set[str] = set()
        away = False
        for kind, task, *_ in self.lines:
            if kind == "begin":
                running.add(task)
            if kind == "server":
                away = task == "away"
            if away or kind == "server":
                found |= running
            if kind == "end":
                running.discard(task)
        return found | running

    def compare(self) -> None:
        """Compare everything with everything."""
        self._compare_ledger()
        self._compare_accounts()
        self._compare_cache()
        for kind, task, *rest in self.lines:
            if kind in ("wrong", "failed"):
                self._note(f"task {task}: {kind} {' '.join(rest)}")

    def _note(self, sentence: str) -> None:
        self.disagreements.append(sentence)

    def _compare_ledger(self) -> None:
        for run_id, row in self.rows.items():
            bill = self.bills.get(run_id)
            told = row.usage.input_tokens, row.usage.output_tokens
            if row.cached:
                if bill:
                    self._note(f"{run_id} came from the cache, and was billed {bill}")
            elif row.status == "ok":
                if told != bill:
                    self._note(f"{run_id} was billed {bill}; the ledger has {told}")
            elif row.status == "abandoned":
                if bill is None or not all(told):
                    self._note(f"{run_id} was cut off after {bill}; the ledger has {told}")
            elif bill or sum(told):
                self._note(f"{run_id} {row.status}: billed {bill}; the ledger has {told}")
        for task in self.missing:
            if self.process_of[task] not in self.killed:
                self._note(f"a call of task {task} was billed, and is not in the ledger")

    @cached_property
    def missing(self) -> list[str]:
        """The tasks of calls that were billed and are not in the ledger."""
        calls = ((task, call) for task, calls in self.tasks.items() for call in calls)
        return [task for task, call in calls if call.bill and call.run_id not in self.rows]

    def _charges(self, task: str, call: Ended) -> Collection[int]:
        """Return what an account may have been charged for a call."""
        if call.held is None:
            return range(MOST_HELD + 1) if self.process_of[task] in self.killed else {0}
        row = self.rows.get(call.run_id or "")
        charge = sum(call.bill or ())
        if row is not None and row.status == "abandoned":
            charge = max(charge, row.usage.total_tokens)
        if call.is_cut or (row is not None and row.status == "abandoned"):
            return range(charge, max(charge, call.held) + 1)
        return {charge, call.held} if task in self.disturbed else {charge}

    def _compare_accounts(self) -> None:
        sums: Counter[tuple[str, str, float]] = Counter()
        billed: Counter[tuple[str, str, float]] = Counter()
        for name, calls in self.tasks.items():
            charged = _charged(self.accounts.get(("run", name, 0.0)))
            possible = [self._charges(name, call) for call in calls]
            if not _is_sum(charged, possible):
                told = [self.rows.get(call.run_id or "") for call in calls]
                self._note(
                    f"task {name} was charged {charged}, and its calls cost {possible}: {calls}, "
                    f"in the ledger {[row and (row.status, row.usage) for row in told]}"
                )
            for key in _accounts_of(name):
                sums[key] += charged
                billed[key] += sum(sum(call.bill or ()) for call in calls)
        for key, account in self.accounts.items():
            if key[0] != "run" and _charged(account) != sums[key]:
                self._note(f"{key} has {_charged(account)}, and its tasks {sums[key]}")
            if billed[key] > account.total_tokens:
                self._note(f"{key} was billed {billed[key]} of {account.total_tokens}")

    def _compare_cache(self) -> None:
        hits: Counter[str] = Counter()
        saved: Counter[str] = Counter()
        for row in self.rows.values():
            if row.cached:
                process = self.process_of[row.attribution.thread_id or ""]
                hits[process] += 1
                saved[process] += row.usage.total_tokens
        for kind, process, *numbers in self.lines:
            told = [str(hits[process]), str(saved[process])]
            if kind == "cache" and told != numbers:
                self._note(f"process {process}: its cache says {numbers}, the ledger {told}")


def _is_sum(total: int, possible: Sequence[Collection[int]]) -> bool:
    """Say whether one of each makes up the total."""
    sums = {0}
    for each in possible:
        sums = {before + one for before in sums for one in each}
    return total in sums


def _charged(report: BudgetReport | None) -> int:
    return 0 if report is None else report.spent_tokens + report.held_tokens


def _key(report: BudgetReport) -> tuple[str, str, float]:
    starts = report.starts_at
    return report.per, report.owner, 0.0 if starts is None else starts.timestamp()


def _accounts_of(task_name: str) -> Iterator[tuple[str, str, float]]:
    """Yield the accounts that a task is paid from."""
    worker, moment = map(int, task_name.split("-"))
    task, day = Task.of(worker, moment), STARTS + timedelta(days=moment // len(HOURS))
    yield "run", task_name, 0.0
    yield "user", task.user, day.timestamp()
    yield "organization", task.organization, STARTS.timestamp()
    yield "plan", "", STARTS.timestamp()


def run(size: Size = QUICK) -> dict[str, Any]:
    """Simulate a month; return the figures, with every disagreement in words."""
    began, chance = time.perf_counter(), random.Random(0)
    moments = size.days * len(HOURS)
    restarts = {(n + 1) * moments // (size.restarts + 1) for n in range(size.restarts)}
    accounts: dict[tuple[str, str, float], BudgetReport] = {}
    with tempfile.TemporaryDirectory() as name, PostgresServer() as server:
        url, path = server.new_database(), Path(name) / "journal"
        journal, clock = Journal(path), Clock(size.workers)
        made = [Process(n, url, journal, clock, size) for n in range(size.processes)]
        running = {fork(process): process for process in made}
        for moment in range(moments):
            clock.set(moment)
            if moment in restarts:
                time.sleep(chance.uniform(0.02, 0.3))
                journal.write("server", "away")
                server.stop(crash=True)
                server.start()
                journal.write("server", "back")
                time.sleep(1.5)  # so long nobody asks a server again that was away
            elif moment % size.kill_every == size.kill_every - 1:
                time.sleep(chance.uniform(0.02, 0.5))
                child = chance.choice([*running])
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                journal.write("killed", child)
                process = running.pop(child)
                for worker in range(process.number, size.workers, size.processes):
                    clock.end(worker)
                running[fork(process)] = process
            while not clock.is_over():
                time.sleep(0.005)
                _reap(running, os.WNOHANG)
            if moment % 8 == 7:  # days are forgotten when they have long been over
                accounts |= {_key(report): report for report in reports_in(url)}
        while running:
            _reap(running)
        seconds = time.perf_counter() - began
        accounts |= {_key(report): report for report in reports_in(url)}
        with Ledger(url) as ledger:
            rows = {str(call.run_id): call for call in ledger.calls()}
            sums = ledger.totals()
            wrong = ledger.check()
        lines = [line.split(" ") for line in path.read_text().splitlines()]
        postgres.close_all()
    findings = Findings(lines, accounts, rows, wrong)
    findings.compare()
    if sums.total_tokens != sum(row.spent_tokens for row in rows.values()):
        findings.disagreements.append("the ledger's sums are not those of its rows")
    return _figures(findings, size, seconds)


def _figures(findings: Findings, size: Size, seconds: float) -> dict[str, Any]:
    rows, kinds = findings.rows.values(), Counter(kind for kind, *_ in findings.lines)
    status = Counter("cached" if row.cached else row.status for row in rows)
    month = findings.accounts["plan", "", STARTS.timestamp()]
    billed = sum(map(sum, findings.bills.values()))
    return {
        "days": size.days,
        "workers": size.workers,
        "processes": size.processes,
        "tasks": kinds["begin"],
        "calls": dict(sorted(status.items())),
        "models_asked": kinds["bill"],
        "tokens_billed": billed,
        "tokens_in_the_ledger": sum(row.spent_tokens for row in rows),
        "tokens_charged": _charged(month),
        "tokens_saved": sum(row.saved_tokens for row in rows if row.cached),
        "processes_killed": kinds["killed"],
        "crashes_of_the_server": kinds["server"] // 2,
        "calls_disturbed": sum(
            len(calls) for task, calls in findings.tasks.items() if task in findings.disturbed
        ),
        "calls_missing_in_the_ledger": len(findings.missing),
        "tasks_refused": kinds["refused"],
        "accounts": len(findings.accounts),
        "disagreements": len(findings.disagreements),
        "first_disagreements": findings.disagreements[:20],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Simulate, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="three days of eight workers")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    figures = run(QUICK if quick else Size())
    print(json.dumps(figures, indent=1))
    if not quick:
        write_result("scale_month", "python -m tests.benchmarks.scale_month", figures, "psycopg")


if __name__ == "__main__":
    main()
