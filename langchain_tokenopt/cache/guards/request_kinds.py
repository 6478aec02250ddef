"""Requests that no stored answer can satisfy, recognised by their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["REQUEST_KINDS", "is_about_now", "is_action", "is_personal"]


_NOW = re.compile(
    r"\b(right now|at the moment|current(ly)?|today|tonight|tomorrow|yesterday|latest|this "
    r"(morning|afternoon|evening|week|month)|what time|what('s| is) the (time|date|weather)|"
    r"weather (in|today|like)|news|live score|stock price|exchange rate|just now|so far|"
    r"up to date)\b",
    re.I,
)
_RECORDS = (
    r"balance|orders?|parcel|package|invoices?|bills?|appointments?|reservations?|bookings?|"
    r"transactions?|statement|inbox|schedule|calendar|salary|grades?|test results?|debts?"
)
_PERSONAL = re.compile(
    rf"^(?!\s*how (do|can|to|should|would|could)\b)(?!\s*(can|may|should) i\b)"
    rf".*\b((my|our) (\w+ ){{0,2}}({_RECORDS})\b|(do|did|have|am) i (owe|owing|spen[dt]|earn))",
    re.I | re.S,
)
_ACTION = re.compile(
    r"^\s*(please |kindly |now |can you |could you |would you |i want you to |go ahead and )*"
    r"(send|delete|remove|cancel|book|order|buy|pay|transfer|schedule|create|update|post|call|"
    r"email|remind|turn (on|off)|set (a|an|my|the)|start|stop|restart|deploy|run|execute|submit|"
    r"reserve|refund|close|open|block|unblock|add|move|rename|upload|download) "
    r"(?!.*\bhow\b)(me |my |the |this |that |these |a |an |all |it\b|them\b|\d|to |out )",
    re.I,
)


def is_about_now(text: str) -> bool:
    """Say whether the right answer depends on when it is asked.

    Example:
        >>> is_about_now("What is the weather like today?"), is_about_now("What is weather?")
        (True, False)
    """
    return _NOW.search(text) is not None


def is_personal(text: str) -> bool:
    """Say whether the right answer depends on the asker's own records; "my" alone does not.

    Example:
        >>> is_personal("Where is my order?"), is_personal("How do I change my PIN?")
        (True, False)
    """
    return _PERSONAL.search(text) is not None


def is_action(text: str) -> bool:
    """Say whether the request asks for an action rather than for an answer.

    Example:
        >>> is_action("Delete my old files"), is_action("How do I delete old files?")
        (True, False)
    """
    return _ACTION.match(text) is not None


REQUEST_KINDS: Final[Mapping[str, Callable[[str], bool]]] = {
    "personal": is_personal,
    "now": is_about_now,
    "action": is_action,
}
"""Kinds of requests that a cache can be set to leave alone, by name."""
