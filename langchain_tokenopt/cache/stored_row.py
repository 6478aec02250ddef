"""One entry as it is stored, in a file or in a database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

__all__ = ["OVERHEAD", "Row", "checksum_of", "is_plausible"]

OVERHEAD: Final = 96
"""Bytes that a row takes besides question, vector and answers."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is stored, without its answers."""

    id: int
    """0 before it is stored."""
    exact: bytes
    scope: bytes
    question: str | None
    vector: bytes | None
    """Little-endian 16-bit floats."""
    agrees_with: int | None
    """The oldest entry with the same answer; ``None`` when it is itself the oldest."""
    tokens: int
    """What the answer once cost, input and output."""
    created: float
    expires: float | None
    hits: int = 0
    size: int = 0
    """Bytes of question, vector and answers."""
    near: bytes | None = None
    """What ``wording_hash`` says of scope and question; ``None`` where it is not known."""

    @property
    def group(self) -> int:
        """The oldest entry with the same answer."""
        return self.id if self.agrees_with is None else self.agrees_with


def checksum_of(
    salt: bytes,
    exact: bytes,
    scope: bytes,
    question: str | None,
    vector: bytes | None,
    answers: bytes,
) -> bytes:
    """Return the checksum of an entry: its answers belong to this request, in this scope."""
    text = (question or "").encode("utf-8", "surrogatepass")
    parts = exact, scope, text, vector or b"", answers
    said = b"".join([piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)])
    return hashlib.blake2b(said, digest_size=8, key=salt).digest()


def is_plausible(row: Row) -> bool:
    """Say whether a row holds values of the types that :meth:`CacheFile.add` writes."""
    return (
        type(row.exact) is bytes
        and type(row.scope) is bytes
        and (row.question is None or type(row.question) is str)
        and (row.vector is None or (type(row.vector) is bytes and len(row.vector) % 2 == 0))
        and (row.agrees_with is None or type(row.agrees_with) is int)
        and type(row.tokens) is int
        and (row.expires is None or type(row.expires) is float)
        and type(row.hits) is int
        and (row.near is None or type(row.near) is bytes)
    )
