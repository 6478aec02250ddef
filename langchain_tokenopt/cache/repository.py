"""The stored answers: a file (or a database in memory), and what is kept of it in memory.

One lock guards everything that changes: the file, the indexes (FAISS crashes when one is searched
and changed at once), the eviction policy. Hold :attr:`Repository.lock` around every call.
"""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from langchain_core.outputs import Generation

from langchain_tokenopt.cache.cache_file import CacheFile
from langchain_tokenopt.cache.cache_schema import CacheFileError
from langchain_tokenopt.cache.eviction import Eviction, policy_for
from langchain_tokenopt.cache.eviction_policy import EvictionPolicy
from langchain_tokenopt.cache.memory_index import Entry, MemoryIndex
from langchain_tokenopt.cache.single_flight import Turns
from langchain_tokenopt.cache.stored_row import Row
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.sqlite import FileReplacedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FILE_ERRORS", "Repository"]

FILE_ERRORS: Final = (sqlite3.Error, FileReplacedError, PostgresError)
"""What can go wrong with a file, or a server, while it is used."""

_UNPACKED = 2_048
"""Entries of which the answers are kept in memory as objects."""
_HITS_PER_WRITE = 128
_PAUSE_SECONDS = 2.0
_PAUSE_FACTOR = 20.0
"""After a failed write none is tried for so long, or so many times what it took."""
_SAME_EMBEDDER = 0.99
"""Cosine of the vectors of one text by one model, whatever runs it; of two models, at most 0.9."""


