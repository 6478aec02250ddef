"""Answers from one store into another: a file into a database, or back."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from langchain_tokenopt.cache.cache_file import CacheFile
from langchain_tokenopt.cache.cache_schema import NO_EMBEDDER, CacheFileError
from langchain_tokenopt.cache.repositories import embedder_in
from langchain_tokenopt.cache.stored_row import Row
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.places import label_of, place_of

__all__ = ["checked_cache_copy"]

_AT_ONCE: Final = 256


class _Store(Protocol):
    def stored(self) -> Iterator[tuple[Row, bytes]]: ...
    def add(self, row: Row, answers: bytes) -> Row: ...
    def transaction(self) -> Any: ...
    def count_hits(self, hits: Iterable[tuple[int, int]]) -> None: ...
    def new_evidence(self) -> list[Any]: ...
    def keep_evidence(self, labels: Any) -> list[Any]: ...
    def probe(self) -> bytes | None: ...
    def keep_probe(self, vector: bytes) -> None: ...


@contextmanager
def checked_cache_copy(
    source: str | Path, target: str | Path
) -> Iterator[Callable[[Counter[str]], dict[str, int]]]:
    """Look whether a cache can be copied, and yield what copies it.

    What is there already is passed over, so what was interrupted is taken up by doing it again.
    Answers that cannot be read stay behind. Nobody should be using either meanwhile.

    Yields:
        A function that counts in its argument the answers it copies, and returns what both have in
        the end: answers, hits, tokens that answers once cost, observations.

    Raises:
        CacheFileError: A store cannot be used, holds another embedder's vectors, answers that the
            other has not, or other sums.
        ValueError: A URL cannot be read.
    """
    embedder = embedder_in(source)
    known = None if embedder == NO_EMBEDDER else embedder
    with _opened(source, known) as one, _opened(target, known) as other:
        learned, there = (_learned(store) for store in (one, other))
        foreign = _contents(other)
        if foreign:
            foreign -= _contents(one)
        if foreign or there != learned[: len(there)]:
            raise CacheFileError(
                f"{label_of(target)} has {len(foreign):,} answers of its own or with other hits, "
                f"and {len(there):,} observations, where {label_of(source)} has "
                f"{len(learned):,}; they were left as they are. Copy into an empty one."
            )

        def copy(copied: Counter[str]) -> dict[str, int]:
            _copy_entries(one, other, copied)
            probe = one.probe()
            if probe is not None and other.probe() is None:
                other.keep_probe(probe)  # which indexes the vectors, all at once
            for start in range(len(there), len(learned), _AT_ONCE):
                other.keep_evidence(learned[start : start + _AT_ONCE])
            sums, found = (_sums(store, len(learned)) for store in (one, other))
            if sums != found:
                raise CacheFileError(
                    f"{label_of(target)} has {found} in the end, and {label_of(source)} has "
                    f"{sums}: one of them was in use. Copy into an empty one, and stop whoever "
                    f"writes."
                )
            return sums

        yield copy


def _contents(store: _Store) -> set[bytes]:
    """Return what tells each answer, and how often it was served, from all others."""
    return {
        sha256(b"%s %d %d %s" % (row.exact, row.tokens, row.hits, answers)).digest()
        for row, answers in store.stored()
    }


def _learned(store: _Store) -> list[Any]:
    """Return what came out of requests; how many came elsewhere says nothing of a new place."""
    return [row for row in store.new_evidence() if row[:1] != ["asked"]]


def _copy_entries(one: _Store, other: _Store, copied: Counter[str]) -> None:
    there = {row.exact: row.id for row, _ in other.stored()}
    groups: dict[int, int] = {}
    rows = one.stored()
    while page := list(islice(rows, _AT_ONCE)):
        new_answers = sum(row.exact not in there for row, _ in page)
        with other.transaction():
            for row, answers in page:
                number = there.get(row.exact)
                if number is None:
                    new = replace(row, id=0, agrees_with=groups.get(row.group))
                    number = other.add(new, answers).id
                    if row.hits:
                        other.count_hits([(number, row.hits)])
                groups.setdefault(row.group, number)
        copied["answers"] += new_answers


def _sums(store: _Store, observations: int) -> dict[str, int]:
    sums = {"answers": 0, "hits": 0, "tokens": 0, "observations": observations}
    for row, _ in store.stored():
        for name, more in (("answers", 1), ("hits", row.hits), ("tokens", row.tokens)):
            sums[name] += more
    return sums


@contextmanager
def _opened(place: str | Path, embedder: str | None) -> Iterator[_Store]:
    found = place_of(place)
    if isinstance(found, Path):
        try:
            with closing(CacheFile(found, embedder=embedder)) as file:
                yield file
        except sqlite3.Error as error:
            raise CacheFileError(f"{found} cannot be used: {error}.") from error
        return
    module = import_module("langchain_tokenopt.cache.postgres_entries")
    try:
        with closing(module.PostgresEntries(found, embedder=embedder)) as entries:
            yield entries
    except PostgresError as error:
        raise CacheFileError(f"{error}.") from error
