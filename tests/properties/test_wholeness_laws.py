"""Laws of what is kept: it parses, is whole, in order, and within the budget, in every format."""

from __future__ import annotations

import pytest

from tests.benchmarks.compress_wholeness import SETS, outcome

pytestmark = pytest.mark.exhaustive

CASES = 120
"""Of each set, of the thousands that ``tests/benchmarks/compress_wholeness.py`` runs."""


@pytest.mark.parametrize("documents", SETS)
@pytest.mark.parametrize("first", range(0, CASES, 40))
def test_everything_that_is_kept_is_whole(first: int, documents: str) -> None:
    """JSON, code, tables, logs, fences, examples and words are never torn, nor over budget."""
    for seed in range(first, first + 40):
        kind, found, faults = outcome(seed, documents)

        assert not faults, f"seed {seed}, {kind}: {faults[0]}"
        assert not found["over budget"], f"seed {seed}, {kind}"
