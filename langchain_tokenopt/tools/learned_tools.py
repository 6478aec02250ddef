"""What calls that really happened teach about tools.

Of each tool, in each namespace, one row is kept: a fading sum of the vectors of the requests that
led to a call of it, and fading counts of their words. No request can be read from it: a vector is a
mean of requests, and a word is only kept as one of 16,384 buckets, in each of which many words lie,
by a hash with a secret of the file; numbers, which tell one person from another, are left out.

A file that is locked, damaged or somebody else's breaks no call: what cannot be kept there is kept
in memory, and a warning says so once.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

import numpy as np

from langchain_tokenopt.core.argument_checks import names_what
from langchain_tokenopt.storage.fallback_file import FallbackFile
from langchain_tokenopt.storage.sqlite import is_locked
from langchain_tokenopt.tools.tool_reading import ToolCard

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ANY", "Held", "LearnedTools", "Observation", "Uses", "namespace_of", "owner_pattern"]

MOST_TOOLS: Final = 2_000
"""Per namespace; the tools that were used longest ago leave first."""
MOST_NAMESPACES: Final = 1_000
MOST_ROWS: Final = 100_000
"""Of all namespaces together: some 200 MB."""
MOST_WORDS: Final = 256
"""Per tool; the rarest leave first."""
_BUCKETS: Final = 16_384
_FADING: Final = 0.98
"""What is left of earlier uses of a tool with each new one: 50 uses count at most."""
_CHANGED: Final = 0.3
"""What is left when a tool says something else under the same name."""
_WAITING: Final = 256
"""Observations that are kept while the file is locked."""
_BOUNDED_EVERY: Final = 64
"""Observations after which the bounds are looked at: they are exceeded by no more than that."""
_LOADED: Final = 64
"""Namespaces that are held in memory."""
_PATIENCE_SECONDS: Final = 0.2
_APPLICATION_ID: Final = 0x746F6B6C  # "tokl"
FORMAT: Final = 2
_KEY_BYTES: Final = 12
_BETWEEN: Final = "/"
"""Stands between the parts of a namespace."""
ANY: Final = "*"
"""Stands for any part, where something is forgotten."""
_TABLES: Final = (
    "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE used (namespace BLOB NOT NULL, tool TEXT NOT NULL, schema TEXT NOT NULL, "
    "embedder TEXT NOT NULL, uses REAL NOT NULL, vector BLOB NOT NULL, words BLOB NOT NULL, "
    "at INTEGER NOT NULL, PRIMARY KEY (namespace, tool))",
    "CREATE INDEX used_at ON used (at)",
    "CREATE TABLE weight (namespace BLOB NOT NULL, features TEXT NOT NULL, moved BLOB NOT NULL, "
    "at INTEGER NOT NULL, PRIMARY KEY (namespace, features))",
)
_ROW: Final = "tool, schema, embedder, uses, vector, words, at"


@dataclass(frozen=True, slots=True)
class Uses:
    """What is known of the uses of one tool."""

    schema: str
    """Key of the card that it had."""
    embedder: str
    """Which embedder made the vector; empty without one."""
    count: float
    """How many uses count, faded."""
    vector: NDArray[np.float32]
    """The faded sum of the requests' unit vectors; empty without an embedder."""
    words: NDArray[np.void]
    """Faded counts (``times``) of the requests' words, by ``bucket``."""

    def weight_for(self, card: ToolCard) -> float:
        """Return the share of this that still holds of a tool."""
        return 1.0 if card.key == self.schema else _CHANGED


@dataclass(frozen=True, slots=True)
class Observation:
    """One request that led to calls which succeeded."""

    namespace: str
    called: Sequence[ToolCard]
    words: Sequence[str]
    embedder: str = ""
    vector: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    features: str = ""
    """Names the weights that the request has moved; empty where it moved none."""
    step: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """By how much."""


class Held(NamedTuple):
    """How much is known."""

    shared: int
    """Tools with uses that belong to nobody."""
    owned: int
    """Tools with uses of users and organizations."""
    users: int


