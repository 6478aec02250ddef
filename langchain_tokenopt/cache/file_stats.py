"""What a cache file says of itself, read without opening it as a cache: nothing is written."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_tokenopt.cache.cache_file import SIZE
from langchain_tokenopt.cache.cache_schema import embedder_of
from langchain_tokenopt.cache.fields import Fields
from langchain_tokenopt.cache.stats import CacheStats
from langchain_tokenopt.storage.sqlite import connect_to_read

__all__ = ["stats_in"]


def stats_in(path: str | Path, *, max_wrong_per_request: float = 0.01) -> CacheStats:
    """Return what all processes have done with a cache file, as far as it is written.

    Args:
        path: The file.
        max_wrong_per_request: The limit that the cache keeps to; it decides what is served, and so
            how many wrong answers are to be expected.

    Raises:
        CacheFileError: There is no such file, it is no cache, or it cannot be used.
        sqlite3.Error: It cannot be read now.
    """
    embedder_of(path)
    with contextlib.closing(connect_to_read(Path(path))) as database:
        database.execute("BEGIN")
        entries, size = database.execute(
            f"SELECT count(*), coalesce(sum({SIZE}), 0) FROM entry"
        ).fetchone()
        counts: Counter[str] = Counter(
            dict(
                database.execute(
                    "SELECT substr(name, 7), CAST(value AS INTEGER) FROM setting "
                    "WHERE name LIKE 'count %'"
                ).fetchall()
            )
        )
        evidence = database.execute("SELECT observations FROM evidence ORDER BY id").fetchall()
    fields = Fields(max_wrong_per_request, 0.0, random.Random(0), max_wrong_per_request)
    for (text,) in evidence:
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            fields.restore(json.loads(text))
    return CacheStats(
        entries=entries,
        bytes=size,
        misses=_named(counts, "miss: "),
        not_stored=_named(counts, "not stored: "),
        fields=fields.stats(),
        **_counted(counts),
    )


def _named(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    return {name.removeprefix(kind): n for name, n in counts.items() if name.startswith(kind)}


def _counted(counts: Mapping[str, int]) -> dict[str, Any]:
    names = {"exact": "exact_hits", "same words": "same_words_hits", "semantic": "semantic_hits"}
    kept = ("requests", "saved_tokens", "checked", "checked_wrong", "evicted", "expired")
    return {names.get(name, name): counts.get(name, 0) for name in (*names, *kept, "rejected")}
