"""Names as labels of metrics: of bounded number and length, whatever somebody calls an agent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.dimensions import DIMENSIONS, Dimension, value_of
from langchain_tokenopt.core.printable import printable
from langchain_tokenopt.core.records import CallRecord, UsageEvent
from langchain_tokenopt.export.fan_out import id_of

__all__ = ["OTHER", "BoundedNames", "Labels", "SeenOnce"]

OTHER: Final = "(other)"
"""In place of the names that are too many."""

_LONGEST: Final = 200
_REMEMBERED: Final = 10_000


class BoundedNames:
    """The first names that come; all later ones are ``"(other)"``.

    Args:
        most: How many names, or tuples of names, are told apart.

    Example:
        >>> names = BoundedNames(2)
        >>> [names.of(name) for name in (("news",), ("risk",), ("spam-1",), ("news",))]
        [('news',), ('risk',), ('(other)',), ('news',)]
    """

    def __init__(self, most: int) -> None:
        self._most = check_whole("max_series", most)
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def of(self, names: Sequence[str | None]) -> tuple[str, ...]:
        """Return the names to use; those without a value are empty."""
        cut = tuple(printable(name or "")[:_LONGEST] for name in names)
        if len(self._known) < self._most:
            return self._known.setdefault(cut, cut)
        return self._known.get(cut) or (OTHER,) * len(cut)


class Labels:
    """Reads labels from calls.

    Args:
        dimensions: What calls are told apart by.
        most: How many combinations are told apart; the others are counted as ``"(other)"``.

    Raises:
        ValueError: There is no such dimension.
    """

    def __init__(self, dimensions: Sequence[Dimension], most: int) -> None:
        if isinstance(dimensions, str) or not set(dimensions) <= set(DIMENSIONS):
            raise ValueError(
                f"labels are some of {', '.join(DIMENSIONS)}, as in labels=('agent', 'model'); "
                f"got {dimensions!r}."
            )
        self.dimensions = tuple(dimensions)
        self._read = tuple(value_of(dimension) for dimension in dimensions)
        self._names = BoundedNames(most)

    def of(self, call: CallRecord) -> tuple[str, ...]:
        """Return a call's values, in the order of the dimensions."""
        return self._names.of([read(call) for read in self._read])


class SeenOnce:
    """Knows the latest events, so that one told twice counts once: of nested trackers, say."""

    def __init__(self) -> None:
        self._seen: dict[int, object] = {}

    def is_new(self, event: UsageEvent) -> bool:
        """Whether *event* has not been seen; from then on it has."""
        mark = object()
        # Atomic for whole numbers: there is no lock that a fork or a finalizer could find taken.
        is_new = self._seen.setdefault(id_of(event).int, mark) is mark
        while len(self._seen) > _REMEMBERED:
            with suppress(RuntimeError, StopIteration):  # another thread does the same
                self._seen.pop(next(iter(self._seen)), None)
        return is_new