class LearnedTools:
    """Uses of tools, by namespace; bounded, shared by threads and processes, deletable.

    Args:
        path: A file that processes share; ``None`` keeps everything in memory.

    Example:
        >>> from langchain_tokenopt.tools.tool_reading import read_tool
        >>> learned = LearnedTools()
        >>> learned.record(Observation("ann", [read_tool({"name": "mail"})], ["letter"]))
        >>> {tool: uses.count for tool, uses in learned.uses("ann").items()}
        {'mail': 1.0}
        >>> learned.forget("ann")
        1
        >>> learned.uses("ann")
        {}
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._file = FallbackFile(
            path, _APPLICATION_ID, FORMAT, _TABLES, "Uses of tools", self._read_secret
        )
        self._secret = b""
        self._waiting: deque[Observation] = deque(maxlen=_WAITING)
        self._known: OrderedDict[bytes, _Namespace] = OrderedDict()
        self._recorded = 0

    def record(self, observation: Observation) -> None:
        """Learn from one request."""
        with self._file.lock:
            self._waiting.append(observation)
            try:
                with self._file.transaction(_PATIENCE_SECONDS) as database:
                    for waiting in self._waiting:
                        self._write(database, waiting)
                    if self._recorded % _BOUNDED_EVERY == 0:
                        _drop_oldest(database)
                self._recorded += 1
                self._waiting.clear()
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)

    def uses(self, namespace: str) -> Mapping[str, Uses]:
        """Return what is known in a namespace, by the tools' names."""
        return self._namespace(namespace).uses

    def moved(self, namespace: str, features: str, size: int) -> NDArray[np.float64] | None:
        """Return by how much uses have moved the *size* weights of *features*."""
        found = self._namespace(namespace).moved.get(features)
        return found if found is not None and len(found) == size else None

    def buckets(self, words: Iterable[str]) -> list[int]:
        """Return the buckets that words fall into; numbers fall into none."""
        if not self._secret:
            try:
                self._file.connection(_PATIENCE_SECONDS)
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
        return [self._bucket(word) for word in words if not any(map(str.isdigit, word))]

    @names_what("clear()")
    def forget(self, namespace: str | None = None, tool: str | None = None) -> int:
        """Forget what was learned in a namespace, of a tool, or both.

        ``*`` stands for any part of a namespace of several: ``*/ann`` is what was learned of Ann in
        every organization, ``acme/*`` that of all who belong to one.

        Weights that uses have moved are forgotten with their namespace, and with any tool.

        Returns:
            Of how many tools the uses were forgotten, each counted once in every namespace.

        Raises:
            ValueError: Neither is given.
            TypeError: One is given as ``None``.
            sqlite3.Error: The file stays locked or cannot be written: nothing is forgotten.
            OSError: The file was removed or replaced.
        """
        return self._forget(namespace, tool)

    def clear(self) -> int:
        """Forget everything; else as :meth:`forget`."""
        return self._forget(None, None)

    def _forget(self, namespace: str | None, tool: str | None) -> int:
        parts = [] if namespace is None else namespace.split(_BETWEEN)
        among, values = self._among(parts)
        with self._file.lock:
            waiting = [
                one
                for one in self._waiting
                if (parts and not _is_among(one.namespace, parts))
                or (tool is not None and tool not in [card.name for card in one.called])
            ]
            with self._file.transaction() as database:
                database.execute(f"DELETE FROM weight WHERE {among}", values)
                found = database.execute(
                    f"DELETE FROM used WHERE {among} AND tool = coalesce(?, tool)",
                    [*values, tool],
                ).rowcount
                database.execute(
                    "INSERT INTO setting VALUES ('forgotten', '1') ON CONFLICT (name) "
                    "DO UPDATE SET value = CAST(value AS INTEGER) + 1"
                )
            self._waiting = deque(waiting, maxlen=_WAITING)
            self._known.clear()
        return found

    def held(self, namespace: str | None = None) -> Held:
        """Return how much is known, of all or of a namespace as :meth:`forget` takes it.

        Raises:
            sqlite3.Error: The file cannot be read.
            OSError: It was removed or replaced.
        """
        among, values = self._among([] if namespace is None else namespace.split(_BETWEEN))
        with self._file.lock:
            rows = self._file.connection().execute(
                f"SELECT namespace, count(*) FROM used WHERE {among} GROUP BY 1", values
            )
            found = {bytes(name): number for name, number in rows}
        nobody = self._key("")
        owned = {name: n for name, n in found.items() if len(name) > _KEY_BYTES}
        users = {name[_KEY_BYTES:] for name in owned} - {nobody}
        return Held(sum(found.values()) - sum(owned.values()), sum(owned.values()), len(users))

    def _among(self, parts: Sequence[str]) -> tuple[str, list[bytes]]:
        """Return the condition of the rows of a namespace, and its values."""
        where, values = ["TRUE"], []
        for at, part in enumerate(parts):
            if part != ANY:
                where.append(f"substr(namespace, {_KEY_BYTES * at + 1}, {_KEY_BYTES}) = ?")
                values.append(self._key(part))
        if parts:
            where.append(f"length(namespace) = {_KEY_BYTES * len(parts)}")
        return " AND ".join(where), values

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._file.close()

    # Reading

    def _namespace(self, namespace: str) -> _Namespace:
        """Return what is known of a namespace, changes by other processes included."""
        key = self._key(namespace)
        with self._file.lock:
            known = self._known.get(key) or _Namespace()
            try:
                self._refresh(self._file.connection(_PATIENCE_SECONDS), key, known)
            except (sqlite3.Error, OSError, ValueError, TypeError) as error:
                self._give_up(error)
            self._known[key] = known
            self._known.move_to_end(key)
            while len(self._known) > _LOADED:
                self._known.popitem(last=False)
            return known

    def _refresh(self, database: sqlite3.Connection, key: bytes, known: _Namespace) -> None:
        (version,) = database.execute("PRAGMA data_version").fetchone()
        if known.version == (self._file.openings, version):
            return
        forgotten = database.execute(
            "SELECT value FROM setting WHERE name = 'forgotten'"
        ).fetchone()
        if known.forgotten != forgotten:
            known.clear(forgotten)
        rows = database.execute(
            f"SELECT {_ROW} FROM used WHERE namespace = ? AND at > ? ORDER BY at", (key, known.at)
        ).fetchall()
        known.uses = {**known.uses, **{name: _uses(row) for name, *row in rows}}
        known.at = rows[-1][-1] if rows else known.at
        weights = database.execute("SELECT features, moved FROM weight WHERE namespace = ?", (key,))
        known.moved = {name: np.frombuffer(moved) for name, moved in weights.fetchall()}
        known.version = (self._file.openings, version)

    # Writing

    def _write(self, database: sqlite3.Connection, seen: Observation) -> None:
        key = self._key(seen.namespace)
        (last,) = database.execute("SELECT coalesce(max(at), 0) FROM used").fetchone()
        known = self._known.get(key)
        buckets = self.buckets(seen.words)
        for at, card in enumerate(dict.fromkeys(seen.called), last + 1):
            row = database.execute(
                f"SELECT {_ROW} FROM used WHERE namespace = ? AND tool = ?", (key, card.name)
            ).fetchone()
            uses = _added(None if row is None else _uses(row[1:]), card, seen, buckets)
            database.execute(
                "INSERT OR REPLACE INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, card.name, uses.schema, uses.embedder, uses.count,
                 uses.vector.astype("<f2").tobytes(), uses.words.tobytes(), at),
            )  # fmt: skip
            if known is not None:
                known.uses = {**known.uses, card.name: uses}
        if seen.features:
            moved = self._move(database, key, seen, last + 1)
            if known is not None:
                known.moved[seen.features] = moved

    def _move(
        self, database: sqlite3.Connection, key: bytes, seen: Observation, at: int
    ) -> NDArray[np.float64]:
        row = database.execute(
            "SELECT moved FROM weight WHERE namespace = ? AND features = ?", (key, seen.features)
        ).fetchone()
        before = np.zeros_like(seen.step) if row is None else np.frombuffer(row[0])
        if len(before) != len(seen.step):
            before = np.zeros_like(seen.step)
        moved = np.clip(_FADING_STEP * before + seen.step, -_FARTHEST, _FARTHEST)
        database.execute(
            "INSERT OR REPLACE INTO weight VALUES (?, ?, ?, ?)",
            (key, seen.features, moved.tobytes(), at),
        )
        return moved

    def _read_secret(self, database: sqlite3.Connection) -> None:
        database.execute(
            "INSERT OR IGNORE INTO setting VALUES ('secret', ?)", (secrets.token_hex(16),)
        )
        row = database.execute("SELECT value FROM setting WHERE name = 'secret'").fetchone()
        self._secret = bytes.fromhex(row[0])

    def _give_up(self, error: Exception) -> None:
        """Go on in memory, but for a file that is only locked just now."""
        self._file.give_up(error)
        if not is_locked(error):
            self._known.clear()

    def _key(self, namespace: str) -> bytes:
        """Return the keys of its parts, so that what belongs to one of them is found."""
        parts = namespace.encode("utf-8", "surrogatepass").split(_BETWEEN.encode())
        hashed = (
            hashlib.blake2b(part, digest_size=_KEY_BYTES, person=b"tool uses") for part in parts
        )
        return b"".join(part.digest() for part in hashed)

    def _bucket(self, word: str) -> int:
        text = word.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=4, key=self._secret).digest()
        return int.from_bytes(digest, "big") % _BUCKETS


