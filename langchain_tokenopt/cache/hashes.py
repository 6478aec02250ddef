"""Hashes by which requests and scopes are told apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

__all__ = ["hash_of"]

_AS_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def hash_of(*parts: Any) -> bytes:
    """Return a hash of JSON-able values.

    Example:
        >>> len(hash_of("a", {"b": [1]})), hash_of("ab") == hash_of("a", "b")
        (16, False)
    """
    return hashlib.blake2b(_AS_JSON.encode(parts).encode(), digest_size=16).digest()
