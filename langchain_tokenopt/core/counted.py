"""Numbers of things in sentences."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Write a number of things.

    Example:
        >>> counted(1, "agent"), counted(1_200, "agent"), counted(0, "entry", "entries")
        ('1 agent', '1,200 agents', '0 entries')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
