"""Retries that end at a budget's refusal: it stays refused, and waiting between them takes minutes.

An error can say of itself that it is final (``is_retryable``), and LangChain's middleware reads it;
tenacity, which ``with_retry`` and many libraries are made of, asks for the error's class only.
"""

from __future__ import annotations

from functools import cache, wraps
from typing import Any, Final

from langchain_core.exceptions import ModelError
from langchain_core.tools import ToolException

from langchain_tokenopt.core.errors import BudgetExceededError

__all__ = ["take_budget_errors_as_final"]

_GENERAL: Final = (Exception, RuntimeError, ModelError, ToolException)
"""What a budget's refusal is besides. Whoever retries one of these has not thought of budgets."""


@cache
def take_budget_errors_as_final() -> None:
    """Have tenacity's retries end at a ``BudgetExceededError``; once in a process.

    A retry that names the error, as one that waits for a new day's budget does, goes on: only those
    that would repeat others as well end. Changed is ``retry_if_exception.__call__`` of tenacity
    8 and 9, which all conditions on exceptions share but ``retry_unless_exception_type``.
    """
    from tenacity.retry import retry_if_exception

    asked = retry_if_exception.__call__

    @wraps(asked)
    def is_to_be_repeated(self: Any, retry_state: Any) -> bool:
        is_wanted = asked(self, retry_state)
        if not is_wanted:
            return False
        error = retry_state.outcome.exception()
        if not isinstance(error, BudgetExceededError):
            return True
        return not any(self.predicate(kind(str(error))) for kind in _GENERAL)

    retry_if_exception.__call__ = is_to_be_repeated  # type: ignore[method-assign]
