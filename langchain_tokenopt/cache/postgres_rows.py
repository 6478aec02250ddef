"""Rows of the tables as the cache knows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from langchain_tokenopt.cache.stored_row import Row
from langchain_tokenopt.storage.postgres import from_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ALIVE",
    "ROW",
    "question_in_row",
    "row_of",
    "vector_bytes",
    "vector_text",
]

ROW: Final = "id, exact, scope, question, agrees_with, tokens, created, expires, hits, size, near"
ALIVE: Final = "(expires IS NULL OR expires > %s)"
"""Whether a row may be served at a time."""


def row_of(values: Sequence[Any]) -> Row:
    """Return what the columns of :data:`ROW` say."""
    number, exact, scope, question, *rest = values
    agrees_with, tokens, created, expires, hits, size, near = rest
    return Row(
        *(number, exact, scope, question_in_row(question), None, agrees_with),
        *(tokens, created, expires, hits, size, near),
    )


def question_in_row(stored: str | None) -> str | None:
    """Return a question as it was asked."""
    return None if stored is None else from_text(stored)


def vector_text(vector: NDArray[np.floating[Any]]) -> str:
    """Return a vector as pgvector reads it; five digits are all that 16-bit floats have."""
    return "[" + ",".join([f"{number:.5g}" for number in vector.tolist()]) + "]"


def vector_bytes(stored: str | bytes | None) -> bytes | None:
    """Return a vector as a file has it: little-endian 16-bit floats."""
    if isinstance(stored, str):
        return np.array(json.loads(stored), dtype="<f2").tobytes()
    return stored
