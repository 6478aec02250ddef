"""What leaves the process about an event: names and numbers, never what was asked or answered."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import datetime
from typing import Any, Final, Literal, get_args
from uuid import UUID

from langchain_tokenopt.core.records import BudgetEvent, CallRecord, Saving, UsageEvent
from langchain_tokenopt.ledger.flat_rows import flat_row
from langchain_tokenopt.pricing.money import exact_usd

__all__ = ["EVENT_TYPES", "EventType", "as_json", "type_of"]

EventType = Literal["usage", "saving", "alert", "denied", "degraded", "rebalanced"]
"""A call, a saving of a stage, or what a budget did."""

EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)

_TYPES: Final[dict[type, EventType]] = {CallRecord: "usage", Saving: "saving"}


def type_of(event: UsageEvent) -> EventType | None:
    """Return what kind of event it is; ``None`` for those that are not exported.

    Example:
        >>> type_of(Saving(stage="WordLimit", tokens_before=9, tokens_after=4))
        'saving'
    """
    return event.kind if isinstance(event, BudgetEvent) else _TYPES.get(type(event))


def as_json(event: UsageEvent) -> dict[str, Any]:
    """Return an event as values that JSON knows; money is text, with all its digits.

    Calls have the columns of ``tokenopt export``, but for the flaws of reports: they may quote what
    a provider has sent.

    Example:
        >>> shown = as_json(Saving(stage="WordLimit", tokens_before=9, tokens_after=4))
        >>> shown["type"], shown["saved_tokens"], shown["saved_usd"]
        ('saving', 5, None)
    """
    if isinstance(event, CallRecord):
        shown = flat_row(event)
        del shown["flaws"]
    else:
        shown = {each.name: getattr(event, each.name) for each in fields(event)}
        if isinstance(event, Saving):
            shown["saved_tokens"] = event.saved_tokens
            shown["saved_usd"] = exact_usd(shown.pop("saved_nano_usd"))
        shown["event_id"] = shown.pop("id", None)
    return {"type": type_of(event), **{name: _plain(value) for name, value in shown.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
