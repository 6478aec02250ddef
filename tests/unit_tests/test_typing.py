"""Type checkers know the package: typical use passes, mistakes are reported at their lines."""

from __future__ import annotations

from tests.support.type_checks import MYPY, differences


def test_mypy_passes_typical_use_and_finds_every_planted_mistake():
    """At its strictest; ``make types`` asks pyright as well."""
    assert differences(MYPY) == []
