"""Agents: routing, the overhead of our middleware, and the whole path.

Run:     make bench-agents [DATA=folder] [QUICK=1]
         (python -m tests.benchmarks.bench_agents [--quick] [--only PART ...] [--data DIR])
Output:  what each part writes: results/agents_<part>.json; with --quick nothing is written. Exit
         code 1 when a part fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

PARTS = sorted(path.stem.removeprefix("agents_") for path in Path(__file__).parent.glob("agents_*"))
"""Each a module of its own, ``agents_<part>.py``, which takes the options that it names."""


def main() -> int:
    """Run the parts one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--data", help="folder of data sets")
    given = parser.parse_args()
    failed = []
    for part in given.only:
        takes = (Path(__file__).parent / f"agents_{part}.py").read_text(encoding="utf-8")
        command = [sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.agents_{part}"]
        command += ["--quick"] if given.quick else []
        command += ["--data", given.data] if given.data and '"--data"' in takes else []
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
