"""Entries on disk: one SQLite file in WAL mode, answers as JSON, vectors as 16-bit floats.

The standard library's ``sqlite3`` rather than SQLAlchemy: reading one answer takes 4 us against
some 60 us there (an exact hit has 60 us in all), and there is one table.

Nothing here is executed when it is read. An answer is the JSON of LangChain's ``dumps`` (packed
with zlib: the boilerplate of one answer is longer than most answers), read back with ``loads`` and
an explicit list of classes, without access to environment variables. Each row carries a checksum;
a row that does not match, or cannot be read, is removed and counts as a miss.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sqlite3
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)

from langchain_tokenopt.core.errors import TokenOptError, TokenOptWarning

__all__ = ["CacheFileError", "CacheStore", "Row", "embedder_of", "pack", "unpack"]

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x746F6B63  # "tokc"
_ANSWER_CLASSES: list[type[Any]] = [
    Generation,
    GenerationChunk,
    ChatGeneration,
    ChatGenerationChunk,
    AIMessage,
    AIMessageChunk,
]
_BOILERPLATE = (
    b'{\\"lc\\": 1, \\"type\\": \\"constructor\\", \\"id\\": [\\"langchain\\", '
    b'"input_token_details": {"cache_read": 0, "audio": 0}, "output_token_details": {"reasoning": '
    b'"prompt_tokens_details": {"cached_tokens": "completion_tokens_details": {"rejected_prediction'
    b'_tokens": 0}, "system_fingerprint": "logprobs": null, "service_tier": "default", "id": '
    b'"chatcmpl-", "additional_kwargs": {"refusal": null}, "tool_calls": [{"name": "args": {'
    b'[{"info": {"finish_reason": "stop", "logprobs": null}, "text": "'
    b'[{"info": {"finish_reason": "stop"}, "message": {"content": "", "response_metadata": '
    b'{"token_usage": {"completion_tokens": 0, "prompt_tokens": 0, "total_tokens": 0}, '
    b'"model_provider": "openai", "model_name": "gpt-", "finish_reason": "stop"}, "usage_meta'
    b'data": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}}}]'
)
"""What answers have in common; zlib then writes none of it."""

_TABLES = """
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
_NAMES = {"setting", "entry", "removed", "entry_removed", "evidence"}
_KEPT_REMOVALS = 100_000
_OPENING_SECONDS = 5
_WRITING_SECONDS = 2
"""How long to wait for other processes: while one waits to write, nobody else is answered."""


class CacheFileError(TokenOptError):
    """A cache file that cannot be used with these settings; the message says what to do."""


class _DamagedError(sqlite3.DatabaseError):
    """A file that SQLite can read, but that lacks what a cache file has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is stored."""

    id: int
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
    hits: int
    size: int
    """Bytes of question, vector and answers."""


_ROW_COLUMNS = (
    "id, exact, scope, question, vector, agrees_with, tokens, created, expires, hits, "
    "length(answers) + coalesce(length(vector), 0) + coalesce(length(question), 0) + 96"
)


_MESSAGE_FIELDS = (
    "content",
    "additional_kwargs",
    "response_metadata",
    "name",
    "tool_calls",
    "invalid_tool_calls",
    "usage_metadata",
)


def pack(answers: Sequence[Generation]) -> bytes:
    """Return *answers* as compressed JSON, each generation on its own.

    An answer that is JSON already (nearly all are) is written field by field; others as
    LangChain's ``dumps`` writes them, one by one, since a list dumped at once cannot be read back
    when one message holds a pydantic object.

    Raises:
        ValueError: If an answer does not survive being written and read.
    """
    plain = [_as_plain(answer) for answer in answers]
    forms = [
        json.dumps(dumps(answer)) if form is None else form
        for answer, form in zip(answers, plain, strict=True)
    ]
    deflate = zlib.compressobj(1, zdict=_BOILERPLATE)
    packed = deflate.compress(f"[{', '.join(forms)}]".encode()) + deflate.flush()
    if None in plain:
        unpack(packed)
    return packed


