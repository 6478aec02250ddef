"""What happens to an answer that is longer than its limit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, TypeVar

from langchain_core.messages import AIMessage

from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.core.staged_runs import TRIMMED_BY
from langchain_tokenopt.counting.tokens import TokenCounter
from langchain_tokenopt.limits.compliance import STAGE
from langchain_tokenopt.limits.excerpt import Excerpt, Limit

__all__ = ["LimitRule", "OnExceed", "WordLimitExceededError", "marked"]

OnExceed = Literal["trim", "raise", "warn"]

MessageT = TypeVar("MessageT", bound=AIMessage)


class WordLimitExceededError(TokenOptError, ValueError):
    """An answer is longer than allowed, and ``on_exceed`` is ``"raise"``.

    Args:
        limit: What was allowed.
        agent: Whose answer it was.
    """

    def __init__(self, limit: Limit, agent: str) -> None:
        self.max_words = limit.words
        self.max_tokens = limit.tokens
        self.max_sentences = limit.sentences
        self.agent = agent
        super().__init__(
            f"The answer of {agent!r} is longer than the {limit} allowed, and was stopped there. "
            f"Raise the limit, or use on_exceed='trim' to get the part that fits."
        )


@dataclass(frozen=True, slots=True)
class LimitRule:
    """How long answers may be, and what happens to those that are longer."""

    limit: Limit
    on_exceed: OnExceed

    @property
    def shows_all(self) -> bool:
        """Whether nothing is ever left out."""
        return self.on_exceed == "warn"

    def excerpt(self, counter: TokenCounter) -> Excerpt:
        """Return an excerpt of nothing yet, whose tokens *counter* counts."""
        return Excerpt(self.limit, lambda text: counter.count(text).tokens)

    def check(self, excerpt: Excerpt, agent: str) -> None:
        """Refuse an answer that is known to be too long, where the rule says so.

        Raises:
            WordLimitExceededError: The answer is too long and ``on_exceed`` is ``"raise"``.
        """
        if self.on_exceed == "raise" and (excerpt.has_exceeded or excerpt.is_cut):
            raise WordLimitExceededError(self.limit, agent)

    def warn(self, agent: str) -> None:
        """Say that an answer was too long and is shown all the same."""
        warnings.warn(
            f"The answer of {agent!r} is longer than the {self.limit} allowed.",
            TokenOptWarning,
            stacklevel=3,
        )


def marked(message: MessageT, mark: str = TRIMMED_BY) -> MessageT:
    """Return *message* with the mark of an answer of which something was left out.

    Around a model, the seam itself marks an answer that was stopped.

    Example:
        >>> marked(AIMessage("One.")).response_metadata
        {'tokenopt_trimmed_by': 'WordLimit'}
    """
    said = {**message.response_metadata, mark: STAGE}
    return message.model_copy(update={"response_metadata": said})
