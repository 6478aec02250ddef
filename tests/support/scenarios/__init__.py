"""Every way we know in which LangChain applications spend tokens, with what they really spent.

Each function makes real calls and returns the truth. Its docstring is the promise that a usage
tracker should keep.
"""

from tests.support.scenarios import (  # noqa: F401  # they register their scenarios
    billed_errors,
    bills,
    caches,
    calls,
    contradictions,
    delegates,
    every_provider,
    failures,
    graphs,
    handlers,
    neighbours,
    streams,
    tiers,
)
from tests.support.scenarios.registry import SCENARIOS

__all__ = ["SCENARIOS"]