def unpack(packed: bytes) -> list[Generation]:
    """Read what :func:`pack` has written: only the listed classes, no secrets.

    Raises:
        ValueError: If it is anything else than a list of generations.
    """
    inflate = zlib.decompressobj(zdict=_BOILERPLATE)
    try:
        forms = json.loads(inflate.decompress(packed, 64 << 20))
        if not isinstance(forms, list) or not forms:
            raise ValueError("no answers")
        answers = [_loaded(f) if isinstance(f, str) else _from_plain(f) for f in forms]
    # Constructors run on stored data here: pydantic, key, type and zlib errors among others.
    except Exception as error:
        raise ValueError(f"stored answer cannot be read: {type(error).__name__}") from error
    if not all(isinstance(answer, Generation) for answer in answers):
        raise ValueError("a stored answer is no generation")
    return answers


def _as_plain(answer: Generation) -> str | None:
    """Return an answer as JSON; ``None`` when it is more than that."""
    form: dict[str, Any] = {"info": answer.generation_info}
    if type(answer) is Generation:
        form["text"] = answer.text
    elif type(answer) is ChatGeneration and type(answer.message) is AIMessage:
        fields = {name: getattr(answer.message, name) for name in _MESSAGE_FIELDS}
        form["message"] = {name: value for name, value in fields.items() if value}
    else:
        return None
    if form["info"] is not None and type(form["info"]) is not dict:
        form["info"] = dict(form["info"])
    try:
        text = json.dumps(form)
        return text if json.loads(text) == form else None
    except (TypeError, ValueError, RecursionError):
        return None


def _from_plain(form: dict[str, Any]) -> Generation:
    if "text" in form:
        return Generation(text=form["text"], generation_info=form["info"])
    fields = form["message"]
    if not set(fields) <= set(_MESSAGE_FIELDS):
        raise ValueError("unknown fields")
    message = AIMessage(**{"content": "", **fields})
    return ChatGeneration(message=message, generation_info=form["info"])


def _loaded(text: str) -> Generation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loads() warns that it is beta
        answer: Generation = loads(
            text,
            allowed_objects=_ANSWER_CLASSES,
            secrets_from_env=False,
            ignore_unserializable_fields=True,
        )
    return answer


