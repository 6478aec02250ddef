"""What an error says about the bill."""

from __future__ import annotations

__all__ = ["may_have_been_billed"]


def may_have_been_billed(error: BaseException) -> bool:
    """Whether a call that failed may have been answered, and billed, all the same.

    A refusal says so with a status; a connection that could not be made brought nothing. A request
    that timed out was under way.

    Example:
        >>> may_have_been_billed(TimeoutError()), may_have_been_billed(ConnectionError())
        (True, False)
    """
    if getattr(error, "status_code", None) is not None:
        return False
    return isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
