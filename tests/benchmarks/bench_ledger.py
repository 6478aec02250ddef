"""The ledger: rows per second, answers over a million calls, bytes per call, overhead, kill -9.

Run:     make bench-ledger       (python -m tests.benchmarks.bench_ledger [--calls N] [--kills N])
Data:    a made-up month of a trading desk of ten agents in runs of twelve calls: 500 users, one
         call in ten shortened by a stage, one in ten answered by a cache (tests/support).
Rule:    every figure is a median over rounds, with its extremes. Rows per second is the time from
         the first record() to the end of flush(), records made beforehand, rollups included, every
         commit synchronous. Overhead: variants take turns in every round, in changing order, with
         the garbage collector off, and the durable one includes flush().
Output:  tests/benchmarks/results/ledger.json.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_tokenopt import TokenUsageCallbackHandler
from langchain_tokenopt.ledger import Ledger
from tests.benchmarks.bench_usage import Instant
from tests.benchmarks.results import write_result
from tests.support.ledger_kills import kill_writers
from tests.support.ledger_records import desk_calls

COMMAND = "python -m tests.benchmarks.bench_ledger"
PART = 50_000
"""Records that are made in advance while a ledger of a million calls is written."""


def spread(values: Sequence[float], digits: int = 1) -> dict[str, Any]:
    """Return median, extremes and sample size."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
        "n": len(values),
    }


def timed(call: Callable[[], Any]) -> float:
    """Return seconds."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def write_month(path: Path, calls: int) -> tuple[list[float], list[float]]:
    """Write *calls* calls; return rows per second, and per second of CPU, of every part."""
    source = desk_calls(calls)
    rates, of_cpu = [], []
    with Ledger(path) as ledger:
        while part := list(itertools.islice(source, PART)):
            gc.collect()

            def write(records: list[Any] = part) -> None:
                for call in records:
                    ledger.record(call)
                ledger.flush()

            begin = time.process_time()
            rates.append(len(part) / timed(write))
            of_cpu.append(len(part) / (time.process_time() - begin))
    return rates, of_cpu


def write_contended(folder: Path, processes: int, calls: int) -> float:
    """Return rows per second of several processes that write one file."""
    script = (
        "import sys, time\n"
        "from langchain_tokenopt.ledger import Ledger\n"
        "from tests.support.ledger_records import desk_calls\n"
        "calls = list(desk_calls(int(sys.argv[2]), seed=int(sys.argv[3])))\n"
        "ledger = Ledger(sys.argv[1])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for call in calls: ledger.record(call)\n"
        "ledger.flush()\n"
    )
    path = folder / "contended.db"
    Ledger(path).close()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(calls), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()

    def write() -> None:
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            assert process.wait() == 0

    rate = processes * calls / timed(write)
    for process in running:
        process.stdin.close()  # type: ignore[union-attr]
        process.stdout.close()  # type: ignore[union-attr]
    with Ledger(path, read_only=True) as ledger:
        assert ledger.totals().calls == processes * calls
        assert ledger.check() == []
    return rate


def random_ids(folder: Path, calls: int) -> dict[str, Any]:
    """The same with random run ids, as LangChain made them before version 1."""
    records = [
        replace(call, run_id=uuid4(), savings=()) for call in desk_calls(calls, saved_every=10**9)
    ]
    path = folder / "random.db"
    with Ledger(path) as ledger:

        def write() -> None:
            for call in records:
                ledger.record(call)
            ledger.flush()

        rate = calls / timed(write)
    return {
        "calls": calls,
        "rows_per_second": round(rate),
        "bytes_per_call": round(path.stat().st_size / calls, 1),
    }


def answers(path: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds of questions, over a ledger that is open."""
    with Ledger(path, read_only=True) as ledger:
        questions: dict[str, Callable[[], Any]] = {
            "group by agent": lambda: ledger.by("agent"),
            "group by agent and no rollups": lambda: ledger.by("user"),
            "by day": lambda: ledger.by("day"),
            "totals": ledger.totals,
            "last 20 runs": ledger.runs,
            "effects of stages": ledger.effects,
        }
        figures: dict[str, Any] = {
            name: spread([timed(ask) * 1e3 for _ in range(rounds)])
            for name, ask in questions.items()
        }
        begin = time.perf_counter()
        findings = ledger.check()
        figures["check of everything, seconds"] = round(time.perf_counter() - begin, 1)
        figures["check found"] = findings
    return figures


