"""What two questions have in common, whatever words they put it in."""

from __future__ import annotations

from difflib import SequenceMatcher

from langchain_tokenopt.cache.wording.questions import Wording, wording_of
from langchain_tokenopt.cache.wording.rules import RULES

__all__ = ["RULES", "Wording", "only_difference", "wording_of"]


def only_difference(stored: str, asked: str) -> str:
    """Say in which words two wordings of one question differ.

    Example:
        >>> only_difference("How do I reset a PIN?", "How can I reset the PIN?")
        "differs only in: 'do' / 'can', 'a' / 'the'"
    """
    one, other = stored.split(), asked.split()
    parts = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    found = [
        f"{' '.join(one[a:b])!r} / {' '.join(other[c:d])!r}"
        for kind, a, b, c, d in parts
        if kind != "equal"
    ]
    return f"differs only in: {', '.join(found)}"
