"""What a cache file is: its tables and settings, and what happens to one that is none.

A cache can be filled again, so a file that is damaged, or of an earlier format, is put aside, and
the cache starts empty.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning
from langchain_tokenopt.storage import sqlite

__all__ = ["NO_EMBEDDER", "CacheFileError", "embedder_of", "is_damage", "prepare", "put_aside"]

FORMAT: Final = 3
NO_EMBEDDER: Final = "none"
_APPLICATION_ID: Final = 0x746F6B63  # "tokc"
_TABLES: Final = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    exact BLOB NOT NULL,
    scope BLOB NOT NULL,
    question TEXT,
    vector BLOB,
    answers BLOB NOT NULL,
    checksum BLOB NOT NULL,
    agrees_with INTEGER,
    tokens INTEGER NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    hits INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE removed (at INTEGER PRIMARY KEY AUTOINCREMENT, entry INTEGER NOT NULL);
CREATE TRIGGER entry_removed AFTER DELETE ON entry
BEGIN
    INSERT INTO removed (entry) VALUES (old.id);
END;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    observations TEXT NOT NULL
);
"""
_TRAFFIC: Final = """
ALTER TABLE evidence ADD COLUMN is_traffic INTEGER NOT NULL DEFAULT 0;
CREATE INDEX evidence_kind ON evidence (is_traffic);
"""
_WORDING: Final = "ALTER TABLE entry ADD COLUMN near BLOB"
"""What files of format 3 did not have at first; who does not know of it can go on with them."""
_NAMES: Final = {"setting", "entry", "removed", "entry_removed", "evidence"}


class CacheFileError(TokenOptError):
    """A cache file that cannot be used with these settings; the message says what to do."""


class _DamagedError(sqlite3.DatabaseError):
    """A file that SQLite can read, but that is not as a cache file is now."""


def prepare(database: sqlite3.Connection, name: str, embedder: str | None) -> bytes:
    """Make the tables of an empty file; return what the checksums of its rows are made with.

    A file that was made without an embedder belongs to the first one that comes.

    Raises:
        CacheFileError: If the file is another program's, a newer version's or another embedder's.
        sqlite3.DatabaseError: If it is damaged, or of an earlier format.
    """
    found = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    (owner,) = database.execute("PRAGMA application_id").fetchone()
    if found and owner != _APPLICATION_ID:
        raise CacheFileError(f"{name} is a database of another program. Choose another path.")
    if not found:
        for statement in _statements(_TABLES):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {FORMAT}")
        made = {"embedder": embedder or NO_EMBEDDER, "salt": secrets.token_hex(16)}
        database.executemany("INSERT INTO setting VALUES (?, ?)", made.items())
    _check_format(database, name)
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    if not names >= _NAMES:
        raise _DamagedError(f"it has no {', '.join(sorted(_NAMES - names))}")
    if "evidence_kind" not in names:
        for statement in _statements(_TRAFFIC):
            database.execute(statement)
    if "near" not in {column[1] for column in database.execute("PRAGMA table_info(entry)")}:
        database.execute(_WORDING)
    settings = dict(database.execute("SELECT name, value FROM setting").fetchall())
    try:
        salt = bytes.fromhex(settings.get("salt", "none"))
    except (TypeError, ValueError) as error:
        raise _DamagedError("its settings cannot be read") from error
    stored = settings.get("embedder", "unknown")
    if stored == NO_EMBEDDER and embedder is not None:
        database.execute("UPDATE setting SET value = ? WHERE name = 'embedder'", (embedder,))
    elif embedder not in (None, stored):
        raise CacheFileError(
            f"{name} holds vectors of {stored}, but this cache embeds with {embedder}. Vectors of "
            f"two embedders cannot be compared: choose another path, or pass the embedder that "
            f"made the file."
        )
    return salt


def embedder_of(path: str | Path) -> str:
    """Return the fingerprint of the embedder whose vectors a cache file holds; changes nothing.

    Raises:
        CacheFileError: If there is no such file, it is no cache, or it cannot be used.
    """
    file = Path(path)
    if not file.is_file():
        raise CacheFileError(
            f"There is no cache at {path}. SemanticCache({str(path)!r}) makes one."
        )
    try:
        with contextlib.closing(sqlite.connect_to_read(file)) as database:
            (owner,) = database.execute("PRAGMA application_id").fetchone()
            if owner != _APPLICATION_ID:
                raise CacheFileError(f"{path} is no cache file.")
            _check_format(database, str(path))
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise _DamagedError(found)
            row = database.execute("SELECT value FROM setting WHERE name = 'embedder'").fetchone()
    except sqlite3.Error as error:
        if not is_damage(error):
            raise CacheFileError(f"{path} cannot be read: {error}.") from error
        if error.args[0] == "file is not a database":
            raise CacheFileError(f"{path} is no cache file.") from error
        raise CacheFileError(
            f"{path} is damaged ({error}). SemanticCache({str(path)!r}) puts it aside and starts "
            f"with an empty one."
        ) from error
    return str(row[0]) if row else "unknown"


def _check_format(database: sqlite3.Connection, name: str) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise CacheFileError(
            f"{name} was written by a newer langchain-tokenopt (format {version}, this one reads "
            f"{FORMAT}). Upgrade the package, or choose another path."
        )
    if version < FORMAT:
        raise _DamagedError(f"it has format {version}, and this version reads {FORMAT}")


def put_aside(path: Path, error: Exception) -> None:
    """Give a damaged file another name, with a warning.

    Raises:
        CacheFileError: If it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    try:
        path.replace(aside)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as refused:
        raise CacheFileError(
            f"{path} is damaged ({error}) and cannot be put aside ({refused}). Delete it, or "
            f"choose another path."
        ) from refused
    warnings.warn(
        f"{path} is no cache file, is damaged, or was written by an earlier version ({error}). It "
        f"was put aside as {aside.name}; the cache starts empty.",
        TokenOptWarning,
        stacklevel=2,
    )


def _statements(script: str) -> Iterator[str]:
    """Split a script at the ends of its statements, triggers being one."""
    statement = ""
    for line in script.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def is_damage(error: Exception) -> bool:
    """Say whether the file itself is bad, rather than locked, full or not writable.

    Our statements are right, so one that SQLite does not understand meets tables of another shape.
    """
    if isinstance(error, _DamagedError) or sqlite.is_damaged(error):
        return True
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_ERROR
