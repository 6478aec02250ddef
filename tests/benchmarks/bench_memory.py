"""What a task that never ends keeps of its jobs.

Run:     python -m tests.benchmarks.bench_memory [--jobs N] [--seconds S]
Rule:    a process and one task for each variant; every job opens a tracker and asks a model that
         answers at once. Memory is that of the process after the first tenth of the jobs and at the
         end, garbage collected; a figure is the growth between both. A variant that is not through
         after S seconds ends there, and its jobs are those it did. Linux only (/proc).
Output:  tests/benchmarks/results/memory.json, and a table.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from langchain_core.callbacks import get_usage_metadata_callback

from langchain_tokenopt import track_usage
from tests.benchmarks.bench_usage import Instant
from tests.benchmarks.results import write_result

VARIANTS: dict[str, Any] = {
    "langchain-core get_usage_metadata_callback": get_usage_metadata_callback,
    "track_usage": track_usage,
}


def kilobytes() -> float:
    """Return the resident memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


async def growth(name: str, jobs: int, seconds: float) -> dict[str, float]:
    """Run the jobs of one variant in this task."""
    model, start, done = Instant(), 0.0, 0
    deadline = time.monotonic() + seconds
    while done < jobs and time.monotonic() < deadline:
        with VARIANTS[name]():
            await model.ainvoke("hi")
        done += 1
        if done == jobs // 10:
            start = kilobytes()
    grown = kilobytes() - start
    counted = done - jobs // 10
    if counted <= 0:
        raise SystemExit(f"{name}: {done:,} of {jobs:,} jobs in {seconds:,.0f} s; take fewer jobs.")
    return {"jobs": done, "grown_kb": round(grown), "kb_per_job": round(grown / counted, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--only")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(asyncio.run(growth(given.only, given.jobs, given.seconds))))
        return
    figures = {}
    for name in VARIANTS:
        command = [sys.executable, "-m", "tests.benchmarks.bench_memory", "--only", name]
        command += ["--jobs", str(given.jobs), "--seconds", str(given.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures[name] = json.loads(done.stdout)
        print(f"{name:<46} {figures[name]}", flush=True)
    write_result("memory", f"python -m tests.benchmarks.bench_memory --jobs {given.jobs}", figures)


if __name__ == "__main__":
    main()
