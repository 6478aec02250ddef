"""What we count equals what was spent, in every way in which LangChain applications call models."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version

from langchain_tokenopt import optimize
from tests.support.conformance import Bench, Scenario, Truth, findings_of, this_package
from tests.support.fakes import fake_chat
from tests.support.model_server import ModelServer
from tests.support.scenarios import SCENARIOS

KNOWN_FAILURES: frozenset[str] = frozenset([])
"""Scenarios in which we do not yet count what was spent. Whoever mends one takes it out of here."""


OLD_PACKAGES: dict[tuple[str, str], frozenset[str]] = {
    ("langchain-openai", "1.7.4"): frozenset(
        {
            "contradictions-cached-beside-the-prompt",
            "ends-before-the-end-left-while-thinking-openrouter",
            "missing-bills-empty-bill-responses",
            "missing-bills-null-bill-responses",
        }
    ),
    ("langchain-deepseek", "1.1.1"): frozenset(
        {
            "bills-of-every-provider-streamed-bill-deepseek",
            "bills-of-every-provider-whole-bill-deepseek",
            "bills-told-twice-told-at-the-start-deepseek",
            "bills-told-twice-twice-the-same-deepseek",
        }
    ),
    ("langchain-anthropic", "1.7.10"): frozenset(
        {
            "missing-bills-null-bill-anthropic",
            "tiers-and-names-anthropic-fast",
            "tiers-and-names-anthropic-fast-structured",
        }
    ),
}
"""Bills that releases of a package before this one drop, or of which they make an exception."""


def marks_of(scenario: Scenario) -> list[pytest.MarkDecorator]:
    """A known failure must fail, and by counting wrong; what an old package drops is left out."""
    if scenario.id in KNOWN_FAILURES:
        return [pytest.mark.xfail(reason="Known failure.", strict=True, raises=AssertionError)]
    return [
        pytest.mark.skip(reason=f"{package} drops this bill before {release}.")
        for (package, release), scenarios in OLD_PACKAGES.items()
        if scenario.id in scenarios and Version(version(package)) < Version(release)
    ]


def parameters() -> list[object]:
    """Return every scenario."""
    return [pytest.param(each, id=each.id, marks=marks_of(each)) for each in SCENARIOS]


@pytest.mark.parametrize("scenario", parameters())
def test_counts_what_was_spent(scenario: Scenario, model_server: ModelServer) -> None:
    """Exact where the provider reports usage, flagged and within tolerance where it does not."""
    findings = findings_of(scenario, model_server, this_package())
    assert [f for f in findings if f.verdict != "right"] == []


def test_every_known_failure_is_a_scenario() -> None:
    assert KNOWN_FAILURES <= {scenario.id for scenario in SCENARIOS}


def test_what_this_package_leaves_open_is_seen(model_server: ModelServer) -> None:
    """What clients leave behind is closed in silence; what we would leave behind is not."""
    kept = []

    async def left_open(bench: Bench) -> Truth:
        stream = optimize(fake_chat("_astream")).astream("Hi")
        kept.append((stream, await anext(stream)))
        return Truth()

    with pytest.raises(AssertionError, match="that nobody closes"):
        findings_of(Scenario("streams", left_open), model_server, this_package())
