"""Whether two values are the same, however they are written."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from langchain_tokenopt.data_requests.phrases import folded

__all__ = ["same"]


def same(left: Any, right: Any) -> bool:
    """Say whether two values are one, in another case, width or format.

    Example:
        >>> same("Berlin ", "BERLIN"), same(3, 3.0), same(["a", "b"], ("A", "b")), same(True, 1)
        (True, True, True, False)
    """
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return _bare(left) == _bare(right)
    if isinstance(left, int | float | Decimal) and isinstance(right, int | float | Decimal):
        return Decimal(str(left)) == Decimal(str(right))
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, date) or isinstance(right, date):
        return str(left) == str(right)
    return bool(left == right)


def _bare(text: str) -> str:
    return folded(text).strip(" .,;:!?\"'。，！？")
