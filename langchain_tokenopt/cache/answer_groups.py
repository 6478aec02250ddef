"""Which stored answers count as one: those that say the same."""

from __future__ import annotations

__all__ = ["AnswerGroups"]


class AnswerGroups:
    """Groups of entries whose answers say the same, each named by the number of one entry.

    An entry starts in the group that it was stored with. Two groups become one when a later answer
    turns out to say what both say.

    Example:
        >>> groups = AnswerGroups()
        >>> groups.unite(1, 5)
        >>> groups.unite(5, 7)
        >>> groups.of(7)
        1
    """

    def __init__(self) -> None:
        self._united: dict[int, int] = {}

    def of(self, group: int) -> int:
        """Return the number that stands for *group* now."""
        while group in self._united:
            group = self._united[group]
        return group

    def unite(self, kept: int, other: int) -> None:
        """Make *other* a part of *kept* from now on."""
        kept, other = self.of(kept), self.of(other)
        if kept != other:
            self._united[other] = kept
