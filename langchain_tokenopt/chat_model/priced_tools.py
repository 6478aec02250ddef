"""Tool selection where it lowers the bill: providers charge little for a beginning that stays.

Tools stand in front of a prompt. A provider that keeps the beginning of prompts charges tools that
never change at a tenth to a half of their price; other tools with the next turn make it charge all
that stands behind them anew. So fewer tools can cost more than all of them.
"""

from __future__ import annotations

from typing import Any, Final

from langchain_tokenopt.context.economics import profile_of
from langchain_tokenopt.core.messages import text_of
from langchain_tokenopt.pricing.rate_card import default_rate_card
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import StageCall
from langchain_tokenopt.tools.selector import ToolSelector

__all__ = ["PricedToolSelector"]

_CHANGES: Final = 0.8
"""Of a conversation's calls, the share that may show other tools than the one before."""
_USUAL: Final = 20
"""Tools that a conversation shows, where no number is set."""
_CHARACTERS: Final = 4
"""Of a token, about."""


class PricedToolSelector(ToolSelector):
    """A tool selector that lets all tools pass where fewer of them would cost more.

    Where no price is known, fewer tokens are what counts.

    Example:
        >>> PricedToolSelector(max_tools=8).fingerprint
        ''
    """

    around = ToolSelector

    def _open(self, request: ModelRequest) -> StageCall | None:
        return super()._open(request) if self._pays(request) else None

    def _pays(self, request: ModelRequest) -> bool:
        """Whether what is left out is worth more than what changes make the provider forget."""
        facts, price, number = request.facts, profile_of(request), len(request.tools)
        rates = default_rate_card().rates(facts.billed_name, facts.billed_by)
        if rates is None or not price.rewriting(1):
            return True
        tools = facts.tool_tokens.tokens
        shown = tools * min(1.0, (self.max_tools or _USUAL) / max(1, number))
        behind = shown + sum(_length(m) for m in request.messages) / _CHARACTERS
        return price.read * (tools - shown) > _CHANGES * price.rewriting(behind)


def _length(message: Any) -> int:
    return len(text_of(message))
