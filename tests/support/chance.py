"""What is left to chance, taken away from tests and pages."""

from __future__ import annotations

from langchain_tokenopt.cache.settings import CacheSettings


def without_chance() -> None:
    """Let caches without a seed draw the same audits in every process: at first, none.

    One hit of fifty is asked anyway. A test that meets it would fail one time of fifty.
    """
    CacheSettings.model_fields["seed"].default = 0
    CacheSettings.model_rebuild(force=True)
