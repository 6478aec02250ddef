"""Budgets: is the total ever overshot, is it used up, what does a reservation cost.

Run:     python -m tests.benchmarks.bench_budget [--schedules 10000] [--processes 500]
                                                 [--rivals PYTHON]
         python -m tests.benchmarks.bench_budget --levels 200
Courses: random parallel schedules (tests/support/budget_schedules.py) in threads, tasks and forked
         processes on SQLite. Failures, retries, cancelled streams, cached answers, duplicated news,
         kills; half of the schedules may meet a provider that counts up to 8 % more than we do.
         The bill is kept on the provider's side; overshoot is read there. Who is refused does not
         ask again: where demand is hardly above the total and nearly everybody calls at once, what
         is held for the longest possible answers refuses the last few, and what those answers then
         leave is asked for by nobody. Below 95 % lie only such courses.
Rivals:  the first schedules through other guards, in an environment of their own (PYTHON).
Times:   reserve + settle with a run id, wall time, garbage collection on; on a shared machine also
         without those in which the kernel gave the CPU to somebody else (4 ms or more each). A
         model's call takes longer than 20 ms; without any pause eight processes are more than two
         CPUs can run.
         ``--times`` measures only these, and keeps the other figures.
Levels:  a run inside a user's day inside an organization's month: schedules of 8 processes on one
         file, over midnight with clocks that differ, of which about every second one has a process
         killed with SIGKILL between call and settlement; and the times with one and three levels.
Output:  results/budget_account.json; with ``--levels`` only results/budget_levels.json
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

from langchain_tokenopt.budget import Owners, TokenBudget, exclusive_account
from langchain_tokenopt.budget.account_lock import AccountLock
from langchain_tokenopt.budget.levels import NOBODY
from langchain_tokenopt.core.usage import Usage
from tests.benchmarks.results import RESULTS, write_result
from tests.support.budget_levels import fork_levels, levelled
from tests.support.budget_schedules import Schedule, draw_schedule
from tests.support.budget_workers import Course, fork_processes, run_tasks, run_threads

SWITCH_SECONDS = 1e-5
"""Threads take turns 500 times as often as by default, to meet in the worst places."""


def courses(
    seeds: Iterable[int], run: Callable[[Schedule], Course], *, callers: Callable[[int], int]
) -> dict[str, Any]:
    """Run a schedule per seed and sum up what came of them."""
    began = time.perf_counter()
    made = [
        run(draw_schedule(seed, callers=callers(seed), overcounts=seed // 2 % 2 == 1))
        for seed in seeds
    ]
    seconds = time.perf_counter() - began
    scarce = sorted(course.utilisation for course in made if course.demand > course.total)
    return {
        "schedules": len(made),
        "seconds": round(seconds, 1),
        "calls": sum(part.calls for c in made for part in c.report.agents.values()),
        "denied": sum(part.denied_calls for c in made for part in c.report.agents.values()),
        "overshot": sum(course.overshoot > 0 for course in made),
        "overshoot_tokens": sum(course.overshoot for course in made),
        "accounts_that_do_not_add_up": sum(bool(course.findings) for course in made),
        "tokens_left_held": sum(course.report.held_tokens for course in made),
        "provider_surplus_tokens": sum(course.surplus for course in made),
        "billed_beyond_total_by_surplus": sum(max(c.billed - c.total, 0) for c in made),
        "worst_ratio_beyond_total_by_surplus": round(
            max(max(c.billed - c.total, 0) / c.total for c in made), 5
        ),
        "below_the_bill_tokens_without_surplus": sum(
            max(c.below_the_bill - c.surplus, 0) for c in made
        ),
        "demand_exceeds_total": len(scarce),
        "utilisation_min": round(scarce[0], 4) if scarce else None,
        "utilisation_p1": round(scarce[len(scarce) // 100], 4) if scarce else None,
        "utilisation_mean": round(sum(scarce) / len(scarce), 4) if scarce else None,
        "below_95_percent": sum(value < 0.95 for value in scarce),
    }


class NoLock(AccountLock):
    """What lets everybody in."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def without_lock(schedules: int) -> dict[str, Any]:
    """Run threads on an account without lock; the same checks must fail."""
    broken = wrong = 0
    with mock.patch.object(exclusive_account, "AccountLock", NoLock):
        for seed in range(schedules):
            try:
                course = run_threads(draw_schedule(seed, callers=8))
            except (RuntimeError, KeyError):  # the account changed under somebody's eyes
                broken += 1
                continue
            wrong += bool(course.findings or course.overshoot or course.report.held_tokens)
    return {"schedules": schedules, "failed": wrong + broken}


