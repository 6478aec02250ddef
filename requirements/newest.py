"""For ``make test-newest``: what to upgrade, and what is newer than the lock.

Run inside the environment in question::

    python requirements/newest.py names             # every direct dependency, without its bounds
    python requirements/newest.py compare LOCK      # what differs from the lock; fails if nothing
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions, requires
from pathlib import Path

NAME = r"[\w.-]+"
OURS = "langchain-tokenopt"


def names() -> list[str]:
    """Return the direct dependencies, extras kept: ``psycopg[binary]``."""
    found = (re.match(rf"{NAME}(\[[\w,-]+\])?", line) for line in requires(OURS) or ())
    return sorted({match[0] for match in found if match} - {OURS} - _of_ourselves())


def compare(lock: Path) -> list[str]:
    """Return a line for each installed package of another version than the lock names."""
    locked = dict(re.findall(rf"^({NAME})==([^\s;]+)", lock.read_text(), re.MULTILINE))
    installed = {_canonical(each.name): each.version for each in distributions()}
    bounds = {_canonical(re.match(NAME, line)[0]): line for line in requires(OURS) or ()}
    return [
        f"{name}: {locked[name]} in the lock, {installed[name]} here"
        + (f" ({bounds[name].partition(';')[0].strip()})" if name in bounds else "")
        for name in sorted(locked.keys() & installed.keys())
        if installed[name].partition("+")[0] != locked[name]
    ]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _of_ourselves() -> set[str]:
    return {
        line.partition(";")[0].strip() for line in requires(OURS) or () if line.startswith(OURS)
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["names"]:
            print(*names())
        case ["compare", path]:
            newer = compare(Path(path))
            print(*newer, sep="\n", end="\n" if newer else "")
            sys.exit(not newer)
        case _:
            sys.exit(__doc__)