def namespace_of(*parts: str | None) -> str:
    """Return the namespace of an organization and its user, or of whatever else there is.

    Example:
        >>> namespace_of("acme", "ann"), namespace_of("a/b", None)
        ('acme/ann', 'a%2Fb/')
    """
    return _BETWEEN.join(quote(part or "", safe="", errors="surrogatepass") for part in parts)


def owner_pattern(user: str | None, organization: str | None) -> str | None:
    """Return the namespaces of a user, an organization, or both; ``None`` for all.

    Example:
        >>> owner_pattern("ann", None)
        '*/ann'
    """
    if "" in (user, organization):
        raise ValueError("an empty name belongs to nobody; forget(user='ann').")
    if user is None and organization is None:
        return None
    return _BETWEEN.join(namespace_of(part) if part else ANY for part in (organization, user))


def _is_among(namespace: str, parts: Sequence[str]) -> bool:
    found = namespace.split(_BETWEEN)
    return len(found) == len(parts) and all(
        wanted in (ANY, part) for part, wanted in zip(found, parts, strict=True)
    )


_FADING_STEP: Final = 0.995
"""What is left of an earlier move of the weights with each new one: they are drawn to the prior."""
_FARTHEST: Final = 3.0
"""How far uses may move a weight."""


class _Namespace:
    """What is known of one namespace, and up to when."""

    def __init__(self) -> None:
        self.uses: dict[str, Uses] = {}
        self.moved: dict[str, NDArray[np.float64]] = {}
        self.at = 0
        self.version = (0, 0)
        self.forgotten: tuple[str] | None = None

    def clear(self, forgotten: tuple[str] | None) -> None:
        self.uses, self.moved, self.at, self.forgotten = {}, {}, 0, forgotten


