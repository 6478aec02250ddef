"""What type checkers say of tests/typing: python -m tests.support.type_checks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "typing"
FILES = (FOLDER / "typical_use.py", FOLDER / "planted_mistakes.py")
MYPY = ("mypy", "--strict", *map(str, FILES))
PYRIGHT = ("pyright", "--pythonpath", sys.executable, "-p", str(FOLDER))


def planted() -> set[tuple[str, int]]:
    """Return the lines with a mistake."""
    return {
        (path.name, number)
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if line.endswith("  # wrong")
    }


def reported(checker: Sequence[str]) -> set[tuple[str, int]]:
    """Return the lines that a checker finds wrong."""
    done = subprocess.run(
        [sys.executable, "-m", *checker],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    found = re.findall(r"(\w+\.py):(\d+):.*error", done.stdout)
    if not found:
        raise RuntimeError(f"{checker[0]} reports nothing: {done.stdout}{done.stderr}")
    return {(name, int(number)) for name, number in found}


def differences(checker: Sequence[str]) -> list[str]:
    """Return a sentence for each mistake that was missed, and for each that is none."""
    wrong, found = planted(), reported(checker)
    return [
        *(f"{name}:{line} is wrong, and {checker[0]} misses it" for name, line in wrong - found),
        *(f"{name}:{line} is right, and {checker[0]} says no" for name, line in found - wrong),
    ]


if __name__ == "__main__":
    checkers = [MYPY, PYRIGHT] if shutil.which("node") else [MYPY]
    told = [line for checker in checkers for line in differences(checker)]
    sys.stdout.write(
        "\n".join(told) + "\n"
        if told
        else f"{' and '.join(checker[0] for checker in checkers)} find all {len(planted())} "
        f"mistakes and no other.\n"
        + ("" if PYRIGHT in checkers else "There is no node here, so pyright was not asked.\n")
    )
    sys.exit(bool(told))
