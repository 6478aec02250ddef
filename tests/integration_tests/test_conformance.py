"""What we count equals what was spent, in every way in which LangChain applications call models."""

from __future__ import annotations

import pytest

from tests.support.conformance import Scenario, findings_of, this_package
from tests.support.model_server import ModelServer
from tests.support.scenarios import SCENARIOS

KNOWN_FAILURES: frozenset[str] = frozenset([])
"""Scenarios in which we do not yet count what was spent. Whoever mends one takes it out of here."""


def parameters() -> list[object]:
    """Return every scenario; the known failures must fail, and by counting wrong."""
    mark = pytest.mark.xfail(reason="A known failure.", strict=True, raises=AssertionError)
    return [
        pytest.param(each, id=each.id, marks=[mark] if each.id in KNOWN_FAILURES else [])
        for each in SCENARIOS
    ]


@pytest.mark.parametrize("scenario", parameters())
def test_counts_what_was_spent(scenario: Scenario, model_server: ModelServer) -> None:
    """Exact where the provider reports usage, flagged and within tolerance where it does not."""
    findings = findings_of(scenario, model_server, this_package())
    assert [f for f in findings if f.verdict != "right"] == []


def test_every_known_failure_is_a_scenario() -> None:
    assert KNOWN_FAILURES <= {scenario.id for scenario in SCENARIOS}