def _drop_oldest(database: sqlite3.Connection) -> None:
    """Keep to the bounds: the tools and namespaces that were used longest ago leave."""
    database.execute(
        "DELETE FROM used WHERE rowid IN (SELECT id FROM (SELECT rowid AS id, row_number() OVER "
        "(PARTITION BY namespace ORDER BY at DESC) AS place FROM used) WHERE place > ?)",
        (MOST_TOOLS,),
    )
    database.execute(
        "DELETE FROM used WHERE namespace NOT IN (SELECT namespace FROM used GROUP BY namespace "
        "ORDER BY max(at) DESC LIMIT ?)",
        (MOST_NAMESPACES,),
    )
    database.execute(
        "DELETE FROM used WHERE at <= (SELECT at FROM used ORDER BY at DESC LIMIT 1 OFFSET ?)",
        (MOST_ROWS,),
    )
    database.execute("DELETE FROM weight WHERE namespace NOT IN (SELECT namespace FROM used)")


_WORD: Final = np.dtype([("bucket", "<u2"), ("times", "<f4")])


def _added(before: Uses | None, card: ToolCard, seen: Observation, buckets: list[int]) -> Uses:
    """Return what is known of a tool after one more use."""
    left = 0.0 if before is None else _FADING * before.weight_for(card)
    vector, words, count = seen.vector, dict.fromkeys(buckets, 1.0), 1.0
    if before is not None:
        count += left * before.count
        if before.embedder == seen.embedder and len(before.vector) == len(vector):
            vector = vector + np.float32(left) * before.vector
        for bucket, times in before.words.tolist():
            words[bucket] = words.get(bucket, 0.0) + left * times
    kept = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORDS]
    return Uses(card.key, seen.embedder, count, vector, np.array(kept, _WORD))


def _uses(row: Sequence[object]) -> Uses:
    """Read a row.

    Raises:
        ValueError: It holds what this package does not write.
    """
    schema, embedder, count, vector, words, _ = row
    if not (
        isinstance(schema, str)
        and isinstance(embedder, str)
        and isinstance(count, float)
        and isinstance(vector, bytes)
        and isinstance(words, bytes)
    ):
        raise ValueError("a row holds values of other types than were written")
    vectors = np.frombuffer(vector, "<f2").astype(np.float32)
    return Uses(schema, embedder, count, vectors, np.frombuffer(words, _WORD))