# Times


Timed = tuple[float, bool]
"""Seconds, and whether the kernel took the CPU away in between."""


def _once(budget: TokenBudget, number: object, owners: Owners = NOBODY) -> Timed:
    switches = _switches()
    began = time.perf_counter()
    hold = budget.reserve("writer", 1_000, 500, run_id=f"run-{number}", owners=owners)
    budget.settle(hold, Usage(1_000, 400))  # type: ignore[arg-type]
    return time.perf_counter() - began, _switches() > switches


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _spread(timed: list[Timed]) -> dict[str, Any]:
    whole = sorted(seconds for seconds, _ in timed)
    undisturbed = sorted(seconds for seconds, preempted in timed if not preempted)

    def at(ordered: list[float], share: float) -> float:
        place = max(0, math.ceil(share * len(ordered)) - 1)
        return round(ordered[place] * 1e6, 1)

    return {
        "n": len(whole),
        "p50_us": at(whole, 0.5),
        "p99_us": at(whole, 0.99),
        "max_us": at(whole, 1.0),
        "not_preempted": len(undisturbed),
        "not_preempted_p99_us": at(undisturbed, 0.99),
    }


def _process(path: str, process: int, count: int, pause: float, out: Any) -> None:
    budget = TokenBudget(10**12, path=path)
    chance = random.Random(process)
    _once(budget, f"{process}-warm")
    times = []
    for number in range(count):
        time.sleep(chance.uniform(0, pause))
        times.append(_once(budget, f"{process}-{number}"))
    out.put(times)


