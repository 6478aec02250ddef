"""All that learns: strategies, forecasts, tuning, prefetching, eviction, message templates.

Run:     make bench-learn [DATA=folder]
         (python -m tests.benchmarks.bench_learn [--quick] [--only PART ...] [--data DIR]
         [--toon PYTHON] [--model PYTHON])
Output:  what each part writes: results/learn_<part>.json; with --quick, which takes a few minutes,
         nothing is written. Exit code 1 when a part fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

PARTS = ("strategies", "forecasts", "tuning", "prefetch", "eviction", "templates")


def main() -> int:
    """Run the parts one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--data", help="folder of traces and trajectories")
    parser.add_argument("--toon", help="Python with requirements-rivals-learn.txt")
    parser.add_argument("--model", help="Python with requirements-real-model.txt")
    given = parser.parse_args()
    failed = []
    for part in given.only:
        module = f"tests.benchmarks.learn_{part}"
        found = find_spec(module)
        if found is None or found.origin is None:
            sys.exit(f"there is no {module}")
        takes = Path(found.origin).read_text(encoding="utf-8")
        options = {"--data": given.data, "--toon": given.toon, "--model": given.model}
        command = [sys.executable, "-W", "ignore", "-m", module, *["--quick"][: given.quick]]
        for name, value in options.items():
            command += [name, value] if value and f'"{name}"' in takes else []
        began = time.monotonic()
        print(f"\n=== {part}", flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(part)
        print(f"=== {part}: {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
