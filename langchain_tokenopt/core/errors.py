"""Everything this package raises or warns with.

- ``TokenOptError`` (an ``Exception``)
  - ``BudgetExceededError``, also a langchain_core ``ModelError`` and a ``RuntimeError``
  - ``BudgetInfeasibleError``, also a ``ValueError``
  - ``BudgetStoreError`` (``langchain_tokenopt.budget``): a store of budgets cannot be reached
  - ``WordLimitExceededError`` (``langchain_tokenopt.limits``), also a ``ValueError``
  - ``LedgerError`` (``langchain_tokenopt.ledger``): a ledger cannot be opened, read or written
  - ``PlaceError``, also a ``ValueError``: something is to be kept where nothing can be
  - ``UnknownTimeZoneError``, also a ``ValueError``: the clocks of no place go by this name
  - ``HostVersionError``, also an ``ImportError``: a package is installed in too old a release
- ``TokenOptWarning`` (a ``UserWarning``): an optimizer stood aside and let the call through
- ``StopStream``: no error but a signal between a stage and the model's stream
"""

from __future__ import annotations

from langchain_core.exceptions import ModelError

__all__ = [
    "BudgetExceededError",
    "BudgetInfeasibleError",
    "HostVersionError",
    "PlaceError",
    "StopStream",
    "TokenOptError",
    "TokenOptWarning",
    "UnknownTimeZoneError",
]


class TokenOptError(Exception):
    """Base of every error that this package raises on its own account."""


class PlaceError(TokenOptError, ValueError):
    """What names a file or a database is neither, or cannot be read; it is not repeated."""


class HostVersionError(TokenOptError, ImportError):
    """A package that this one builds on is installed in a release that is too old."""


class BudgetExceededError(TokenOptError, ModelError, RuntimeError):
    """A model call would spend more tokens than its account has left.

    It is a ``ModelError`` that says it cannot be retried, and a ``RuntimeError``, so neither
    LangChain's model retries nor LangGraph's default ``RetryPolicy`` repeat the call.

    Args:
        account: The agent or budget that is exhausted.
        needed_tokens: What this call would have reserved.
        left_tokens: What the account still had.
        limit_tokens: What the account had in the beginning.
        because: One sentence, where it is not a matter of these numbers.

    Example:
        >>> raise BudgetExceededError(
        ...     account="writer", needed_tokens=3_100, left_tokens=1_200, limit_tokens=2_500
        ... )
        Traceback (most recent call last):
        ...
        langchain_tokenopt.core.errors.BudgetExceededError: 'writer' needs 3,100 tokens for this \
call but has 1,200 of 2,500 left. Raise its share or the total of the plan, or shorten the prompt.
    """

    is_retryable = False
    why: str | None = None
    """The reason alone, where it is known: what a model may read, who can raise no limit."""

    def __init__(
        self,
        *,
        account: str,
        needed_tokens: int,
        left_tokens: int,
        limit_tokens: int,
        because: str | None = None,
    ) -> None:
        self.account = account
        self.needed_tokens = needed_tokens
        self.left_tokens = left_tokens
        self.limit_tokens = limit_tokens
        super().__init__(
            because
            or f"{account!r} needs {needed_tokens:,} tokens for this call but has {left_tokens:,} "
            f"of {limit_tokens:,} left. Raise its share or the total of the plan, "
            f"or shorten the prompt."
        )


class BudgetInfeasibleError(TokenOptError, ValueError):
    """What must be kept does not fit into what may be sent.

    Args:
        required_tokens: Tokens of the parts that must not be dropped.
        max_tokens: The limit that was asked for.
        remedy: What the caller can do about it, one sentence.
    """

    def __init__(self, *, required_tokens: int, max_tokens: int, remedy: str) -> None:
        self.required_tokens = required_tokens
        self.max_tokens = max_tokens
        super().__init__(
            f"The parts that must be kept need {required_tokens:,} tokens "
            f"but only {max_tokens:,} are allowed. {remedy}"
        )


class UnknownTimeZoneError(TokenOptError, ValueError):
    """No time zone has this name.

    Args:
        name: What was asked for.
        remedy: What the caller can do about it.
    """

    def __init__(self, name: object, remedy: str) -> None:
        self.name = name
        self.remedy = remedy
        super().__init__(f"no time zone is named {name!r}. {remedy}")


class TokenOptWarning(UserWarning):
    """An optimizer could not do its work and let the call through unchanged."""


class StopStream(Exception):  # noqa: N818  a signal, as StopIteration is
    """The model has said enough: raised by a stage, it ends the model's stream."""
