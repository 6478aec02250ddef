"""Requests that differ in their system text alone, where a clock, a date or an id may stand."""

from __future__ import annotations

from collections import OrderedDict
from difflib import SequenceMatcher
from typing import Final

from langchain_tokenopt.cache.key import Question

__all__ = ["SystemTexts", "changed_words"]

_REMEMBERED: Final = 1_024
_SHOWN: Final = 3


class SystemTexts:
    """The system texts under which questions were asked last."""

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, str] = OrderedDict()

    def take(self, question: Question) -> bool:
        """Remember a question; whether it was asked before under another system text only."""
        if not question.but_system:
            return False
        before = self._last.pop(question.but_system, question.system)
        self._last[question.but_system] = question.system
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return before != question.system

    def before(self, question: Question) -> str | None:
        """Return the other system text under which a question was asked last."""
        before = self._last.get(question.but_system) if question.but_system else None
        return None if before == question.system else before


def changed_words(before: str, now: str) -> str:
    """Say what differs between two texts.

    Example:
        >>> changed_words("Answer briefly. It is 14:03 now.", "Answer briefly. It is 14:05 now.")
        "'14:03' is now '14:05'"
    """
    old, new = before.split(), now.split()
    found = [
        f"{' '.join(old[a:b])[:60]!r} is now {' '.join(new[c:d])[:60]!r}"
        for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
    return "; ".join(found[:_SHOWN]) or "its blanks"
