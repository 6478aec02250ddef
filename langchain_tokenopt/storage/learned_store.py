"""One place for what is learned: small values, of users and of what they share."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from langchain_tokenopt.core.argument_checks import check_path, names_what, shown
from langchain_tokenopt.core.attribution import name_from
from langchain_tokenopt.storage.fallback_file import FallbackFile
from langchain_tokenopt.storage.sqlite import is_locked

__all__ = ["LearnedKey", "LearnedStore", "LearnedValue"]

MOST_BYTES: Final = 32_768
"""Of one value as JSON."""
MOST_OF_USER: Final = 1_000
"""Rows of one user in one namespace of one kind."""
MOST_OF_NAMESPACE: Final = 10_000
"""Rows in one namespace of one kind: so many of its users together, and so many that they share."""
MOST_ROWS: Final = 100_000
"""Rows of users in the whole store, and as many that users share."""
_BOUNDED_EVERY: Final = 64
"""New rows after which a process looks at the bounds: they are exceeded by no more than that."""
_WAITING: Final = 256
"""Updates that are kept while the file is locked."""
_PATIENCE_SECONDS: Final = 0.2
_LONGEST_NAME: Final = 256
FORMAT: Final = 1
_APPLICATION_ID: Final = 0x746F6C73  # "tols"
_TABLES: Final = (
    "CREATE TABLE learned (kind TEXT NOT NULL, namespace TEXT NOT NULL, user TEXT NOT NULL, "
    "key TEXT NOT NULL, value TEXT NOT NULL, at INTEGER NOT NULL, "
    "PRIMARY KEY (kind, namespace, user, key))",
    "CREATE INDEX learned_at ON learned (user = '', at)",
    "CREATE INDEX learned_in ON learned (kind, namespace, user = '', at)",
    "CREATE INDEX learned_of ON learned (user)",
)
"""``user`` is empty where users share a row. ``at`` counts changes: no clock can jump."""
_FIELDS: Final = {"kind": str, "namespace": str, "user": str | None, "key": str, "format": int}

Change = Callable[[Any], Any]


class LearnedKey(NamedTuple):
    """Where a value stands."""

    kind: str
    """Who learned it, such as ``tuning``."""
    namespace: str = ""
    """Application or organization; ``acme/desk`` lies within ``acme``."""
    user: str | None = None
    """Whose history it follows from; ``None``: of all users, who share it."""
    key: str = ""
    """What it is about within its kind."""


class LearnedValue(NamedTuple):
    """A stored value and where it stands; users by their keys, as names are not kept."""

    kind: str
    namespace: str
    user: str | None
    key: str
    value: Any


class LearnedStore:
    """Small JSON values, by kind, namespace, user and key; shared by threads and processes.

    Reads and updates break no call. While the file is locked, updates wait (256 of them) and
    are made with the next one. A file that is damaged, another program's, from a later release or
    cannot be written is left as it is, and memory stands in its place; one from an earlier release
    starts anew. A warning says so once.

    A user's name is not in the file, but a hash of it: whoever has the file can see whether a name
    that he knows is among them, and no other. New files are readable by their owner only.
    Names longer than 256 characters are shortened, and end in a hash.

    What was written longest ago leaves first: at most 1,000 rows of a user and 10,000 in all
    in one namespace of one kind, and 100,000 in the store. Rows of users do not push out those that
    users share, of which there may be as many.

    Args:
        path: A file; ``None`` keeps everything in memory.

    Raises:
        TypeError: *path* is no path.

    Example:
        >>> store = LearnedStore()
        >>> seen = LearnedKey("visits", "desk", "ann", "prices")
        >>> for _ in range(3):
        ...     count = store.update(seen, lambda count: (count or 0) + 1)
        >>> count, store.get(seen), store.get(seen._replace(user="bob"))
        (3, 3, None)
        >>> store.forget(user="ann")
        1
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if path is not None:
            check_path("path", path)
        self._file = FallbackFile(
            path, _APPLICATION_ID, FORMAT, _TABLES, "Learned values", _overwrite_what_is_deleted
        )
        self._waiting: deque[tuple[LearnedKey, Change]] = deque(maxlen=_WAITING)
        self._patience = _PATIENCE_SECONDS
        self._made: dict[tuple[str, str, str], None] = {}
        self._rows_made = 0

    @property
    def path(self) -> Path | None:
        """The file in use; ``None`` where everything is kept in memory."""
        return self._file.path

    # Use

    def get(self, key: LearnedKey) -> Any:
        """Return a value; ``None`` where there is none, or it cannot be read."""
        with self._file.lock:
            for _ in range(2):  # again in memory, where the file cannot be used
                try:
                    return _value(self._file.connection(self._patience), _stored(key))
                except (sqlite3.Error, OSError) as error:
                    self._file.give_up(error)
        return None

    def update(self, key: LearnedKey, change: Change) -> Any:
        """Replace a value by what *change* makes of it, with nobody in between; return the new one.

        Args:
            key: Where it stands.
            change: Is given the value, or ``None``, and returns what JSON can hold, or ``None`` to
                delete it. It must be quick, and is called again where the file was locked. What it
                raises is raised here, and nothing is changed.

        Raises:
            TypeError: The new value is nothing that JSON can hold.
            ValueError: It is no finite number, or larger than 32,768 bytes.
        """
        stored = _stored(key)
        with self._file.lock:
            for _ in range(2):
                try:
                    return self._update(stored, change)
                except (sqlite3.Error, OSError) as error:
                    self._file.give_up(error)
                    if is_locked(error):
                        break
            self._patience = 0.0
            self._waiting.append((stored, change))
            return change(self.get(key))

    def values(
        self, kind: str | None = None, namespace: str | None = None, user: str | None = None
    ) -> list[LearnedValue]:
        """Return what is stored: all, or that of a kind, a namespace and those within it, a user.

        Raises:
            sqlite3.Error: The file cannot be read just now.
            OSError: It was removed or replaced.
        """
        among, chosen = _among(kind, namespace, user)
        with self._file.lock:
            self._open()
            rows = self._file.connection().execute(
                f"SELECT kind, namespace, user, key, value FROM learned WHERE {among} "
                f"ORDER BY kind, namespace, user, key",
                chosen,
            )
            found = [(*names, _parsed(text)) for *names, text in rows]
        return [
            LearnedValue(kind, namespace, user or None, key, value)
            for kind, namespace, user, key, value in found
            if value is not None
        ]

    def version(self) -> tuple[int, int]:
        """Return what changes when another connection changes the file, or another is opened.

        For who keeps values in memory; the store's own changes do not show.
        """
        with self._file.lock:
            try:
                row = self._file.connection(self._patience).execute("PRAGMA data_version")
                return self._file.openings, int(row.fetchone()[0])
            except (sqlite3.Error, OSError) as error:
                self._file.give_up(error)
                return self._file.openings, 0

    def latest(self, key: LearnedKey, most: int) -> list[LearnedValue]:
        """Return what stands under *key* for the users who wrote there last, newest first.

        For what users share without a row of its own: nothing of it outlives a forgotten user.
        """
        kind, namespace, _, name = _stored(key)
        with self._file.lock:
            try:
                rows = self._file.connection(self._patience).execute(
                    "SELECT user, value FROM learned WHERE kind = ? AND namespace = ? AND "
                    "(user = '') = 0 AND key = ? ORDER BY at DESC LIMIT ?",
                    (kind, namespace, name, most),
                )
                found = [
                    LearnedValue(kind, namespace, user, name, _parsed(text)) for user, text in rows
                ]
            except (sqlite3.Error, OSError) as error:
                self._file.give_up(error)
                return []
        return [one for one in found if one.value is not None]

    @names_what("clear()")
    def forget(
        self, *, user: str | None = None, namespace: str | None = None, kind: str | None = None
    ) -> int:
        """Forget what belongs to a user, a namespace and those within it, a kind.

        What is deleted is overwritten in the file. Where several are given, all must hold.

        Returns:
            How many values were forgotten.

        Raises:
            ValueError: None is given: that would be everything, for which :meth:`clear` is.
            TypeError: One is given as ``None``, as where nobody is signed in.
            sqlite3.Error: The file stays locked or cannot be written: nothing is forgotten.
            OSError: The file was removed or replaced.
        """
        return self._forget(kind, namespace, user)

    def clear(self) -> int:
        """Forget everything; else as :meth:`forget`."""
        return self._forget(None, None, None)

    def _forget(self, kind: str | None, namespace: str | None, user: str | None) -> int:
        among, chosen = _among(kind, namespace, user)
        with self._file.lock:
            self._open()
            if self._file.refusal is not None:
                raise self._file.refusal
            with self._file.transaction() as database:
                found = database.execute(f"DELETE FROM learned WHERE {among}", chosen).rowcount
            with suppress(sqlite3.Error):  # others read: the next one does it
                self._file.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            kept = [one for one in self._waiting if not _is_among(one[0], kind, namespace, user)]
            self._waiting = deque(kept, maxlen=_WAITING)
        return found

    def export(
        self, *, user: str | None = None, namespace: str | None = None, kind: str | None = None
    ) -> Iterator[str]:
        r"""Yield what is stored as lines of JSON, in order; :meth:`load` reads them.

        Example:
            >>> store = LearnedStore()
            >>> _ = store.update(LearnedKey("visits", "desk"), lambda _: [1, 2])
            >>> print(*store.export())
            {"format":1,"key":"","kind":"visits","namespace":"desk","user":null,"value":[1,2]}
        """
        for found in self.values(kind, namespace, user):
            yield _json({"format": FORMAT, **found._asdict()})

    def load(self, lines: Iterable[str]) -> int:
        """Take over what :meth:`export` has written, in place of what stands there.

        Returns:
            How many values there were.

        Raises:
            ValueError: A line is none that :meth:`export` writes; nothing is taken over.
            TypeError: *lines* are no lines.
            sqlite3.Error: The file stays locked or cannot be written: nothing is taken over.
        """
        if isinstance(lines, str | bytes) or not isinstance(lines, Iterable):
            raise TypeError(f"load() takes lines, as of an open file; got {shown(lines)}.")
        read = [
            _line(text, number)
            for number, text in enumerate(lines, start=1)
            if not isinstance(text, str) or text.strip()
        ]
        with self._file.lock:
            self._open()
            with self._file.transaction() as database:
                for key, value in read:
                    self._put(database, key, value)
                self._bound(database)
        return len(read)

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._file.close()

    # Inside

    def _open(self) -> None:
        """Open the file, or give it up: what follows meets one that works, or raises."""
        try:
            self._file.connection()
        except (sqlite3.Error, OSError) as error:
            self._file.give_up(error)

    def _update(self, key: LearnedKey, change: Change) -> Any:
        waiting, self._waiting = self._waiting, deque(maxlen=_WAITING)
        done = False
        try:
            with self._file.transaction(self._patience) as database:
                for earlier, its_change in waiting:
                    with suppress(Exception):  # it was somebody else's, who has seen it then
                        self._put(database, earlier, its_change(_value(database, earlier)))
                found = change(_value(database, key))
                self._put(database, key, found)
                if self._rows_made >= _BOUNDED_EVERY:
                    self._bound(database)
            done = True
        finally:
            if not done:
                self._waiting = waiting
        self._patience = _PATIENCE_SECONDS
        return found

    def _put(self, database: sqlite3.Connection, key: LearnedKey, value: Any) -> None:
        if value is None:
            database.execute(f"DELETE FROM learned WHERE {_HERE}", key)
            return
        text = _json(value)
        if len(text) > MOST_BYTES:
            raise ValueError(
                f"A learned value has {len(text):,} bytes; it may have {MOST_BYTES:,}. Keep "
                f"several small ones, under several keys."
            )
        (at,) = database.execute(_NEXT).fetchone()
        changed = database.execute(
            f"UPDATE learned SET value = ?, at = ? WHERE {_HERE}", (text, at, *key)
        )
        if not changed.rowcount:
            database.execute("INSERT INTO learned VALUES (?, ?, ?, ?, ?, ?)", (*key, text, at))
            self._rows_made += 1
            self._made[key.kind, key.namespace, key.user or ""] = None

    def _bound(self, database: sqlite3.Connection) -> None:
        """Drop the oldest rows where new ones were made."""
        for kind, namespace, user in self._made:
            here: tuple[Any, ...] = (kind, namespace)
            if user:
                among = "kind = ? AND namespace = ? AND user = ?"
                _drop_oldest(database, among, (*here, user), MOST_OF_USER)
            among = "kind = ? AND namespace = ? AND (user = '') = ?"
            _drop_oldest(database, among, (*here, not user), MOST_OF_NAMESPACE)
        for shared in {not user for _, _, user in self._made}:
            _drop_oldest(database, "(user = '') = ?", (shared,), MOST_ROWS)
        self._made.clear()
        self._rows_made = 0