class Repository:
    """The stored answers of one cache.

    Args:
        path: SQLite file; ``None`` keeps everything in memory.
        embedder: Fingerprint of the embedder whose vectors are stored; ``None`` for none.
        eviction: Decides which entry leaves when there are too many.
        max_entries: How many answers are kept.
        max_bytes: How many bytes of questions, vectors and answers are kept.
        ttl_seconds: Seconds after which an answer is not served any more.
        extend_ttl_on_hit: Count them from the last hit.
        clock: Returns the time in seconds since the epoch.

    Raises:
        CacheFileError: If *path* cannot be used with these settings.
    """

    labels_per_write = 4
    """Labels that come together before others hear of them: each sees few questions alone."""

    def __init__(
        self,
        path: Path | None,
        *,
        embedder: str | None,
        eviction: Eviction | EvictionPolicy,
        max_entries: int,
        max_bytes: int | None,
        ttl_seconds: float | None,
        extend_ttl_on_hit: bool,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self.evicted = self.expired = 0
        self._eviction: Eviction | EvictionPolicy = eviction
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._extends_ttl = extend_ttl_on_hit and ttl_seconds is not None
        self._clock = clock
        self._no_writing_before = 0.0
        self._unwritten_hits: Counter[int] = Counter()
        self._hits_until_write = _HITS_PER_WRITE
        self._has_warned = False
        self._labels: list[Any] = []
        self._unpacked: OrderedDict[int, list[Generation]] = OrderedDict()
        self._open(embedder)

    def _open(self, embedder: str | None) -> None:
        self.index = MemoryIndex(policy_for(self._eviction, self._max_entries))
        self._file = CacheFile(self.path, embedder=embedder)
        if self.path is None:
            return  # there is nothing in it yet
        with self.lock:
            try:
                self.refresh()
            except sqlite3.DatabaseError as error:
                self._file.start_anew(error)
                self._empty_memory()
                self.refresh()

    @property
    def lock(self) -> Any:
        """Return the re-entrant lock to hold; it is another one after a fork of the process."""
        return self._file.lock

    @property
    def is_shared(self) -> bool:
        """Whether other processes may work on the same entries."""
        return self.path is not None

    @property
    def turns(self) -> Turns | None:
        """Where processes agree on who asks the model; ``None`` where they do not."""
        return None

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._clock()

    # Reading

    def refresh(self) -> None:
        """Take in what other processes have written, and at the start everything."""
        changes = self._file.changes()
        if changes is None:
            return
        self._labels += self._file.new_evidence()
        rows, gone = changes
        self._unpacked.clear()
        for entry in gone:
            self._forget(entry)
        removed = set(gone)
        self.index.add_rows(
            [row for row in rows if row.id not in self.index and row.id not in removed]
        )

    def is_alive(self, entry: int, scope: bytes) -> bool:
        """Say whether an entry of a scope is there and may be served now."""
        return self.index.is_alive(entry, self._clock(), scope)

    def is_unpacked(self, entry: int | None) -> bool:
        """Say whether the answers of an entry are in memory, so that none need be read."""
        return entry in self._unpacked

    def answers(self, entry: int, scope: bytes) -> list[Generation] | None:
        """Return the stored answers; ``None``, and the entry is dropped, if they are gone."""
        answers = self._unpacked.get(entry)
        if answers is not None:
            self._unpacked.move_to_end(entry)
            return answers
        try:
            answers = self._file.answers(entry, scope)
        except sqlite3.OperationalError:  # locked, perhaps: the entry is not to blame
            raise
        except sqlite3.DatabaseError:
            self._forget(entry)
            raise
        if answers is None:
            self._forget(entry)
            self._try_to_write(self._file.remove, [entry])
            return None
        self._keep_answers(entry, answers)
        return answers

    def _keep_answers(self, entry: int, answers: list[Generation]) -> None:
        self._unpacked[entry] = answers
        if len(self._unpacked) > _UNPACKED:
            self._unpacked.popitem(last=False)

    def read_ahead(self, entries: Sequence[int], scope: bytes) -> None:
        """Read the answers of entries at once, where that is quicker than one by one."""

    def count_hit(self, entry: int) -> None:
        """Take note that an entry was served."""
        self.index.touch(entry)
        if self._extends_ttl:
            assert self._ttl_seconds is not None
            expires = self._clock() + self._ttl_seconds
            self.index.prolong(entry, expires)
            if self.is_shared:
                self._try_to_write(self._file.extend_expiry, entry, expires)
        if self.is_shared:
            self._unwritten_hits[entry] += 1
            self._hits_until_write -= 1
            if self._hits_until_write <= 0:
                self._hits_until_write = _HITS_PER_WRITE
                self._try_to_write(self._write_behind)

    def top(self, limit: int) -> list[Entry]:
        """Return the entries that were served most, most served first."""
        return self.index.top(limit)

    def labels(self) -> list[Any]:
        """Return, once, what earlier and other processes have learned, oldest first."""
        found, self._labels = self._labels, []
        return found

    def recognises(self, probe: NDArray[np.float32]) -> bool:
        """Say whether the embedder still gives this vector; the first one is kept in the file."""
        with self.lock:
            stored = self._file.probe()
            if stored is None:
                self._try_to_write(self._file.keep_probe, probe.astype("<f2").tobytes())
                return True
        known = np.frombuffer(stored, dtype="<f2").astype(np.float32)
        return len(known) == len(probe) and float(known @ probe) > _SAME_EMBEDDER

    def counts(self) -> Counter[str]:
        """Return what all processes have counted, as far as it is written."""
        return self._file.counts()

    # Writing

    def add_counts(self, counts: Mapping[str, int]) -> bool:
        """Write what was counted, hits of entries among it; say whether the file let us."""

        def write() -> None:
            self._write_behind()
            self._file.add_counts(counts)

        with self.lock:
            return self.try_quietly(write)

    def try_quietly(self, write: Callable[[], None]) -> bool:
        """Write what is tried again, so that nobody need be told; say whether it was written."""
        if self._file.is_closed or not self.may_write:
            return False
        began = time.monotonic()
        try:
            write()
        except FILE_ERRORS:
            self._pause_writing(time.monotonic() - began)
            return False
        return True

    @property
    def may_write(self) -> bool:
        """Whether writing is tried at present: not for a while after it has failed."""
        return time.monotonic() >= self._no_writing_before

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change file and memory together: if the file refuses, memory follows it."""
        with self.lock:
            began, has_begun = time.monotonic(), False
            try:
                with self._file.transaction():
                    has_begun = True
                    yield
            except BaseException as error:
                if isinstance(error, FileReplacedError):
                    self._file.reopen()
                    has_begun = True
                if has_begun:
                    self._follow_file()
                if isinstance(error, sqlite3.Error | PostgresError):
                    self._pause_writing(time.monotonic() - began)
                raise

    def write(self, row: Row, answers: bytes) -> Row:
        """Write an entry in place of an earlier one to the same request; inside :meth:`changing`.

        It is found once :meth:`take_in` was given what is returned.
        """
        self.refresh()
        self._drop_expired(self._clock())
        earlier = self.index.by_exact.get(row.exact)
        if earlier is not None:
            self.drop(earlier)
        return self._file.add(row, answers)

    def take_in(self, rows: Sequence[Row]) -> None:
        """Put written rows into memory, and let others go for them; inside :meth:`changing`."""
        self.index.add_rows(rows)
        self._make_room()

    def lifetime(self, ttl_seconds: float | None = None) -> tuple[float, float | None]:
        """Return what an entry that is stored now has as ``created`` and ``expires``."""
        now = self._clock()
        limits = [ttl for ttl in (ttl_seconds, self._ttl_seconds) if ttl is not None]
        return now, now + float(min(limits)) if limits else None

    def drop(self, entry: int) -> None:
        """Delete an entry from the file and from memory; inside :meth:`changing`."""
        self._file.remove([entry])
        self._forget(entry)

    def drop_scopes(self, is_meant: Callable[[bytes], bool]) -> None:
        """Delete the entries of some scopes."""
        with self.changing():
            self.refresh()
            for entry in [e.id for e in self.index.values() if is_meant(e.scope)]:
                self.drop(entry)

    def forget(self, is_meant: Callable[[bytes], bool], *, with_answers: bool) -> int:
        """Delete what was observed in an owner's scopes, and the entries there; count these."""
        before, _ = self._file.totals()
        self._file.drop_evidence(is_meant)
        if with_answers:
            self.drop_scopes(is_meant)
        self._file.write_through()
        return before - self._file.totals()[0]

    def unite(self, kept: int, other: int) -> None:
        """Count two groups of answers as one from now on; inside :meth:`changing`."""
        self.index.answer_groups.unite(kept, other)
        self._file.unite_answers(kept, other)

    def keep_evidence(self, labels: Sequence[Any], asked: Sequence[Any]) -> None:
        """Write what was learned, and what was asked."""
        self._labels += self._file.keep_evidence(labels, asked)

    def clear(self) -> None:
        """Delete all entries and all observations."""
        with self.lock:
            self._file.clear()
            self._file.changes()
            self._empty_memory()
            self._unwritten_hits.clear()

    def check(self) -> tuple[tuple[int, int], list[int], bool]:
        """Drop damaged entries; return totals, what was dropped, and if the file is sound."""
        with self.lock:
            with self.changing():
                damaged = self._file.damaged()
                for entry in damaged:
                    self.drop(entry)
            return self._file.totals(), damaged, self._file.is_sound()

    def close(self) -> None:
        """Write what is counted and close the file for good."""
        with self.lock:
            if not self._file.is_closed:
                self._try_to_write(self._write_behind)
            self._file.close()

    def _make_room(self) -> None:
        while len(self.index) > self._max_entries or (
            self._max_bytes is not None and self.index.bytes > self._max_bytes
        ):
            victim = self.index.victim()
            if victim is None:
                return
            self.evicted += 1
            self.drop(victim)

    def _drop_expired(self, now: float) -> None:
        for entry in self.index.overdue(now):
            if self._extends_ttl:  # another process may have served it, and so prolonged its life
                expires = self._file.expiry_of(entry.id)
                if expires is not None and expires > now:
                    self.index.prolong(entry.id, expires)
                    continue
            self.expired += 1
            self.drop(entry.id)

    def _forget(self, entry: int) -> None:
        self._unpacked.pop(entry, None)
        self._unwritten_hits.pop(entry, None)
        self.index.forget(entry)

    def _write_behind(self) -> None:
        """Write what nobody is answered by: hits, and forms of questions that were read anew."""
        if self._unwritten_hits:
            self._file.count_hits(self._unwritten_hits.items())
            self._unwritten_hits = Counter()
        if self.index.read_anew:
            self._file.keep_wordings(self.index.read_anew)
            self.index.read_anew = []

    def leave_hits(self) -> None:
        """Leave the hits that are not written yet to another process, which writes them."""
        self._unwritten_hits = Counter()

    # What goes wrong

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn what SQLite says into an error that says what to do, where a caller is waiting."""
        try:
            yield
        except FILE_ERRORS as error:
            raise CacheFileError(
                f"The cache file {self.path} cannot be used now: {error}. Nothing was changed; "
                f"try again when it is neither locked nor its disk full."
            ) from error

    def _try_to_write(self, write: Callable[..., None], *args: Any) -> None:
        """Write what an answer does not depend on; a file that fails does not cost a hit."""
        if not self.may_write:
            return
        began = time.monotonic()
        try:
            write(*args)
        except FILE_ERRORS as error:
            self._pause_writing(time.monotonic() - began)
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"The cache file failed: {error}. Counts are not written. This is not "
                    f"mentioned again.",
                    TokenOptWarning,
                    stacklevel=4,
                )

    def _pause_writing(self, took_seconds: float) -> None:
        """Do not write for a while.

        Nobody is answered while a write waits for another process, or while memory is made to
        follow a full disk; so that at most a twentieth of the time is spent on it.
        """
        pause = max(_PAUSE_SECONDS, _PAUSE_FACTOR * took_seconds)
        self._no_writing_before = time.monotonic() + pause

    def _follow_file(self) -> None:
        """Read the file again."""
        self._empty_memory()
        try:
            self._file.rewind()
            self.refresh()
        except FILE_ERRORS:
            self._empty_memory()

    def _empty_memory(self) -> None:
        if not isinstance(self._eviction, str):
            for exact in self.index.by_exact:
                self._eviction.remove(exact)
        self.index = MemoryIndex(policy_for(self._eviction, self._max_entries))
        self._unpacked.clear()
