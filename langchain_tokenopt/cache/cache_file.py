"""The entries of one cache in SQLite, in a file or in memory.

The standard library's ``sqlite3`` rather than SQLAlchemy: reading one answer takes 4 us against
some 60 us there (an exact hit has 60 us in all), and there is one table.

Each row carries a checksum; a row that does not match, or cannot be read, is removed and counts as
a miss.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from langchain_core.outputs import Generation

from langchain_tokenopt.cache.answer_json import unpack
from langchain_tokenopt.cache.cache_schema import CacheFileError, is_damage, prepare, put_aside
from langchain_tokenopt.cache.file_evidence import FileEvidence
from langchain_tokenopt.cache.stored_row import OVERHEAD, Row, checksum_of, is_plausible
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage import sqlite

__all__ = ["CacheFile"]

SIZE: Final = (
    f"length(answers) + coalesce(length(vector), 0) "
    f"+ coalesce(length(CAST(question AS BLOB)), 0) + {OVERHEAD}"
)
_ROW_COLUMNS: Final = (
    f"id, exact, scope, question, %s, agrees_with, tokens, created, expires, hits, {SIZE}, near"
)
_NEW_COLUMNS: Final = (
    "exact, scope, question, vector, answers, checksum, agrees_with, tokens, created, expires, near"
)
_KEPT_REMOVALS = 100_000
_OPENING_SECONDS = 5.0
_WRITING_SECONDS = 2.0
_READING_SECONDS = 0.1
"""How long to wait for other processes: while one waits to write, nobody else is answered."""


class CacheFile:
    """The entries of one cache file. Not thread-safe: hold :attr:`lock` around every call.

    Args:
        path: The file; ``None`` keeps everything in memory.
        embedder: Fingerprint of the embedder whose vectors are stored; ``None`` for a cache that
            neither reads nor writes vectors.

    Raises:
        CacheFileError: If the file belongs to another embedder or a newer version of this package,
            or cannot be opened for writing.
    """

    def __init__(self, path: Path | None, *, embedder: str | None) -> None:
        self.path = path
        self.is_closed = False
        self._embedder = embedder
        self._salt = b""
        self._seen: tuple[int, int] | None = None
        self._seen_entry = 0
        self._seen_removal = -1
        self._removed_since = 0
        self._sqlite = sqlite.SqliteFile(
            path,
            self._prepare,
            sqlite.Settings(journal_bytes=64 << 20, busy_seconds=_READING_SECONDS),
            wait_seconds=_OPENING_SECONDS,
        )
        self._evidence = FileEvidence(lambda: self._database, self.transaction)
        self.new_evidence = self._evidence.new
        self.keep_evidence = self._evidence.keep
        self.drop_evidence = self._evidence.drop
        if path is None:
            return  # made by the first request, in a thread: caches are made on event loops, too
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self.start_anew(error)

    @property
    def lock(self) -> Any:
        """Return the re-entrant lock to hold; it is another one after a fork of the process."""
        return self._sqlite.lock

    @property
    def _name(self) -> str:
        return str(self.path) if self.path is not None else "The cache in memory"

    # Opening

    def _open(self) -> None:
        if self.path is not None and not os.path.isdir(self.path.absolute().parent):
            raise CacheFileError(
                f"{self.path} cannot be made: there is no folder {self.path.parent}, or it is "
                f"closed to this process. Create or open it."
            )
        try:
            self._sqlite.connection()
        except sqlite3.OperationalError as error:
            if is_damage(error):
                raise
            if sqlite.is_locked(error):
                raise CacheFileError(
                    f"{self._name} has been locked by another process for {_OPENING_SECONDS:g} "
                    f"seconds. Try again, or end the process that writes to it."
                ) from error
            raise CacheFileError(
                f"{self._name} cannot be written ({error}). Choose a path in a folder that this "
                f"process may write to, with space left, or path=None for a cache in memory."
            ) from error

    def start_anew(self, error: Exception) -> None:
        """Put a damaged file aside and begin with an empty one.

        Raises:
            CacheFileError: If *error* means something else, such as a full disk.
        """
        self._sqlite.forget()
        self._evidence.seen = 0
        if self.path is None or not is_damage(error):
            raise CacheFileError(f"{self._name} cannot be opened: {error}.") from error
        put_aside(self.path, error)
        self._open()
        self.rewind()

    def _prepare(self, database: sqlite3.Connection) -> None:
        self._salt = prepare(database, self._name, self._embedder)

    @property
    def _database(self) -> sqlite3.Connection:
        if self.is_closed:
            raise sqlite3.ProgrammingError("the cache has been closed")
        return self._sqlite.connection()

    # Reading

    def changes(self) -> tuple[list[Row], list[int]] | None:
        """Return rows added and entries removed since the last call by any process.

        ``None`` when nothing has changed, which takes about 2 us to find out.
        """
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        now = self._sqlite.openings, version
        if now == self._seen:
            return None
        rows: list[Row] = []
        strange: list[int] = []
        columns = _ROW_COLUMNS % ("NULL" if self._embedder is None else "vector")
        with self._snapshot():  # or another process could add and remove between the two
            gone = self._removals()
            for values in self._database.execute(
                f"SELECT {columns} FROM entry WHERE id > ? ORDER BY id", (self._seen_entry,)
            ):
                row = Row(*values)
                if is_plausible(row):
                    rows.append(row)
                else:
                    strange.append(row.id)
        self._seen_entry = max([self._seen_entry, *(row.id for row in rows[-1:]), *strange[-1:]])
        self._seen = now
        if strange:
            with contextlib.suppress(sqlite3.Error):
                self.remove(strange)
            warnings.warn(
                f"{len(strange)} entries of {self._name} hold what this package does not write. "
                f"They were removed.",
                TokenOptWarning,
                stacklevel=2,
            )
        return rows, gone

    def _removals(self) -> list[int]:
        """Return what was removed since the last call; at the start nothing is known to remove."""
        if self._seen_removal < 0:
            (last,) = self._database.execute("SELECT max(at) FROM removed").fetchone()
            self._seen_removal = last or 0
            return []
        gone = self._database.execute(
            "SELECT at, entry FROM removed WHERE at > ? ORDER BY at", (self._seen_removal,)
        ).fetchall()
        if gone:
            self._seen_removal = gone[-1][0]
        return [entry for _, entry in gone]

    def answers(self, entry: int, scope: bytes) -> list[Generation] | None:
        """Return the answers of *entry*; ``None`` when it is gone, or cannot be trusted."""
        row = self._database.execute(
            "SELECT exact, scope, question, vector, answers, checksum FROM entry "
            "WHERE id = ? AND scope = ?",
            (entry, scope),
        ).fetchone()
        return None if row is None else self._read(row)

    def damaged(self) -> list[int]:
        """Return the entries whose row does not match its checksum or cannot be read."""
        rows = self._database.execute(
            "SELECT id, exact, scope, question, vector, answers, checksum FROM entry"
        )
        return [entry for entry, *row in rows if self._read(row) is None]

    def _read(self, row: Sequence[Any]) -> list[Generation] | None:
        """Unpack the answers of a row; ``None`` where they do not match the checksum."""
        try:
            return unpack(row[4]) if self._checksum(*row[:5]) == row[5] else None
        except (TypeError, ValueError):  # a row of other types than ours has no checksum
            return None

    def stored(self) -> Iterator[tuple[Row, bytes]]:
        """Yield every entry that can be read, and its answers as they are stored."""
        last = 0
        while rows := self._database.execute(
            f"SELECT {_ROW_COLUMNS % 'vector'}, answers, checksum FROM entry WHERE id > ? "
            f"ORDER BY id LIMIT 500",
            (last,),
        ).fetchall():
            last = rows[-1][0]
            for *values, answers, checksum in rows:
                row = Row(*values)
                content = row.exact, row.scope, row.question, row.vector, answers
                if self._read((*content, checksum)) is not None:
                    yield row, answers

    def totals(self) -> tuple[int, int]:
        """Return the number of entries and the bytes they take."""
        entries, size = self._database.execute(
            f"SELECT count(*), coalesce(sum({SIZE}), 0) FROM entry"
        ).fetchone()
        return entries, size

    def is_sound(self) -> bool:
        """Let SQLite check the file."""
        return bool(self._database.execute("PRAGMA quick_check").fetchone()[0] == "ok")

    def expiry_of(self, entry: int) -> float | None:
        """Return when an entry expires, which another process may have moved."""
        row = self._database.execute("SELECT expires FROM entry WHERE id = ?", (entry,)).fetchone()
        return row[0] if row and isinstance(row[0], float) else None

    def probe(self) -> bytes | None:
        """Return what :meth:`keep_probe` was given."""
        row = self._database.execute("SELECT value FROM setting WHERE name = 'probe'").fetchone()
        try:
            return bytes.fromhex(row[0]) if row else None
        except (TypeError, ValueError):
            return None

    def counts(self) -> Counter[str]:
        """Return the sums of all that :meth:`add_counts` was given, by any process."""
        rows = self._database.execute(
            "SELECT substr(name, 7), CAST(value AS INTEGER) FROM setting WHERE name LIKE 'count %'"
        )
        return Counter(dict(rows.fetchall()))

    # Writing

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add to the counts that are kept in the file."""
        with self.transaction():
            self._database.executemany(
                "INSERT INTO setting VALUES ('count ' || ?, ?) ON CONFLICT (name) DO UPDATE "
                "SET value = CAST(value AS INTEGER) + excluded.value",
                list(counts.items()),
            )

    def keep_probe(self, vector: bytes) -> None:
        """Keep the vector by which the embedder is recognised."""
        with self.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO setting VALUES ('probe', ?)", (vector.hex(),)
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write several things or none of them."""
        if self.is_closed:
            raise sqlite3.ProgrammingError("the cache has been closed")
        with self._sqlite.transaction(_WRITING_SECONDS):
            yield

    def add(self, row: Row, answers: bytes) -> Row:
        """Write an entry and return its row with the number and the size that it has."""
        content = row.exact, row.scope, row.question, row.vector, answers
        number = self._database.execute(
            f"INSERT INTO entry ({_NEW_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *content,
                self._checksum(*content),
                row.agrees_with,
                row.tokens,
                row.created,
                row.expires,
                row.near,
            ),
        ).lastrowid
        assert number is not None
        if number == self._seen_entry + 1:
            self._seen_entry = number  # otherwise another process wrote in between: read those too
        question = (row.question or "").encode("utf-8", "surrogatepass")
        size = len(answers) + len(row.vector or b"") + len(question) + OVERHEAD
        return replace(row, id=number, size=size)

    def remove(self, entries: Iterable[int]) -> None:
        """Delete entries; those that are gone already are passed over."""
        cursor = self._database.executemany(
            "DELETE FROM entry WHERE id = ?", [(entry,) for entry in entries]
        )
        self._removed_since += max(0, cursor.rowcount)
        if self._removed_since >= _KEPT_REMOVALS // 10:
            self._removed_since = 0
            self._forget_removals()

    def _forget_removals(self) -> None:
        """Forget removals that every process has long seen."""
        self._database.execute(
            "DELETE FROM removed WHERE at <= (SELECT max(at) FROM removed) - ?", (_KEPT_REMOVALS,)
        )

    def clear(self) -> None:
        """Delete all entries and everything learned from them."""
        with self.transaction():
            self._database.execute("DELETE FROM entry")
            self._database.execute("DELETE FROM evidence")
            self._database.execute(
                "DELETE FROM setting WHERE name = 'probe' OR name LIKE 'count %'"
            )

    def count_hits(self, hits: Iterable[tuple[int, int]]) -> None:
        """Add (entry, hits) to the stored counts."""
        with self.transaction():
            self._database.executemany(
                "UPDATE entry SET hits = hits + ? WHERE id = ?", [(n, e) for e, n in hits]
            )

    def keep_wordings(self, nears: Iterable[tuple[int, bytes]]) -> None:
        """Keep what ``wording_hash`` says of entries that did not have it."""
        with self.transaction():
            self._database.executemany(
                "UPDATE entry SET near = ? WHERE id = ?", [(near, entry) for entry, near in nears]
            )

    def unite_answers(self, kept: int, other: int) -> None:
        """Count the entries that agree with *other* among those that agree with *kept*."""
        self._database.execute(
            "UPDATE entry SET agrees_with = ? WHERE agrees_with = ? OR id = ?",
            (kept, other, other),
        )

    def extend_expiry(self, entry: int, expires: float) -> None:
        """Move an entry's expiry."""
        with self.transaction():
            self._database.execute("UPDATE entry SET expires = ? WHERE id = ?", (expires, entry))

    def write_through(self) -> None:
        """Have nothing of what was changed stand in the log, unless others read just now."""
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Read several things as they were at one moment."""
        if self._database.in_transaction:
            yield
            return
        self._database.execute("BEGIN")
        try:
            yield
        finally:
            self._database.execute("COMMIT")

    def rewind(self) -> None:
        """Make the next :meth:`changes` return everything."""
        self._seen = None
        self._seen_entry = 0
        self._seen_removal = -1

    def reopen(self) -> None:
        """Open whatever has the file's name now, and read it from the start."""
        self._evidence.seen = 0
        self._sqlite.forget()
        self.rewind()

    def close(self) -> None:
        """Close the file for good."""
        if not self.is_closed:
            with contextlib.suppress(sqlite3.Error):
                self._forget_removals()
            self.is_closed = True
        self._sqlite.close()

    def _checksum(
        self, exact: bytes, scope: bytes, question: str | None, vector: bytes | None, answers: bytes
    ) -> bytes:
        return checksum_of(self._salt, exact, scope, question, vector, answers)
