"""How long an answer may become, so that none runs on for ever and none is cut.

An allowance is many times what answers to such requests take. It is only set where the provider is
known to take it, and where an answer that reaches it all the same can be asked for again without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.routing.complexity import Complexity, Features
from langchain_tokenopt.routing.tiers import Tier

__all__ = ["allowance_of"]

_TOKENS: Final[Mapping[Complexity, int]] = {
    Complexity.SIMPLE: 4_096,
    Complexity.MEDIUM: 8_192,
    Complexity.COMPLEX: 16_384,
}
"""None for what is CRITICAL. 4,096 tokens are 3,000 words."""
_PER_WORD: Final = 4
"""Tokens for each word of the request: a translation is as long, a rewriting may be longer."""
_PER_NUMBER: Final = 200
"""From this number on a request may ask for as many things, or words: it gets no allowance."""


def allowance_of(
    request: ModelRequest, tier: Tier, features: Features, largest_number: float
) -> int | None:
    """Return the tokens that the answer may have; ``None``: as many as it needs."""
    facts, tokens = request.facts, _TOKENS.get(features.complexity)
    if tokens is None or facts.answer_form.kind != "text" or facts.generations != 1:
        return None
    if facts.thinking_room is None or largest_number >= _PER_NUMBER:
        return None
    words = max(features.words, features.context_words)
    tokens = max(tokens, _PER_WORD * words) + facts.thinking_room
    if tier.most_output is None or tokens > tier.most_output:
        return None
    return tokens
