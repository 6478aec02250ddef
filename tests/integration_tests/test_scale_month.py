"""A few simulated days of several workers: what accounts, cache and ledger say is one."""

from __future__ import annotations

import os

import pytest

from tests.benchmarks.scale_month import QUICK, run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(240)
def test_accounts_cache_and_ledger_agree_to_the_token():
    """With each other and with what models billed; with kills and a crash of the server."""
    found = run(QUICK)

    assert [] == found["first_disagreements"]
    assert QUICK.days * QUICK.workers * 2 == found["tasks"]
    assert (2, 1) == (found["processes_killed"], found["crashes_of_the_server"])
    assert {"ok", "cached", "failed", "abandoned"} <= found["calls"].keys()
    assert found["calls_missing_in_the_ledger"] < 20
