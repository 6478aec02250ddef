"""What a budget uses to make a call smaller: other stages' work, which a socket hands to it.

Stages do not import each other. The socket, which may know them all, makes the budget's stage with
an implementation of :class:`BudgetTools`.
"""

from __future__ import annotations

from typing import Protocol

from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Stage

__all__ = ["BudgetTools", "TakesTimeError"]


class TakesTimeError(Exception):
    """Shortening is needed, and an event loop would have to wait: the same is asked in a thread."""


class BudgetTools(Protocol):
    """Ways to shorten a prompt and an answer."""

    def shorten(self, request: ModelRequest, max_tokens: int) -> ModelRequest:
        """Return *request* with messages of *max_tokens* where that can be; never longer."""
        ...

    def shorten_tool_results(self, request: ModelRequest) -> ModelRequest:
        """Return *request* with older tool results shortened; the latest stay."""
        ...

    def word_limit(self, words: int, max_tokens: int) -> Stage:
        """Return a stage that keeps answers within *words* and *max_tokens*."""
        ...

    def count_words(self, text: str) -> int:
        """Count words as the limit does."""
        ...
