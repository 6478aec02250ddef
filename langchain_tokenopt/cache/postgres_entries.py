"""The entries of one cache in a PostgreSQL database, for any number of processes and machines.

What is read is asked in one round trip each. What is changed is collected and sent at once, and
those who change take turns for the time that the server needs for it, so that no two of them can
wait for each other. Vectors are written before that, side by side: their index is slow.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from langchain_core.outputs import Generation

from langchain_tokenopt.cache.answer_json import unpack
from langchain_tokenopt.cache.key import Question, is_wording_hash, wording_hash
from langchain_tokenopt.cache.postgres_evidence import PostgresEvidence
from langchain_tokenopt.cache.postgres_neighbours import Neighbours
from langchain_tokenopt.cache.postgres_rows import (
    ALIVE,
    ROW,
    question_in_row,
    row_of,
    vector_bytes,
    vector_text,
)
from langchain_tokenopt.cache.postgres_schema import NO_NEWER, add_vector_index
from langchain_tokenopt.cache.postgres_server import (
    SLOW_SECONDS,
    WRITING_SECONDS,
    CacheServer,
    Statement,
)
from langchain_tokenopt.cache.postgres_turns import PostgresTurns
from langchain_tokenopt.cache.postgres_worth import Worth
from langchain_tokenopt.cache.stored_row import OVERHEAD, Row, checksum_of
from langchain_tokenopt.storage import forks
from langchain_tokenopt.storage.postgres import to_text

__all__ = ["PostgresEntries"]

_LOCK_SECONDS: Final = 3.0
"""How long to wait for others who write."""
_PER_STATEMENT: Final = 0.05
"""Seconds more for each thing that is written at once."""
_NUMBERS_AT_ONCE: Final = 64
_AT_ONCE: Final = 1_000
"""Entries that are deleted, or read, at once."""
_CHANGING: Final = ("SELECT pg_advisory_xact_lock(%s)", (0x746F6B65,))
"""The lock of those who change entries."""

_STORED: Final = "exact, scope, question, answers, checksum"
_FIND: Final = (
    f"SELECT {ROW}, answers, checksum FROM cache_entries "
    f"WHERE (exact = %s OR near = %s) AND scope = %s AND {ALIVE} ORDER BY id DESC"
)
_ENTRY: Final = f"SELECT {ROW} FROM cache_entries WHERE id = %s"
_ANSWERS: Final = f"SELECT id, {_STORED} FROM cache_entries WHERE id = ANY(%s) AND scope = %s"
_EVICT: Final = """
    WITH over AS (SELECT entries - %s AS number, bytes - %s AS size FROM cache_totals),
    low AS (
        (SELECT id, size, worth, false AS is_new FROM cache_entries WHERE id <> ALL(%s::bigint[])
         ORDER BY worth, id LIMIT 1000)
        UNION ALL SELECT id, size, worth, true FROM cache_entries WHERE id = ANY(%s::bigint[])),
    placed AS (
        SELECT id, row_number() OVER one AS place, sum(size) OVER one - size AS freed
        FROM low WINDOW one AS (ORDER BY is_new, worth, id))
    DELETE FROM cache_entries USING placed, over
    WHERE (over.number > 0 OR over.size > 0) AND cache_entries.id = placed.id
        AND (placed.place <= over.number OR placed.freed < over.size)
    RETURNING cache_entries.id"""
_EXPIRE: Final = f"""
    DELETE FROM cache_entries WHERE id IN (
        SELECT id FROM cache_entries WHERE expires <= %s ORDER BY expires LIMIT {_AT_ONCE})
    RETURNING id"""


@dataclass(slots=True)
class _Changes:
    """What is to be written at once."""

    vectors: list[Statement] = field(default_factory=list)
    entries: list[Statement] = field(default_factory=list)
    """In the order in which they are made."""
    is_durable: bool = False


class PostgresEntries:
    """The entries of a cache in a database. Hold :attr:`lock` around every call.

    Args:
        url: ``postgresql://user@host/database``.
        embedder: Fingerprint of the embedder whose vectors are stored; ``None`` for a cache that
            neither reads nor writes vectors.
        worth: Decides which entry leaves when there are too many.

    Raises:
        ValueError: *url* is no URL of a PostgreSQL database.
        CacheFileError: The tables belong to another embedder or a newer version of this package.
        PostgresError: The server cannot be used.
    """

    def __init__(self, url: str, *, embedder: str | None, worth: Worth | None = None) -> None:
        self._server = CacheServer(url, embedder)
        self.evicted = self.expired = 0
        self.neighbours = Neighbours(self._server)
        self.turns = PostgresTurns(self._server)
        evidence = PostgresEvidence(self._server)
        self.new_evidence, self.keep_evidence = evidence.new, evidence.keep
        self.drop_evidence, self.changes = evidence.drop, self._server.removed
        self._worth = worth or Worth("lru", 1)
        self._lock = forks.ForkLock()
        self._numbers: deque[int] = deque()
        self._numbers_of = 0
        self._numbers_per_vector: tuple[int | None, int] = None, 0
        self._changes: _Changes | None = None
        forks.register(self)

    def __str__(self) -> str:
        return self._server.pool.label

    @property
    def lock(self) -> forks.ForkLock:
        """Return the re-entrant lock to hold; it is another one after a fork of the process."""
        return self._lock

    @property
    def resets(self) -> int:
        """How often everything that was known has become doubtful."""
        return self._server.resets

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed for good."""
        return self._server.is_closed

    @property
    def dimension(self) -> int | None:
        """Numbers per vector; ``None`` before it is known."""
        numbers, losses = self._numbers_per_vector
        return numbers if losses == self._server.losses else None

    # Reading

    def get(self, entry: int, scope: bytes | None = None) -> Row | None:
        """Return an entry by its number, of one scope alone, where it is known."""
        if scope is None:
            rows = self._server.run(_ENTRY, entry)
        else:
            rows = self._server.ask(scope, (f"{_ENTRY} AND scope = %s", (entry, scope)))
        return row_of(rows[0]) if rows else None

    def find(self, question: Question, now: float) -> list[tuple[Row, list[Generation] | None]]:
        """Return the entries of an equal request and of the same words that may be served now.

        With their answers: ``None`` for those that cannot be trusted.
        """
        values = question.exact, question.near, question.scope, now
        found = self._server.ask(question.scope, (_FIND, values))
        return [
            (row_of(row), self._unpack((*row[1:4], answers, checksum)))
            for *row, answers, checksum in found
        ]

    def answers(self, entry: int, scope: bytes) -> list[Generation] | None:
        """Return the answers of *entry*; ``None`` when it is gone, or cannot be trusted."""
        return self.answers_of([entry], scope).get(entry)

    def answers_of(self, entries: Sequence[int], scope: bytes) -> dict[int, list[Generation]]:
        """Return the answers of a scope's entries, but of those that cannot be trusted."""
        rows = self._server.ask(scope, (_ANSWERS, ([*entries], scope)))
        found = ((entry, self._unpack(row)) for entry, *row in rows)
        return {entry: answers for entry, answers in found if answers is not None}

    def _unpack(self, row: Sequence[Any]) -> list[Generation] | None:
        exact, scope, question, answers, checksum = row
        content = exact, scope, question_in_row(question), None, answers
        try:
            return unpack(answers) if self._checksum(*content) == checksum else None
        except (TypeError, ValueError):
            return None

    def _checksum(self, *content: Any) -> bytes:
        return checksum_of(self._server.tables.salt, *content)

    def damaged(self) -> list[int]:
        """Return the entries whose row does not match its checksum or cannot be read."""
        found: list[int] = []
        last = 0
        while rows := self._server.run(
            f"SELECT id, {_STORED} FROM cache_entries WHERE id > %s ORDER BY id LIMIT {_AT_ONCE}",
            last,
            seconds=SLOW_SECONDS,
        ):
            last = rows[-1][0]
            found += [entry for entry, *row in rows if self._unpack(row) is None]
        return found

    def stored(self) -> Iterator[tuple[Row, bytes]]:
        """Yield every entry that can be read, and its answers as they are stored."""
        vector = "vector::text" if self._server.tables.has_pgvector else "vector"
        last = 0
        while rows := self._server.run(
            f"SELECT {ROW}, (SELECT {vector} FROM cache_vectors WHERE entry = id), answers, "
            f"checksum FROM cache_entries WHERE id > %s ORDER BY id LIMIT {_AT_ONCE}",
            last,
            seconds=SLOW_SECONDS,
        ):
            last = rows[-1][0]
            for *values, found, answers, checksum in rows:
                if self._unpack((*values[1:4], answers, checksum)) is not None:
                    yield replace(row_of(values), vector=vector_bytes(found)), answers

    def totals(self) -> tuple[int, int]:
        """Return the number of entries and the bytes they take."""
        ((entries, size),) = self._server.run("SELECT entries, bytes FROM cache_totals")
        return entries, size

    def is_sound(self) -> bool:
        """Say whether totals are those of the entries, and each vector belongs to one of them."""
        ((is_sound,),) = self._server.run(
            "SELECT (SELECT (count(*), coalesce(sum(size), 0)::bigint) FROM cache_entries) = "
            "(SELECT (entries, bytes) FROM cache_totals) AND NOT EXISTS (SELECT FROM cache_vectors "
            "WHERE NOT EXISTS (SELECT FROM cache_entries WHERE id = entry))",
            seconds=SLOW_SECONDS,
        )
        return bool(is_sound)

    def top(self, limit: int) -> list[Row]:
        """Return the entries that were served most, most served first."""
        most = f"SELECT {ROW} FROM cache_entries ORDER BY hits DESC, id LIMIT %s"
        return list(map(row_of, self._server.run(most, limit, seconds=SLOW_SECONDS)))

    def scopes(self) -> set[bytes]:
        """Return the scopes that have entries."""
        rows = self._server.run("SELECT DISTINCT scope FROM cache_entries", seconds=SLOW_SECONDS)
        return {scope for (scope,) in rows}

    def probe(self) -> bytes | None:
        """Return what :meth:`keep_probe` was given."""
        rows = self._server.run("SELECT value FROM cache_settings WHERE name = 'probe'")
        try:
            found = bytes.fromhex(rows[0][0]) if rows else None
        except (TypeError, ValueError):
            return None
        self._note_dimension(None if found is None else len(found) // 2)
        return found

    def _note_dimension(self, numbers: int | None) -> None:
        self._numbers_per_vector = numbers, self._server.losses

    def counts(self) -> Counter[str]:
        """Return the sums of all that :meth:`add_counts` was given, by any process."""
        return Counter(dict(self._server.run("SELECT name, value FROM cache_counts")))

    # Writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write several things or none of them."""
        if self._changes is not None:
            yield
            return
        self._server.refuse_if_away()
        changes = self._changes = _Changes()
        try:
            yield
            self._changes = None
            if changes.vectors or changes.entries:
                self._commit(changes)
        finally:
            self._changes = None

    def _commit(self, changes: _Changes) -> None:
        before = [
            *changes.vectors,
            ("SELECT set_config('lock_timeout', %s, true)", (f"{_LOCK_SECONDS:g}s",)),
            _CHANGING,
            NO_NEWER,
        ]
        seconds = WRITING_SECONDS + _PER_STATEMENT * (len(before) + len(changes.entries))
        with self._server.session(seconds) as session:
            found = session.change(*before, *changes.entries, durable=changes.is_durable)
        for (statement, _), rows in zip(changes.entries, found[len(before) :], strict=True):
            self.evicted += len(rows) if statement is _EVICT else 0
            self.expired += len(rows) if statement is _EXPIRE else 0

    def _change(self, statement: str, *values: Any, is_durable: bool = False) -> None:
        with self.transaction():
            assert self._changes is not None
            self._changes.entries.append((statement, values))
            self._changes.is_durable |= is_durable

    def add(self, row: Row, answers: bytes) -> Row:
        """Write an entry in the place of an earlier one; return it with its number and size."""
        number = self._next_number()
        question = None if row.question is None else to_text(row.question)
        size = len(answers) + len(row.vector or b"") + OVERHEAD
        size += len((row.question or "").encode("utf-8", "surrogatepass"))
        checksum = self._checksum(row.exact, row.scope, row.question, None, answers)
        near = row.near
        if row.question is not None and not is_wording_hash(near):
            near = wording_hash(row.scope, row.question)
        if row.vector is not None:
            assert self._changes is not None
            vector: Any = row.vector
            if self._server.tables.has_pgvector:
                vector = vector_text(np.frombuffer(row.vector, dtype="<f2"))
            insert = "INSERT INTO cache_vectors VALUES (%s, %s, %s)"
            self._changes.vectors.append((insert, (number, row.scope, vector)))
        self._change("DELETE FROM cache_entries WHERE exact = %s", row.exact)
        self._change(
            "INSERT INTO cache_entries (id, exact, scope, near, question, answers, checksum, "
            "agrees_with, tokens, size, created, expires, worth) VALUES (%s, %s, %s, %s, %s, %s, "
            "%s, coalesce((SELECT coalesce(agrees_with, id) FROM cache_entries WHERE id = %s), "
            "%s), %s, %s, %s, %s, %s)",
            *(number, row.exact, row.scope, near, question, answers, checksum),
            *(row.agrees_with, row.agrees_with, row.tokens, size, row.created, row.expires),
            self._worth.of(row, number, size),
        )
        return replace(row, id=number, size=size)

    def _next_number(self) -> int:
        if not self._numbers or self._numbers_of != self.resets:  # others may have taken them
            self._numbers.clear()
            self._numbers_of = self.resets
            ((last,),) = self._server.change(
                "UPDATE cache_numbers SET next = next + %s RETURNING next", _NUMBERS_AT_ONCE
            )
            self._numbers.extend(range(last - _NUMBERS_AT_ONCE, last))
        return self._numbers.popleft()

    def make_room(self, entries: int, size: int, new: Sequence[int]) -> None:
        """Delete what is worth least while there is too much; *new* ones go last."""
        self._change(_EVICT, entries, size, list(new), list(new))

    def remove_expired(self, now: float) -> None:
        """Delete entries whose time is over."""
        self._change(_EXPIRE, now)

    def remove(self, entries: Iterable[int]) -> None:
        """Delete entries; those that are gone already are passed over."""
        statement = "DELETE FROM cache_entries WHERE id = ANY(%s)"
        self._change(statement, list(entries), is_durable=True)

    def remove_scopes(self, scopes: Sequence[bytes]) -> None:
        """Delete the entries of some scopes."""
        statement = "DELETE FROM cache_entries WHERE scope = ANY(%s)"
        self._change(statement, list(scopes), is_durable=True)

    def clear(self) -> None:
        """Delete all entries and everything learned from them."""
        with self._server.session(SLOW_SECONDS) as session:
            session.begin(
                ("SELECT set_config('statement_timeout', '0', true)", ()),
                _CHANGING,
                ("DELETE FROM cache_entries", ()),
                ("DELETE FROM cache_evidence", ()),
                ("DELETE FROM cache_counts", ()),
                ("DELETE FROM cache_settings WHERE name = 'probe'", ()),
            )
            session.commit()

    def count_hits(self, hits: Iterable[tuple[int, int]]) -> None:
        """Add (entry, hits) to the stored counts, and to what the entries are worth."""
        entries, numbers = zip(*sorted(hits), strict=True)
        risen, values = self._worth.risen(time.time())
        self._change(
            f"UPDATE cache_entries SET hits = hits + number, worth = {risen} "
            f"FROM unnest(%s::bigint[], %s::bigint[]) AS served (entry, number) WHERE id = entry",
            *(*values, list(entries), list(numbers)),
        )

    def keep_wordings(self, nears: Iterable[tuple[int, bytes]]) -> None:
        """Keep what ``wording_hash`` says of entries that did not have it."""
        with self.transaction():
            for entry, near in sorted(nears):
                self._change("UPDATE cache_entries SET near = %s WHERE id = %s", near, entry)

    def unite_answers(self, kept: int, other: int) -> None:
        """Count the entries that agree with *other* among those that agree with *kept*."""
        self._change(
            "UPDATE cache_entries SET agrees_with = %s WHERE agrees_with = %s OR id = %s",
            *(kept, other, other),
        )

    def extend_expiry(self, entry: int, expires: float) -> None:
        """Move an entry's expiry."""
        self._change(
            "UPDATE cache_entries SET expires = %s, worth = CASE WHEN %s THEN %s ELSE worth END "
            "WHERE id = %s",
            *(expires, self._worth.name == "ttl", expires, entry),
        )

    def write_through(self) -> None:
        """The server sees to that."""

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add to the counts that are kept."""
        names = sorted(counts)
        self._change(
            "INSERT INTO cache_counts SELECT * FROM unnest(%s::text[], %s::bigint[]) "
            "ON CONFLICT (name) DO UPDATE SET value = cache_counts.value + excluded.value",
            *(names, [counts[name] for name in names]),
        )

    def keep_probe(self, vector: bytes) -> None:
        """Keep the vector by which the embedder is recognised; now vectors have a length."""
        numbers = len(vector) // 2
        if self._server.tables.has_pgvector:
            add_vector_index(self._server.pool, numbers)
        self._change(
            "INSERT INTO cache_settings VALUES ('probe', %s) ON CONFLICT (name) DO NOTHING",
            vector.hex(),
        )
        self._note_dimension(numbers)

    def close(self) -> None:
        """Close what is the cache's own for good; other connections belong to the process."""
        self._server.close()

    # Forks

    def before_fork(self) -> None:
        """There is nothing to let go of: a child makes connections of its own."""

    def after_fork_in_child(self) -> None:
        """Go on as another process."""
        self._lock = forks.ForkLock()
        self.turns.begin_as_another()
        self._changes = None
        self._server.begin_again()