def _processes(folder: Path, processes: int, count: int, pause: float) -> list[Timed]:
    """Let processes reserve and settle, with a random pause of at most *pause* seconds between."""
    path = str(folder / f"times-{processes}-{pause}.db")
    TokenBudget(10**12, path=path).close()
    forked = multiprocessing.get_context("fork")
    out = forked.Queue()
    workers = [
        forked.Process(target=_process, args=(path, number, count, pause, out))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    times = [timed for _ in workers for timed in out.get()]
    for worker in workers:
        worker.join()
    return times


def times(folder: Path) -> dict[str, Any]:
    """Measure reserve + settle in memory, alone on a file, and with 8 processes on one."""
    memory = TokenBudget(10**12)
    crowded = TokenBudget(10**12)
    crowded.allocate([])
    for number in range(50):
        crowded.reserve(f"agent-{number}", 1, 1)
    file = TokenBudget(10**12, path=folder / "times.db")
    _once(file, "warm")
    return {
        "memory": _spread([_once(memory, number) for number in range(50_000)]),
        "memory, 50 agents and holds": _spread([_once(crowded, n) for n in range(50_000)]),
        "sqlite, alone": _spread([_once(file, number) for number in range(10_000)]),
        "sqlite, 8 processes, calls of 0-20 ms": _spread(_processes(folder, 8, 500, 0.02)),
        "sqlite, 8 processes, calls of 0 ms": _spread(_processes(folder, 8, 1_000, 0.0)),
    }


# Levels


def levels(schedules: int, folder: Path) -> dict[str, Any]:
    """Let 8 processes pay from three levels, in as many schedules; sum up what came of them."""
    made = [fork_levels(seed, folder) for seed in range(schedules)]
    best = sorted(max(used) for course in made if (used := course.used()))
    return {
        "schedules": len(made),
        "processes": 8,
        "calls": sum(course.calls for course in made),
        "denied": sum(len(course.denied) for course in made),
        "accounts": sum(len(course.reports) for course in made),
        "overshot": sum(len(course.overshot()) for course in made),
        "below_the_bill": sum(len(course.below_the_bill()) for course in made),
        "tokens_left_held": sum(r.held_tokens for c in made for r in c.reports.values()),
        "accounts_that_do_not_add_up": sum(bool(course.findings) for course in made),
        "scarce": len(best),
        "utilisation_min": round(best[0], 4),
        "refused_though_room_was_left_in_the_end": sum(c.refused_in_vain() for c in made),
    }


def levels_times(folder: Path) -> dict[str, Any]:
    """Measure reserve + settle with one and with three levels, in memory and on a file."""
    owners, clock, much = Owners("ann", "acme"), time.time, (10**12, 10**12, 10**12)
    found = {}
    for store, path, number in (("memory", None, 30_000), ("sqlite", folder / "t.db", 5_000)):
        one = TokenBudget(10**12, path=path, run="one", clock=clock)
        three = levelled(path, "three", much, clock, scope="times")
        for name, budget in (("1 level", one), ("3 levels", three)):
            _once(budget, "warm", owners)
            timed = [_once(budget, n, owners) for n in range(number)]
            found[f"{store}, {name}"] = _spread(timed)
    return found


def _keep_others(figures: dict[str, Any]) -> None:
    """Write new times beside the figures that were measured before."""
    before = json.loads((RESULTS / "budget_account.json").read_text(encoding="utf-8"))
    print(json.dumps(figures, indent=1))
    write_result("budget_account", before["command"], before["figures"] | figures)


def main() -> None:
    """Measure everything and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=500)
    parser.add_argument("--rivals", help="a Python that has requirements-rivals-budget.txt")
    parser.add_argument("--rival-schedules", type=int, default=200)
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--levels", type=int, default=0, metavar="SCHEDULES")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about
    if asked.levels:
        with tempfile.TemporaryDirectory() as name:
            measured = {
                "times": levels_times(Path(name)),
                "levels": levels(asked.levels, Path(name)),
            }
        print(json.dumps(measured, indent=1))
        command = f"python -m tests.benchmarks.bench_budget --levels {asked.levels}"
        write_result("budget_levels", command, measured)
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures["times"] = times(folder)
        if asked.times:
            _keep_others(figures)
            return
        seeds = range(asked.schedules - asked.processes)
        usual = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            figures["threads"] = courses(seeds[::2], run_threads, callers=lambda n: 4 + n % 61)
            figures["without the lock"] = without_lock(300)
        finally:
            sys.setswitchinterval(usual)
        figures["tasks"] = courses(seeds[1::2], run_tasks, callers=lambda n: 4 + n % 61)
        figures["processes"] = courses(
            range(asked.processes),
            lambda schedule: fork_processes(schedule, folder),
            callers=lambda n: 4 + n % 5,
        )
    if asked.rivals:
        told = subprocess.run(
            [asked.rivals, "-m", "tests.benchmarks.rivals_budget", str(asked.rival_schedules)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        figures["rivals"] = json.loads(told.stdout)
        same = [draw_schedule(n, callers=4 + n % 5) for n in range(asked.rival_schedules)]
        made = [run_tasks(schedule) for schedule in same]
        figures["rivals"]["TokenBudget"] = {
            "schedules": len(made),
            "demand_exceeds_total": sum(s.demand > s.total_tokens for s in same),
            "overshot": sum(course.overshoot > 0 for course in made),
            "overshoot_tokens": sum(course.overshoot for course in made),
            "worst_overshoot_ratio": max(course.overshoot / course.total for course in made),
        }
    given = " ".join("PYTHON" if part == asked.rivals else part for part in sys.argv[1:])
    command = f"python -m tests.benchmarks.bench_budget {given}".strip()
    print(json.dumps(figures, indent=1))
    write_result("budget_account", command, figures)


if __name__ == "__main__":
    main()
