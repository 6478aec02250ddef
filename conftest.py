"""What holds for every test and doctest: none depends on what another one has left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context

import pytest
from langchain_core.globals import get_llm_cache, set_llm_cache

from langchain_tokenopt.budget import input_margin
from langchain_tokenopt.counting.calibration import reset_calibration
from langchain_tokenopt.tracking import call_tracker

_NOTES = frozenset(
    {
        "langchain_tokenopt_block",  # the variables that a block has set are looked at themselves
        "langchain_tokenopt_started_runs",
        "tokenopt_cache_claims",
    }
)
"""Variables that only say what was there last, and change nothing."""


@pytest.fixture(autouse=True)
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget how the models of other tests count: a process learns that for as long as it lives."""
    reset_calibration()
    monkeypatch.setattr(input_margin, "_margins", {})
    monkeypatch.setattr(call_tracker, "_calibrated", {})


@pytest.fixture(autouse=True)
def nothing_left(nothing_learned: None) -> Iterator[None]:
    """Fail the test that leaves a cache set or a block open, and not a later one."""
    before = _open_here()
    yield
    left = {name: value for name, value in _open_here().items() if before.get(name) is not value}
    set_llm_cache(None)
    if left:
        pytest.fail(f"The test has left behind: {left}")


def _open_here() -> dict[str, object]:
    """Return LangChain's cache, and what blocks (runs, trackers, scopes) hold in this context."""
    blocks = {
        variable.name: value
        for variable, value in copy_context().items()
        if "tokenopt" in variable.name and variable.name not in _NOTES and value
    }
    cache = get_llm_cache()
    return blocks if cache is None else blocks | {"set_llm_cache": cache}