_HERE: Final = "kind = ? AND namespace = ? AND user = ? AND key = ?"
_NEXT: Final = (
    "SELECT 1 + max((SELECT coalesce(max(at), 0) FROM learned WHERE (user = '') = 0), "
    "(SELECT coalesce(max(at), 0) FROM learned WHERE (user = '') = 1))"
)


def _drop_oldest(
    database: sqlite3.Connection, among: str, chosen: tuple[Any, ...], most: int
) -> None:
    database.execute(
        f"DELETE FROM learned WHERE rowid IN (SELECT rowid FROM learned WHERE {among} "
        f"ORDER BY at DESC LIMIT -1 OFFSET ?)",
        (*chosen, most),
    )


def _overwrite_what_is_deleted(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA secure_delete = ON").fetchall()


def _value(database: sqlite3.Connection, stored: LearnedKey) -> Any:
    row = database.execute(f"SELECT value FROM learned WHERE {_HERE}", stored).fetchone()
    return None if row is None else _parsed(row[0])


def _parsed(text: object) -> Any:
    """Read a value; ``None`` for what this package does not write."""
    try:
        return json.loads(text, parse_constant=_refuse) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


# Names


def _stored(key: LearnedKey) -> LearnedKey:
    """Return the key as it is stored: names that every file can hold, and no user's."""
    kind, namespace, user, name = key
    return LearnedKey(_name(kind), _name(namespace), user_key(user), _name(name))


def _name(value: str) -> str:
    name = name_from(value)
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return name[: _LONGEST_NAME - len(digest)] + digest


def user_key(user: str | None) -> str:
    """Return what stands for a user in the store; empty for what users share.

    Example:
        >>> user_key("ann"), user_key(None)
        ('user-58853a1a5fa9903f605610c0', '')
    """
    if user is None:
        return ""
    name = name_from(user).encode()
    return "user-" + hashlib.blake2b(name, digest_size=12, person=b"learned").hexdigest()


def _among(
    kind: str | None, namespace: str | None, user: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return the condition of the rows that are meant, and its values."""
    where, chosen = ["TRUE"], []
    if kind is not None:
        where.append("kind = ?")
        chosen.append(_name(kind))
    if namespace is not None:
        where.append("(namespace = ? OR substr(namespace, 1, length(?)) = ?)")
        chosen += [_name(namespace), *2 * [f"{name_from(namespace)}/"]]
    if user is not None:
        where.append("user = ?")
        chosen.append(user_key(user))
    return " AND ".join(where), tuple(chosen)


def _is_among(
    stored: LearnedKey, kind: str | None, namespace: str | None, user: str | None
) -> bool:
    return (
        kind in (None, stored.kind)
        and (namespace is None or f"{stored.namespace}/".startswith(f"{name_from(namespace)}/"))
        and (user is None or stored.user == user_key(user))
    )


def _line(text: object, number: int) -> tuple[LearnedKey, Any]:
    """Read a line that was exported.

    Raises:
        ValueError: It is another one.
    """
    found = _parsed(text)
    if not (
        isinstance(found, dict)
        and found.keys() == {*_FIELDS, "value"}
        and all(isinstance(found[name], kind) for name, kind in _FIELDS.items())
        and found["format"] == FORMAT
        and found["value"] is not None
        and len(_json(found["value"])) <= MOST_BYTES
        and all(_name(found[name]) == found[name] for name in ("kind", "namespace", "key"))
        and _is_user_key(found["user"])
    ):
        raise ValueError(
            f"Line {number} is none that LearnedStore.export writes in format {FORMAT}: "
            f"{shown(text)}. Nothing was taken over."
        )
    key = LearnedKey(found["kind"], found["namespace"], found["user"] or "", found["key"])
    return key, found["value"]


def _is_user_key(user: str | None) -> bool:
    if user is None:
        return True
    digits = user.removeprefix("user-")
    return len(digits) == 24 and digits != user and set(digits) <= set("0123456789abcdef")
