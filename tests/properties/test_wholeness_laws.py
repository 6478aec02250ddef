"""Laws of what is kept: it parses, is whole, in order, and within the budget, in every format."""

from __future__ import annotations

import pytest

from tests.benchmarks.compress_wholeness import outcome

CASES = 240
"""Of the twenty thousand that ``tests/benchmarks/compress_wholeness.py`` runs."""


@pytest.mark.parametrize("first", range(0, CASES, 40))
def test_everything_that_is_kept_is_whole(first: int) -> None:
    """JSON, code, tables, logs, fences, examples and words are never torn, nor over budget."""
    for seed in range(first, first + 40):
        kind, found, faults = outcome(seed)

        assert not faults, f"seed {seed}, {kind}: {faults[0]}"
        assert not found["over budget"], f"seed {seed}, {kind}"
