"""The locks in ``requirements/`` and the bounds in ``pyproject.toml`` say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(*lists: list[str]) -> list[Requirement]:
    """Parse them, without those that name other extras of this package."""
    parsed = [Requirement(line) for lines in lists for line in lines]
    return [each for each in parsed if each.name != PROJECT["name"]]


OF_TESTS = ("dev", "providers")
RUNTIME = requirements(
    PROJECT["dependencies"], *(lines for name, lines in EXTRAS.items() if name not in OF_TESTS)
)
DEV = requirements(*(EXTRAS[name] for name in OF_TESTS))


def pins(name: str) -> dict[str, str]:
    """Read a lock: the version of each package."""
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", ["lock.txt", "oldest.txt"])
def test_every_dependency_is_pinned_within_its_bounds(lock: str):
    """Otherwise run ``make lock``."""
    pinned = pins(lock)
    wrong = [
        f"{each} but {pinned.get(canonicalize_name(each.name))}"
        for each in RUNTIME + DEV
        if not each.specifier.contains(pinned.get(canonicalize_name(each.name), "0"))
    ]
    assert wrong == []


def test_the_oldest_are_the_lower_bounds():
    """Otherwise ``make test-oldest`` proves less than ``pyproject.toml`` promises."""
    pinned = pins("oldest.txt")
    lower = {
        canonicalize_name(each.name): bound.version
        for each in RUNTIME
        for bound in each.specifier
        if bound.operator == ">="
    }
    untrue = {
        name: (version, pinned[name])
        for name, version in lower.items()
        if pinned[name].split(".")[: version.count(".") + 1] != version.split(".")
    }
    assert untrue == {}


def test_every_dependency_of_users_has_an_upper_bound():
    """A release that breaks us must not reach those who installed the package before it."""
    unbounded = [
        str(each) for each in RUNTIME if not {"<", "=="} & {b.operator for b in each.specifier}
    ]
    assert unbounded == []


def test_locks_name_no_machine():
    """No paths, no index, no build of one machine's own."""
    for lock in (ROOT / "requirements").glob("*.txt"):
        lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
        odd = [line for line in lines if re.search(r"://|@|--|/|\+", line)]
        assert odd == [], lock.name
