"""The smallest piece of a text that is kept or dropped as a whole, and the kinds there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "Unit", "add_units", "frames_of", "without_head"]

Kind = Literal[
    "prose",
    "heading",
    "label",
    "tag",
    "code",
    "json",
    "quote",
    "data",
    "table",
    "list",
    "log",
    "diff",
    "turn",
    "example",
    "block",
]


@dataclass(slots=True)
class Unit:
    """The smallest piece that is kept or dropped as a whole."""

    start: int
    end: int
    kind: Kind = "prose"
    source: int = 0
    """Which text it stands in."""
    passage: int = 0
    """Which passage it belongs to; units of a passage are ranked together."""
    head: int = -1
    """Index of the unit without which this one makes no sense: a title, a table's header."""
    bound: int = -1
    """Index of the unit together with which this one is kept or dropped: an end tag its start."""
    required: bool = False
    tokens: int = 0
    overhead: int = 0
    """Tokens around the text that are paid with it, such as a message's frame."""
    frame: bool = False
    """Opens or closes what others stand in; alone it would say that there is nothing."""

    def within(self, text: str) -> str:
        """Return the unit's part of *text*."""
        return text[self.start : self.end]

    def copy(self) -> Unit:
        """Return a unit that may be changed without this one."""
        return Unit(
            self.start, self.end, self.kind, self.source, self.passage, self.head, self.bound,
            self.required, self.tokens, self.overhead, self.frame,
        )  # fmt: skip


def add_units(units: list[Unit], added: Sequence[Unit], head: int = -1, shift: int = 0) -> None:
    """Add units that know each other; those without a head get *head*, all are moved by *shift*."""
    first = len(units)
    for unit in added:
        unit.start += shift
        unit.end += shift
        if unit.bound >= 0:
            unit.bound += first
        unit.head = unit.head + first if unit.head >= 0 else head if unit.bound < 0 else -1
    units += added


def frames_of(units: Sequence[Unit]) -> frozenset[int]:
    """Return the units that open and close others: alone they would say that there is nothing."""
    return frozenset([at for at, unit in enumerate(units) if unit.frame])


def without_head(units: list[Unit], at: int) -> None:
    """Let a unit stand without its label or title; rows still need the head of their table."""
    head = units[at].head
    if head >= 0 and units[head].kind in ("label", "heading", "tag"):
        units[at].head = -1
