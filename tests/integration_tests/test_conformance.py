"""What we count equals what was spent, in every way in which LangChain applications call models."""

from __future__ import annotations

import pytest

from tests.support.conformance import Scenario, findings_of, this_package
from tests.support.model_server import ModelServer
from tests.support.scenarios import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_counts_what_was_spent(scenario: Scenario, model_server: ModelServer) -> None:
    """Exact where the provider reports usage, flagged and within tolerance where it does not."""
    findings = findings_of(scenario, model_server, this_package())
    assert [f for f in findings if f.verdict != "right"] == []
