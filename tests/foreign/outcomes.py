"""A pytest plugin that writes each test's outcome as a line of JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

_OUTCOMES: dict[str, dict[str, str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test has failed if any of its phases has."""
    known = _OUTCOMES.setdefault(report.nodeid, {"outcome": "passed", "text": ""})
    if report.failed:
        known |= {"outcome": "failed", "text": report.longreprtext[-6_000:]}
    elif report.skipped and known["outcome"] == "passed":
        known["outcome"] = "xfailed" if hasattr(report, "wasxfail") else "skipped"


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be collected counts as one failed test."""
    if report.failed:
        _OUTCOMES[report.nodeid] = {"outcome": "failed", "text": report.longreprtext[-6_000:]}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write them where the harness looks for them."""
    del session
    path = os.environ["TOKENOPT_FOREIGN_OUTCOMES"]
    Path(path).write_text(json.dumps(_OUTCOMES))
