"""What stands around an agent, as a table for people."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_tokenopt.core.levels import Level
from langchain_tokenopt.whole.path import PathPart

__all__ = ["Explanation"]

_HEADS = ("part", "", "setting", "why", "may change", "switch")


@dataclass(frozen=True, repr=False)
class Explanation:
    """What runs around an agent and why; ``print`` shows it as a table."""

    level: Level
    parts: tuple[PathPart, ...]
    notes: tuple[str, ...] = ()
    """What a reader has to know besides: what is not covered, what has to be done."""

    def __str__(self) -> str:
        rows = [_HEADS, *(_row(part) for part in self.parts)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join([f"level: {self.level}", *lines, *self.notes])

    def __repr__(self) -> str:
        on = ", ".join(part.name for part in self.parts if part.is_on)
        return f"<Explanation: level {self.level}, on: {on or 'nothing'}>"


def _row(part: PathPart) -> tuple[str, ...]:
    state = "on" if part.is_on else "off"
    return part.name, state, part.setting, part.why, part.may_change, part.switch
