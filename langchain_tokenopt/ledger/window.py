"""Periods, and what sums by the hour and the day can say of them."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from langchain_tokenopt.core.moments import Moment, moment_from
from langchain_tokenopt.ledger import rows
from langchain_tokenopt.ledger.rows import DAY_US, HOUR_US

__all__ = ["Parts", "Span", "Window"]

Span = tuple[int, int]
"""From a number up to, not including, another."""


class Parts(NamedTuple):
    """A period in pieces that do not overlap."""

    days: Span | None
    hours: list[Span]
    edges: list[Span]
    """In microseconds."""


class Window:
    """A period in microseconds, from *since* up to, not including, *until*.

    Raises:
        ValueError: *since* is later than *until*, or a text is no time.
    """

    FOREVER: ClassVar = 2**62

    def __init__(self, since: Moment | None, until: Moment | None) -> None:
        begin = None if since is None else moment_from(since)
        end = None if until is None else moment_from(until, end=True)
        self.start = 0 if begin is None else max(0, rows.microseconds(begin))
        self.end = self.FOREVER if end is None else max(0, rows.microseconds(end))
        if self.start > self.end:
            raise ValueError(f"since ({since}) is later than until ({until}).")

    @property
    def whole(self) -> Parts:
        """Return it as one piece: to be read from rows."""
        return Parts(None, [], [(self.start, self.end)])

    def parts(self, *, days: bool, horizon: int = 0) -> Parts:
        """Return as large pieces as there are sums for: days of UTC if wanted, hours, the rest.

        Args:
            days: Whether there are sums of days.
            horizon: Before it there are no rows, and each hour belongs to where it begins.
        """
        start, end = (
            -(-at // HOUR_US) * HOUR_US if at < horizon else at for at in (self.start, self.end)
        )
        hours, edges = _within((start, end), HOUR_US)
        if hours is None:
            return Parts(None, [], [(start, end)] if start < end else [])
        day, left = _within(hours, DAY_US // HOUR_US) if days else (None, [hours])
        return Parts(day, left, edges)


def _within(span: Span, width: int) -> tuple[Span | None, list[Span]]:
    """Return the whole pieces of a *width* that lie in *span*, and what is left of it."""
    first, end = -(-span[0] // width), span[1] // width
    if first >= end:
        return None, [span]
    left = [(span[0], first * width), (end * width, span[1])]
    return (first, end), [(start, stop) for start, stop in left if start < stop]
