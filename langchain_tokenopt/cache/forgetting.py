"""What was observed of one owner's answers, taken out of what was observed of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

__all__ = ["count_observations", "without_owner"]


_NONE: Final = ["field"], ["apart"], ["asked"]
"""Rows that say where fields are and what was asked, and not what came out."""


def count_observations(texts: Iterable[str]) -> int:
    """Return how many observations are in the batches of a file.

    Example:
        >>> count_observations(['[["words", "0a", true], ["asked", "f", 1, []]]'])
        1
    """
    return sum(row[:1] not in _NONE for text in texts for row in json.loads(text))


def without_owner(
    batches: Iterable[tuple[int, str]], is_meant: Callable[[bytes], bool]
) -> list[tuple[int, str | None]]:
    """Return the batches that change when an owner's fields go, with all that is known of them.

    Args:
        batches: Numbers and texts, as they are stored.
        is_meant: Whether a domain is the owner's.

    Returns:
        Their numbers and new texts; ``None`` where nothing is left.

    Example:
        >>> field, label = ["field", "f", "0a", 1, [1.0]], ["label", "f", [], True, False, []]
        >>> other = ["words", "0b", True]
        >>> batches = [(1, json.dumps([field])), (2, json.dumps([label, other]))]
        >>> without_owner(batches, lambda domain: domain == bytes.fromhex("0a"))
        [(1, None), (2, '[["words", "0b", true]]')]
    """
    read = [(number, json.loads(text)) for number, text in batches]
    every: list[Any] = [row for _, rows in read for row in rows]
    owned = {row[1] for row in every if row[0] == "field" and is_meant(bytes.fromhex(row[2]))}
    owned |= {row[1] for row in every if row[0] == "words" and is_meant(bytes.fromhex(row[1]))}
    changed = []
    for number, rows in read:
        kept = [row for row in rows if row[1] not in owned]
        if len(kept) < len(rows):
            changed.append((number, json.dumps(kept) if kept else None))
    return changed