def command_line(path: Path, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds, and CPU seconds, of ``tokenopt top --by day``: a new process, compiled bytecode."""
    script = Path(sys.executable).with_name("tokenopt")
    environment = {**os.environ, "TOKENOPT_LEDGER": str(path)}

    def run() -> None:
        command = [script, "top", "--by", "day"]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    run()
    wall, of_cpu = [], []
    for _ in range(rounds):
        begin = cpu()
        wall.append(timed(run))
        of_cpu.append(cpu() - begin)
    return spread(wall, 3), spread(of_cpu, 3)


class _Asked:
    """A model by itself, invoked as chains are."""

    def __init__(self, model: Instant) -> None:
        self._model = model

    def invoke(self, question: dict[str, str], config: Any) -> Any:
        return self._model.invoke(question["question"], config)


def overhead(folder: Path, runnable: Any, *, calls: int, rounds: int) -> dict[str, Any]:
    """Microseconds per call with core's handler, and with ours and a durable ledger."""
    ledger = Ledger(Path(tempfile.mkdtemp(dir=folder)) / "overhead.db")

    def call_with(callbacks: Any, ledgers: Sequence[Ledger] = ()) -> Callable[[], None]:
        config = {"callbacks": callbacks} if callbacks else None

        def run() -> None:
            for _ in range(calls):
                runnable.invoke({"question": "hi"}, config)
            for written in ledgers:
                written.flush()

        return run

    core, ours = "langchain-core handler", "our handler with the durable ledger"
    variants = {
        "no callback": call_with(None),
        core: call_with([UsageMetadataCallbackHandler()]),
        "our handler": call_with([TokenUsageCallbackHandler(max_records=1_000)]),
        ours: call_with([TokenUsageCallbackHandler(sinks=[ledger], max_records=1_000)], [ledger]),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    shuffle = random.Random(0).shuffle
    for run in variants.values():
        run()
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            gc.collect()
            gc.disable()
            times[name].append(timed(variants[name]) / calls * 1e6)
            gc.enable()
    stored = ledger.totals().calls
    ledger.close()
    median = {name: statistics.median(spent) for name, spent in times.items()}
    nothing = median["no callback"]
    return {
        "microseconds_per_call": {name: spread(spent) for name, spent in times.items()},
        "call_with_ours_over_call_with_core": round(median[ours] / median[core], 3),
        "overhead_of_ours_over_overhead_of_core": round(
            (median[ours] - nothing) / (median[core] - nothing), 3
        ),
        "calls_stored": stored,
        "calls_made": calls * (rounds + 1),
    }


def sizes(path: Path, calls: int) -> dict[str, Any]:
    """Bytes per call, and where they are."""
    with sqlite3.connect(path) as database:
        parts = dict(database.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
    database.close()
    largest = sorted(parts.items(), key=lambda part: -part[1])[:8]
    return {
        "bytes_per_call": round(path.stat().st_size / calls, 1),
        "largest_parts": {name: round(size / calls, 1) for name, size in largest},
    }


def killed(folder: Path, kills: int) -> dict[str, Any]:
    """Kill writers at random moments."""
    report = kill_writers(folder, kills=kills, processes=4, seed=20)
    return {
        "kills": report.kills,
        "processes": 4,
        "calls_stored": len(report.stored),
        "calls_acknowledged": len(report.acknowledged),
        "acknowledged_but_missing": report.missing,
        "doubled": report.doubled,
        "check_found": report.findings,
    }


def as_markdown(figures: dict[str, Any], load: tuple[float, float]) -> str:
    """Return the README's table."""

    def row(title: str, found: dict[str, Any], unit: str) -> str:
        middle, low, high = (f"{found[name]:,.6g}" for name in ("median", "min", "max"))
        return f"| {title} | {middle} {unit} | {low} to {high} | {found['n']} |"

    calls, killed = f"{figures['calls']:,} calls", figures["kill_9"]
    alone, chained = figures["overhead"]["model"], figures["overhead"]["prompt | model | parser"]
    lost = killed["acknowledged_but_missing"] + killed["doubled"] + len(killed["check_found"])
    lines = [
        "| what | median | range | n |",
        "|---|---|---|---|",
        row("rows written per second, rollups included", figures["rows_per_second"], "rows"),
        row("the same per second of CPU time", figures["rows_per_cpu_second"], "rows"),
        row(
            "the same, four processes on one file",
            figures["four_processes_rows_per_second"],
            "rows",
        ),
        row(f"group {calls} by agent", figures["answers_ms"]["group by agent"], "ms"),
        row(
            f"`tokenopt top --by day` over {calls}, start included",
            figures["tokenopt_by_day_seconds"],
            "s",
        ),
        row("the same in CPU time", figures["tokenopt_by_day_cpu_seconds"], "s"),
        f"| bytes per call at {calls} | {figures['size']['bytes_per_call']} | | 1 |",
        f"| a bare model call with handler and ledger / with langchain-core's handler | "
        f"{alone['call_with_ours_over_call_with_core']:.2f} | | "
        f"{alone['microseconds_per_call']['no callback']['n']} |",
        f"| the same, `prompt \\| model \\| parser` | "
        f"{chained['call_with_ours_over_call_with_core']:.2f} | | "
        f"{chained['microseconds_per_call']['no callback']['n']} |",
        f"| `kill -9` of {killed['processes']} writers: lost, doubled or inconsistent | {lost} of "
        f"{killed['calls_acknowledged']:,} | | {killed['kills']} kills |",
    ]
    note = (
        f"`make bench-ledger`; {os.cpu_count()} shared CPUs, load average {load[0]:.1f} to "
        f"{load[1]:.1f}; CPU time says what it costs where nobody else computes."
    )
    return "\n".join([*lines, "", note]) + "\n"


def main() -> None:
    """Measure everything and write the figures."""
    options = argparse.ArgumentParser()
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--rounds", type=int, default=11)
    chosen = options.parse_args()
    figures: dict[str, Any] = {"calls": chosen.calls}
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "month.db"
        rates, of_cpu = write_month(path, chosen.calls)
        figures["rows_per_second"] = spread(rates, 0)
        figures["rows_per_cpu_second"] = spread(of_cpu, 0)
        figures["size"] = sizes(path, chosen.calls)
        figures["answers_ms"] = answers(path, chosen.rounds)
        wall, of_cpu = command_line(path, chosen.rounds)
        figures["tokenopt_by_day_seconds"] = wall
        figures["tokenopt_by_day_cpu_seconds"] = of_cpu
        figures["four_processes_rows_per_second"] = spread(
            [write_contended(Path(tempfile.mkdtemp(dir=folder)), 4, 20_000) for _ in range(3)], 0
        )
        figures["random_run_ids"] = random_ids(folder, chosen.calls // 5)
        ask = ChatPromptTemplate.from_messages([("human", "{question}")])
        figures["overhead"] = {
            "model": overhead(folder, _Asked(Instant()), calls=3_000, rounds=chosen.rounds),
            "prompt | model | parser": overhead(
                folder, ask | Instant() | StrOutputParser(), calls=1_000, rounds=chosen.rounds
            ),
        }
        figures["kill_9"] = killed(folder, chosen.kills)
    loads = sorted((load_before, os.getloadavg()[0]))
    figures["load_average"] = [round(load, 1) for load in loads]
    written = write_result("ledger", COMMAND, figures, "SQLAlchemy", "langchain-tokenopt")
    written.with_suffix(".md").write_text(as_markdown(figures, (loads[0], loads[1])))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