class CacheStore:
    """The entries of one cache file. Not thread-safe: the cache's lock is held around every call.

    Args:
        path: The file; ``None`` keeps everything in memory.
        embedder: Fingerprint of the embedder whose vectors are stored.

    Raises:
        CacheFileError: If the file belongs to another embedder or a newer version of this package,
            or cannot be opened for writing. A file that is no cache, or is damaged, is put aside
            with a warning, and the cache starts empty.
    """

    def __init__(self, path: str | Path | None, *, embedder: str) -> None:
        self.path = None if path is None else Path(path)
        self._embedder = embedder
        self._process = os.getpid()
        self._seen_version = 0
        self._seen_entry = 0
        self._seen_removal = -1
        self._removed_since = 0
        self._inherited: list[sqlite3.Connection] = []
        self._database = self._open()

    # --- opening

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            self._put_aside(error)
            return self._connect()

    def start_anew(self, error: sqlite3.Error) -> None:
        """Put a file aside that turned out to be damaged while it was read.

        Raises:
            CacheFileError: If *error* means something else, such as a full disk.
        """
        self._database.close()
        self._put_aside(error)
        self._database = self._connect()
        self.rewind()

    @property
    def _name(self) -> str:
        return str(self.path) if self.path is not None else "the cache in memory"

    def _connect(self) -> sqlite3.Connection:
        if self.path is not None and not os.path.isdir(self.path.parent):
            raise CacheFileError(
                f"{self.path} cannot be made: there is no folder {self.path.parent}, or it is "
                f"closed to this process. Create or open it."
            )
        target = ":memory:" if self.path is None else str(self.path)
        database = sqlite3.connect(
            target, timeout=_OPENING_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA journal_size_limit = 67108864")
            self._create(database)
            self._check_settings(database)
            database.execute(f"PRAGMA busy_timeout = {1_000 * _WRITING_SECONDS}")
        except sqlite3.OperationalError as error:
            database.close()
            if _is_damage(error):
                raise
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise CacheFileError(
                    f"{self._name} has been locked by another process for {_OPENING_SECONDS} "
                    f"seconds. Try again, or end the process that writes to it."
                ) from error
            raise CacheFileError(
                f"{self._name} cannot be written ({error}). Choose a path in a folder that this "
                f"process may write to, with space left, or path=None for a cache in memory."
            ) from error
        except BaseException:
            database.close()
            raise
        return database

    def _create(self, database: sqlite3.Connection) -> None:
        """Make the tables of an empty file; refuse one that belongs to another program."""
        database.execute("BEGIN IMMEDIATE")
        try:
            found = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            (owner,) = database.execute("PRAGMA application_id").fetchone()
            if found and owner != _APPLICATION_ID:
                raise CacheFileError(
                    f"{self._name} is a database of another program. Choose another path."
                )
            if not found:
                for statement in _statements(_TABLES):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                settings = {"embedder": self._embedder, "salt": secrets.token_hex(16)}
                database.executemany("INSERT INTO setting VALUES (?, ?)", settings.items())
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    def _check_settings(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise CacheFileError(
                f"{self._name} was written by a newer langchain-tokenopt (format {version}, this "
                f"one reads {SCHEMA_VERSION}). Upgrade the package, or choose another path."
            )
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if not names >= _NAMES:
            raise _DamagedError(f"it has no {', '.join(sorted(_NAMES - names))}")
        settings = dict(database.execute("SELECT name, value FROM setting").fetchall())
        try:
            self.salt = bytes.fromhex(settings.get("salt", "none"))
        except (TypeError, ValueError) as error:
            raise _DamagedError("its settings cannot be read") from error
        stored = settings.get("embedder", "unknown")
        if stored != self._embedder:
            raise CacheFileError(
                f"{self._name} holds vectors of {stored}, but this cache embeds with "
                f"{self._embedder}. Vectors of two embedders cannot be compared: choose another "
                f"path, or pass the embedder that made the file."
            )

    def _put_aside(self, error: sqlite3.Error) -> None:
        if self.path is None or not _is_damage(error):
            raise CacheFileError(f"{self._name} cannot be opened: {error}.") from error
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        try:
            self.path.replace(aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except FileNotFoundError:
            return  # another process was faster
        except OSError as refused:
            raise CacheFileError(
                f"{self.path} is damaged ({error}) and cannot be put aside ({refused}). Delete it, "
                f"or choose another path."
            ) from refused
        warnings.warn(
            f"{self.path} is no cache file or is damaged ({error}). It was put aside as "
            f"{aside.name}; the cache starts empty.",
            TokenOptWarning,
            stacklevel=2,
        )

    # --- reading

    def changes(self) -> tuple[list[Row], list[int]] | None:
        """Return rows added and entries removed since the last call by any process.

        ``None`` when nothing has changed, which takes about 2 us to find out.
        """
        self._reopen_after_fork()
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if version == self._seen_version:
            return None
        rows: list[Row] = []
        strange: list[Row] = []
        with self._snapshot():  # or another process could add and remove between the two
            gone = self._removals()
            for values in self._database.execute(
                f"SELECT {_ROW_COLUMNS} FROM entry WHERE id > ? ORDER BY id", (self._seen_entry,)
            ):
                row = Row(*values)
                (rows if _is_plausible(row) else strange).append(row)
        if rows or strange:
            self._seen_entry = max(row.id for row in (*rows[-1:], *strange[-1:]))
        self._seen_version = version
        if strange:
            with contextlib.suppress(sqlite3.Error):
                self.remove([row.id for row in strange])
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

    def answers(self, entry: int) -> list[Generation] | None:
        """Return the answers of *entry*; ``None`` when it is gone, or cannot be trusted."""
        row = self._database.execute(
            "SELECT exact, scope, question, vector, answers, checksum FROM entry WHERE id = ?",
            (entry,),
        ).fetchone()
        if row is None:
            return None
        try:
            return unpack(row[4]) if self._checksum(*row[:5]) == row[5] else None
        except (TypeError, ValueError):  # a row of other types than ours has no checksum
            return None

    def damaged(self) -> list[int]:
        """Return the entries whose row does not match its checksum or cannot be read."""
        bad = []
        for entry, *row in self._database.execute(
            "SELECT id, exact, scope, question, vector, answers, checksum FROM entry"
        ):
            try:
                if self._checksum(*row[:5]) != row[5]:
                    raise ValueError
                unpack(row[4])
            except (TypeError, ValueError):
                bad.append(entry)
        return bad

    def totals(self) -> tuple[int, int]:
        """Return the number of entries and the bytes they take."""
        entries, size = self._database.execute(
            "SELECT count(*), coalesce(sum(length(answers) + coalesce(length(vector), 0) "
            "+ coalesce(length(question), 0) + 96), 0) FROM entry"
        ).fetchone()
        return entries, size

    def is_sound(self) -> bool:
        """Let SQLite check the file."""
        return bool(self._database.execute("PRAGMA quick_check").fetchone()[0] == "ok")

    # --- writing

    def add(
        self,
        *,
        exact: bytes,
        scope: bytes,
        question: str | None,
        vector: bytes | None,
        answers: bytes,
        agrees_with: int | None,
        tokens: int,
        created: float,
        expires: float | None,
    ) -> Row:
        """Write an entry and return it as a row."""
        self._reopen_after_fork()
        checksum = self._checksum(exact, scope, question, vector, answers)
        entry = self._database.execute(
            "INSERT INTO entry (exact, scope, question, vector, answers, checksum, agrees_with, "
            "tokens, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                exact,
                scope,
                question,
                vector,
                answers,
                checksum,
                agrees_with,
                tokens,
                created,
                expires,
            ),
        ).lastrowid
        assert entry is not None
        if entry == self._seen_entry + 1:
            self._seen_entry = entry  # otherwise another process wrote in between: read those too
        size = len(answers) + len(vector or b"") + len((question or "").encode()) + 96
        return Row(
            entry, exact, scope, question, vector, agrees_with, tokens, created, expires, 0, size
        )

    def remove(self, entries: Iterable[int]) -> None:
        """Delete entries; those that are gone already are passed over."""
        cursor = self._database.executemany(
            "DELETE FROM entry WHERE id = ?", [(e,) for e in entries]
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

    def count_hits(self, hits: Iterable[tuple[int, int]]) -> None:
        """Add (entry, hits) to the stored counts."""
        self._database.executemany(
            "UPDATE entry SET hits = hits + ? WHERE id = ?", [(n, e) for e, n in hits]
        )

    def unite_answers(self, kept: int, other: int) -> None:
        """Count the entries that agree with *other* among those that agree with *kept*."""
        self._database.execute(
            "UPDATE entry SET agrees_with = ? WHERE agrees_with = ? OR id = ?",
            (kept, other, other),
        )

    def extend_expiry(self, entry: int, expires: float) -> None:
        """Move an entry's expiry."""
        self._database.execute("UPDATE entry SET expires = ? WHERE id = ?", (expires, entry))

    def expiry_of(self, entry: int) -> float | None:
        """Return when an entry expires, which another process may have moved."""
        row = self._database.execute("SELECT expires FROM entry WHERE id = ?", (entry,)).fetchone()
        return row[0] if row and isinstance(row[0], float) else None

    def keep_evidence(self, observations: Sequence[Any], *, limit: int = 256) -> None:
        """Write a batch of the decision's observations; the oldest batches leave."""
        self._database.execute(
            "INSERT INTO evidence (observations) VALUES (?)", (json.dumps(observations),)
        )
        self._database.execute(
            "DELETE FROM evidence WHERE id <= (SELECT max(id) FROM evidence) - ?", (limit,)
        )

    def evidence(self) -> list[Any]:
        """Return all kept observations, oldest first."""
        found: list[Any] = []
        for (text,) in self._database.execute("SELECT observations FROM evidence ORDER BY id"):
            with contextlib.suppress(TypeError, ValueError, RecursionError):
                found += json.loads(text, parse_int=float)
        return found

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

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write several things or none of them."""
        self._reopen_after_fork()
        if self._database.in_transaction:
            yield
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def rewind(self) -> None:
        """Make the next :meth:`changes` return everything."""
        self._seen_version = self._seen_entry = 0
        self._seen_removal = -1

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self._forget_removals()
        self._database.close()

    def _reopen_after_fork(self) -> None:
        """Never use a connection that a parent process has opened: SQLite forbids it."""
        if self.path is not None and os.getpid() != self._process:
            self._process = os.getpid()
            self._inherited.append(self._database)  # closing it could take the parent's locks
            self._database = self._connect()
            self._seen_version = 0

    def _checksum(
        self, exact: bytes, scope: bytes, question: str | None, vector: bytes | None, answers: bytes
    ) -> bytes:
        digest = hashlib.blake2b(digest_size=8, key=self.salt)
        for part in (
            exact,
            scope,
            (question or "").encode("utf-8", "surrogatepass"),
            vector or b"",
            answers,
        ):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()


def embedder_of(path: str | Path) -> str:
    """Return the fingerprint of the embedder whose vectors a cache file holds; changes nothing.

    Raises:
        CacheFileError: If there is no such file, it is no cache, or it is damaged.
    """
    if not Path(path).is_file():
        raise CacheFileError(
            f"There is no cache at {path}. SemanticCache({str(path)!r}) makes one."
        )
    # Not mode=ro: a connection that may not write leaves its -wal and -shm behind.
    address = f"{Path(path).resolve().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            (owner,) = database.execute("PRAGMA application_id").fetchone()
            if owner != _APPLICATION_ID:
                raise CacheFileError(f"{path} is no cache file.")
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise _DamagedError(found)
            row = database.execute("SELECT value FROM setting WHERE name = 'embedder'").fetchone()
    except sqlite3.Error as error:
        if not _is_damage(error):
            raise CacheFileError(f"{path} cannot be read: {error}.") from error
        if error.args[0] == "file is not a database":
            raise CacheFileError(f"{path} is no cache file.") from error
        raise CacheFileError(
            f"{path} is damaged ({error}). SemanticCache({str(path)!r}) puts it aside and starts "
            f"with an empty one."
        ) from error
    return str(row[0]) if row else "unknown"


def _statements(script: str) -> Iterator[str]:
    """Split a script at the ends of its statements, triggers being one."""
    statement = ""
    for line in script.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _is_damage(error: sqlite3.Error) -> bool:
    """Say whether the file itself is bad, rather than locked, full or not writable.

    Our statements are right, so one that SQLite does not understand meets tables of another shape.
    """
    return isinstance(error, _DamagedError) or error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_NOTADB,
    )


def _is_plausible(row: Row) -> bool:
    """Say whether a row holds values of the types that :meth:`CacheStore.add` writes."""
    return (
        type(row.exact) is bytes
        and type(row.scope) is bytes
        and (row.question is None or type(row.question) is str)
        and (row.vector is None or (type(row.vector) is bytes and len(row.vector) % 2 == 0))
        and (row.agrees_with is None or type(row.agrees_with) is int)
        and type(row.tokens) is int
        and (row.expires is None or type(row.expires) is float)
        and type(row.hits) is int
    )
