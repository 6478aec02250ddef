"""The stored answers of a cache in a PostgreSQL database, shared by all workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast, get_args

from langchain_tokenopt.cache.cache_file import CacheFile
from langchain_tokenopt.cache.cache_schema import CacheFileError
from langchain_tokenopt.cache.eviction import Eviction
from langchain_tokenopt.cache.memory_index import Entry, MemoryIndex
from langchain_tokenopt.cache.postgres_entries import PostgresEntries
from langchain_tokenopt.cache.postgres_index import PostgresIndex
from langchain_tokenopt.cache.postgres_turns import PostgresTurns
from langchain_tokenopt.cache.postgres_worth import Worth
from langchain_tokenopt.cache.repository import Repository
from langchain_tokenopt.cache.stored_row import Row
from langchain_tokenopt.storage.errors import PostgresError

__all__ = ["PostgresRepository"]

_NO_LIMIT: Final = 2**62


class PostgresRepository(Repository):
    """The stored answers of one cache; takes the arguments of :class:`Repository`.

    Raises:
        CacheFileError: If the database cannot be used with these settings.
        ValueError: If the URL cannot be read, or *eviction* is an object.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._url = url
        super().__init__(None, **options)

    def _open(self, embedder: str | None) -> None:
        if not isinstance(self._eviction, str) or self._eviction not in get_args(Eviction):
            raise ValueError(
                f"a cache in a database takes the name of an eviction policy, one of "
                f"{', '.join(get_args(Eviction))}: an object sees one process's requests only; "
                f"got {self._eviction!r}"
            )
        try:
            self._entries = PostgresEntries(
                self._url, embedder=embedder, worth=Worth(self._eviction, self._max_entries)
            )
        except PostgresError as error:
            raise CacheFileError(f"The cache cannot be used: {error}.") from error
        self._copy = PostgresIndex(self._entries, self._keep_answers)
        self._resets = 0
        # What is not replaced below works on these as it does on a file and what is in memory.
        self._file = cast(CacheFile, self._entries)
        self.index = cast(MemoryIndex, self._copy)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may work on the same entries."""
        return True

    @property
    def turns(self) -> PostgresTurns:
        """Where processes agree on who asks the model."""
        return self._entries.turns

    def top(self, limit: int) -> list[Entry]:
        """Return the entries that were served most, most served first."""
        self._try_to_write(self._write_behind)
        return self._copy.top(limit)

    def read_ahead(self, entries: Sequence[int], scope: bytes) -> None:
        """Read the answers of entries at once."""
        wanted = [entry for entry in entries if not self.is_unpacked(entry)]
        for entry, answers in (self._entries.answers_of(wanted, scope) if wanted else {}).items():
            self._keep_answers(entry, answers)

    def refresh(self) -> None:
        """Forget what other processes have removed, and take in what they have learned."""
        try:
            gone = self._entries.changes()
        finally:
            if self._resets != self._entries.resets:
                self._resets = self._entries.resets
                self._empty_memory()
        for entry in gone or ():
            self._forget(entry)
        self._labels += self._entries.new_evidence()

    def write(self, row: Row, answers: bytes) -> Row:
        """Write an entry in place of an earlier one to the same request; inside :meth:`changing`.

        It is found once :meth:`take_in` was given what is returned.
        """
        return self._entries.add(row, answers)

    def take_in(self, rows: Sequence[Row]) -> None:
        """Copy written rows, and let others go for them; inside :meth:`changing`."""
        self._copy.add_rows(rows)
        self._entries.remove_expired(self._clock())
        size = _NO_LIMIT if self._max_bytes is None else self._max_bytes
        self._entries.make_room(self._max_entries, size, [row.id for row in rows])

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the database: all of it, or nothing."""
        with super().changing():
            self.refresh()
            yield
        self.evicted, self.expired = self._entries.evicted, self._entries.expired

    def drop_scopes(self, is_meant: Callable[[bytes], bool]) -> None:
        """Delete the entries of some scopes."""
        with self.changing():
            self._entries.remove_scopes([scope for scope in self._copy.scopes() if is_meant(scope)])
            self._empty_memory()

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn what the server says into an error of the cache, where a caller is waiting."""
        try:
            yield
        except PostgresError as error:
            raise CacheFileError(
                f"The cache cannot be used now: {error}. Nothing was changed."
            ) from error

    def _follow_file(self) -> None:
        self._empty_memory()

    def _empty_memory(self) -> None:
        self._copy.forget_all()
        self._unpacked.clear()
