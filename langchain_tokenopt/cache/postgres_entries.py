"""The entries of one cache in a PostgreSQL database, for any number of processes and machines.

What is read is asked in one round trip each. What is changed is collected and sent at once, and
those who change take turns for the time that the server needs for it, so that no two of them can
wait for each other. Vectors are written before that, side by side: their index is slow.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from langchain_core.outputs import Generation

from langchain_tokenopt.cache.answer_json import unpack
from langchain_tokenopt.cache.cache_file import OVERHEAD, Row, checksum_of
from langchain_tokenopt.cache.forgetting import without_owner
from langchain_tokenopt.cache.key import Question, same_words_hash
from langchain_tokenopt.cache.postgres_neighbours import Neighbours
from langchain_tokenopt.cache.postgres_rows import (
    ALIVE,
    ROW,
    observations_in,
    question_in_row,
    row_of,
    vector_bytes,
    vector_text,
)
from langchain_tokenopt.cache.postgres_schema import (
    NO_NEWER,
    SCOPE,
    add_vector_index,
    prepare,
    refused_newer,
)
from langchain_tokenopt.cache.postgres_worth import Worth
from langchain_tokenopt.storage import forks
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.postgres import Session, pool_of, to_text
from langchain_tokenopt.storage.postgres_listener import PostgresListener

__all__ = ["PostgresEntries"]

READING_SECONDS: Final = 2.0
"""How long to wait for an answer in the middle of a call."""
WRITING_SECONDS: Final = 5.0
_LOCK_SECONDS: Final = 3.0
"""How long to wait for others who write."""
_PER_STATEMENT: Final = 0.05
"""Seconds more for each thing that is written at once."""
_SLOW_SECONDS: Final = 600.0
"""How long it may take to delete or to read everything."""
_PROOF_SECONDS: Final = 2.0
"""How long what other processes do may go unnoticed, when the network swallows everything."""
_PAUSE_SECONDS: Final = 1.0
_PAUSE_FACTOR: Final = 5.0
_LONGEST_PAUSE: Final = 10.0
"""A server that has failed is left alone for so many times what that took."""
_KEPT_EVIDENCE: Final = 32_768
"""Batches of observations."""
_NUMBERS_AT_ONCE: Final = 64
_AT_ONCE: Final = 1_000
"""Entries that are deleted, or read, at once."""
_NO_TABLE: Final = "42P01"
_AWAY: Final = (_NO_TABLE, "08", "53", "57", "58", "28", "3D")
"""What a server says that cannot be used at all; another error is one of a single request."""
_CHANGING: Final = 0x746F6B65
_LEARNING: Final = 0x746F6B66
"""Advisory locks of those who change entries, and of those who write what they have learned."""

_STORED: Final = "exact, scope, question, answers, checksum"
_FIND: Final = (
    f"SELECT {ROW}, answers, checksum FROM cache_entries "
    f"WHERE (exact = %s OR near = %s) AND scope = %s AND {ALIVE} ORDER BY id DESC"
)
_ENTRY: Final = f"SELECT {ROW} FROM cache_entries WHERE id = %s"


_OBSERVED: Final = "SELECT id, observations FROM cache_evidence WHERE id > %s ORDER BY id"
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
_TAKE_TURN: Final = """
    WITH there AS (
        SELECT FROM cache_entries
        WHERE exact = %s AND (expires IS NULL OR expires > extract(epoch FROM now()))),
    taken AS (
        INSERT INTO cache_flights SELECT %s, %s, now() + %s * interval '1 second'
        WHERE NOT EXISTS (SELECT FROM there)
        ON CONFLICT (exact) DO UPDATE SET owner = excluded.owner, until = excluded.until
        WHERE cache_flights.until < now() OR cache_flights.owner = excluded.owner RETURNING 1)
    SELECT EXISTS (SELECT FROM taken) OR EXISTS (SELECT FROM there)"""
_GIVE_TURN_BACK: Final = "DELETE FROM cache_flights WHERE exact = %s AND owner = %s RETURNING 1"


_Statement = tuple[str, tuple[Any, ...]]


@dataclass(slots=True)
class _Changes:
    """What is to be written at once."""

    vectors: list[_Statement] = field(default_factory=list)
    entries: list[_Statement] = field(default_factory=list)
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
        self.is_closed = False
        self.evicted = self.expired = 0
        self.resets = 0
        """How often everything that was known has become doubtful."""
        self.has_news = True
        """Whether there may be evidence that has not been read."""
        self.dimension: int | None = None
        """Numbers per vector; ``None`` before it is known."""
        self._pool = pool_of(url)
        self._worth = worth or Worth("lru", 1)
        self._lock = forks.ForkLock()
        self._owner = secrets.token_hex(8)
        self._away_until = 0.0
        self._away: PostgresError | None = None
        self._seen_evidence = 0
        self._numbers: deque[int] = deque()
        self._changes: _Changes | None = None
        self._embedder = embedder
        self._prepare()
        forks.register(self)

    def __str__(self) -> str:
        return self._pool.label

    @property
    def lock(self) -> forks.ForkLock:
        """Return the re-entrant lock to hold; it is another one after a fork of the process."""
        return self._lock

    # The server

    def _prepare(self) -> None:
        self._tables = prepare(self._pool, self._embedder)
        self._are_there = True
        self.neighbours = Neighbours(self._ask, has_pgvector=self._tables.has_pgvector)
        self._listener = PostgresListener(
            self._pool,
            self._tables.channel,
            proof_seconds=_PROOF_SECONDS,
            wait_seconds=READING_SECONDS,
        )

    @contextlib.contextmanager
    def _session(self, seconds: float = READING_SECONDS) -> Iterator[Session]:
        """Lend a connection, unless the server has just failed."""
        self._refuse_if_away()
        began = time.monotonic()
        try:
            with self._pool.session(seconds) as session:
                yield session
        except PostgresError as refused:
            error = refused_newer(refused, self._pool.label)
            self._leave_alone(error, time.monotonic() - began)
            raise error from refused

    def _refuse_if_away(self) -> None:
        if self.is_closed:
            raise PostgresError("the cache has been closed")
        if self._away is not None and time.monotonic() < self._away_until:
            raise self._away.with_traceback(None)
        if not self._are_there:
            self._prepare()
            self._begin_again()

    def _leave_alone(self, error: PostgresError, took_seconds: float) -> None:
        """Ask nothing for a while, so that at most a sixth of the time is spent on waiting."""
        if error.sqlstate == _NO_TABLE:
            self._are_there = False
            self._seen_evidence = 0
            self.dimension = None
        if error.sqlstate is None or error.sqlstate.startswith(_AWAY):
            pause = min(_LONGEST_PAUSE, max(_PAUSE_SECONDS, _PAUSE_FACTOR * took_seconds))
            self._away, self._away_until = error, time.monotonic() + pause

    def _ask(self, scope: bytes, *statements: _Statement) -> list[tuple[Any, ...]]:
        """Ask about one scope: nothing else is to be seen meanwhile, if the server sees to it."""
        only = "SELECT set_config(%s, %s, true)", (SCOPE, scope.hex())
        with self._session() as session:
            return session.run_all(only, *statements)[-1]

    def _run(
        self, statement: str, *values: Any, seconds: float = READING_SECONDS
    ) -> list[tuple[Any, ...]]:
        with self._session(seconds) as session:
            return session.run(statement, *values)

    # Reading

    def changes(self) -> tuple[list[Row], list[int]] | None:
        """Return no rows, and what was removed since the last time, by any process.

        What comes is looked for when it is asked for. ``None`` when nothing is known to have gone;
        :attr:`resets` says that everything may have.
        """
        self._refuse_if_away()
        began = time.monotonic()
        try:
            heard = self._listener.heard()
            if heard is None:
                self._begin_again()
                return None
        except PostgresError as error:
            self._begin_again()
            self._leave_alone(error, time.monotonic() - began)
            raise
        gone: list[int] = []
        for message in heard:
            if message == "*":
                self._begin_again()
            elif message == "evidence":
                self.has_news = True
            else:
                gone += map(int, message.split())
        return ([], gone) if gone else None

    def _begin_again(self) -> None:
        self.resets += 1
        self.has_news = True
        self._numbers.clear()

    def get(self, entry: int) -> Row | None:
        """Return an entry by its number."""
        rows = self._run(_ENTRY, entry)
        return row_of(rows[0]) if rows else None

    def find(self, question: Question, now: float) -> list[tuple[Row, list[Generation] | None]]:
        """Return the entries of an equal request and of the same words that may be served now.

        With their answers: ``None`` for those that cannot be trusted.
        """
        values = question.exact, question.near, question.scope, now
        found = self._ask(question.scope, (_FIND, values))
        return [
            (row_of(row), self._unpack((*row[1:4], answers, checksum)))
            for *row, answers, checksum in found
        ]

    def answers(self, entry: int) -> list[Generation] | None:
        """Return the answers of *entry*; ``None`` when it is gone, or cannot be trusted."""
        return self.answers_of([entry]).get(entry)

    def answers_of(self, entries: Sequence[int]) -> dict[int, list[Generation]]:
        """Return the answers of entries, but of those that are gone or cannot be trusted."""
        rows = self._run(f"SELECT id, {_STORED} FROM cache_entries WHERE id = ANY(%s)", [*entries])
        found = ((entry, self._unpack(row)) for entry, *row in rows)
        return {entry: answers for entry, answers in found if answers is not None}

    def _unpack(self, row: Sequence[Any]) -> list[Generation] | None:
        exact, scope, question, answers, checksum = row
        content = exact, scope, question_in_row(question), None, answers
        try:
            return unpack(answers) if checksum_of(self._tables.salt, *content) == checksum else None
        except (TypeError, ValueError):
            return None

    def damaged(self) -> list[int]:
        """Return the entries whose row does not match its checksum or cannot be read."""
        found: list[int] = []
        last = 0
        while rows := self._run(
            f"SELECT id, {_STORED} FROM cache_entries WHERE id > %s ORDER BY id LIMIT {_AT_ONCE}",
            last,
            seconds=_SLOW_SECONDS,
        ):
            last = rows[-1][0]
            found += [entry for entry, *row in rows if self._unpack(row) is None]
        return found

    def stored(self) -> Iterator[tuple[Row, bytes]]:
        """Yield every entry that can be read, and its answers as they are stored."""
        vector = "vector::text" if self._tables.has_pgvector else "vector"
        last = 0
        while rows := self._run(
            f"SELECT {ROW}, (SELECT {vector} FROM cache_vectors WHERE entry = id), answers, "
            f"checksum FROM cache_entries WHERE id > %s ORDER BY id LIMIT {_AT_ONCE}",
            last,
            seconds=_SLOW_SECONDS,
        ):
            last = rows[-1][0]
            for *values, found, answers, checksum in rows:
                if self._unpack((*values[1:4], answers, checksum)) is not None:
                    yield replace(row_of(values), vector=vector_bytes(found)), answers

    def totals(self) -> tuple[int, int]:
        """Return the number of entries and the bytes they take."""
        ((entries, size),) = self._run("SELECT entries, bytes FROM cache_totals")
        return entries, size

    def is_sound(self) -> bool:
        """Say whether totals are those of the entries, and each vector belongs to one of them."""
        ((is_sound,),) = self._run(
            "SELECT (SELECT (count(*), coalesce(sum(size), 0)::bigint) FROM cache_entries) = "
            "(SELECT (entries, bytes) FROM cache_totals) AND NOT EXISTS (SELECT FROM cache_vectors "
            "WHERE NOT EXISTS (SELECT FROM cache_entries WHERE id = entry))",
            seconds=_SLOW_SECONDS,
        )
        return bool(is_sound)

    def top(self, limit: int) -> list[Row]:
        """Return the entries that were served most, most served first."""
        most = f"SELECT {ROW} FROM cache_entries ORDER BY hits DESC, id LIMIT %s"
        return list(map(row_of, self._run(most, limit, seconds=_SLOW_SECONDS)))

    def scopes(self) -> set[bytes]:
        """Return the scopes that have entries."""
        rows = self._run("SELECT DISTINCT scope FROM cache_entries", seconds=_SLOW_SECONDS)
        return {scope for (scope,) in rows}

    def new_evidence(self) -> list[Any]:
        """Return the observations that were kept since the last call, oldest first."""
        if not self.has_news:
            return []
        rows = self._run(_OBSERVED, self._seen_evidence)
        self.has_news = False
        if rows:
            self._seen_evidence = rows[-1][0]
        return observations_in(text for _, text in rows)

    def probe(self) -> bytes | None:
        """Return what :meth:`keep_probe` was given."""
        rows = self._run("SELECT value FROM cache_settings WHERE name = 'probe'")
        try:
            found = bytes.fromhex(rows[0][0]) if rows else None
        except (TypeError, ValueError):
            return None
        self.dimension = None if found is None else len(found) // 2
        return found

    def counts(self) -> Counter[str]:
        """Return the sums of all that :meth:`add_counts` was given, by any process."""
        return Counter(dict(self._run("SELECT name, value FROM cache_counts")))

    # Writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write several things or none of them."""
        if self._changes is not None:
            yield
            return
        self._refuse_if_away()
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
            ("SELECT pg_advisory_xact_lock(%s)", (_CHANGING,)),
            NO_NEWER,
        ]
        seconds = WRITING_SECONDS + _PER_STATEMENT * (len(before) + len(changes.entries))
        with self._session(seconds) as session:
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
        checksum = checksum_of(self._tables.salt, row.exact, row.scope, row.question, None, answers)
        near = None if row.question is None else same_words_hash(row.scope, row.question)
        if row.vector is not None:
            assert self._changes is not None
            vector: Any = row.vector
            if self._tables.has_pgvector:
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
        if not self._numbers:
            ((last,),) = self._run(
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
        with self._session(_SLOW_SECONDS) as session:
            session.begin(
                ("SELECT set_config('statement_timeout', '0', true)", ()),
                ("SELECT pg_advisory_xact_lock(%s)", (_CHANGING,)),
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

    def drop_evidence(self, is_meant: Callable[[bytes], bool]) -> None:
        """Delete what was observed in the domains of an owner."""
        with self._session(_SLOW_SECONDS) as session:
            *_, rows = session.begin(
                ("SELECT pg_advisory_xact_lock(%s)", (_LEARNING,)),
                ("SELECT id, observations FROM cache_evidence ORDER BY id", ()),
            )
            changed = without_owner([(row[0], row[1]) for row in rows], is_meant)
            session.commit(
                *(
                    ("DELETE FROM cache_evidence WHERE id = %s", (number,))
                    if text is None
                    else (
                        "UPDATE cache_evidence SET observations = %s WHERE id = %s",
                        (text, number),
                    )
                    for number, text in changed
                )
            )

    def write_through(self) -> None:
        """The server sees to that."""

    def keep_evidence(self, observations: Sequence[Any]) -> list[Any]:
        """Write a batch of observations, the oldest leave; return those of other processes."""
        self.has_news = True
        foreign = self.new_evidence()
        with self._session(WRITING_SECONDS) as session:
            _, others, [[number]], *_ = session.change(
                ("SELECT pg_advisory_xact_lock(%s)", (_LEARNING,)),
                (_OBSERVED, (self._seen_evidence,)),
                (
                    "INSERT INTO cache_evidence (observations) VALUES (%s) RETURNING id",
                    (json.dumps(observations),),
                ),
                (
                    "DELETE FROM cache_evidence "
                    "WHERE id <= (SELECT max(id) FROM cache_evidence) - %s",
                    (_KEPT_EVIDENCE,),
                ),
                ("SELECT pg_notify(%s, 'evidence')", (self._tables.channel,)),
                durable=False,
            )
        self._seen_evidence = number
        return foreign + observations_in(text for _, text in others)

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
        if self._tables.has_pgvector:
            add_vector_index(self._pool, numbers)
        self._change(
            "INSERT INTO cache_settings VALUES ('probe', %s) ON CONFLICT (name) DO NOTHING",
            vector.hex(),
        )
        self.dimension = numbers

    # One flight for all processes

    def take_turn(self, exact: bytes, seconds: float) -> bool:
        """Take the turn to ask the model, for some seconds; ``False``: another process has it.

        Whoever finds an answer there needs no turn; nobody waits for a server that fails.
        """
        try:
            ((goes_on,),) = self._run(_TAKE_TURN, exact, exact, self._owner, seconds)
        except PostgresError:
            return True
        return bool(goes_on)

    def give_turn_back(self, exact: bytes) -> None:
        """Let another process take the turn; nothing happens when it is not ours."""
        with contextlib.suppress(PostgresError):
            self._run(_GIVE_TURN_BACK, exact, self._owner)

    def close(self) -> None:
        """Close what is the cache's own for good; other connections belong to the process."""
        self.is_closed = True
        self._listener.close()

    # Forks

    def before_fork(self) -> None:
        """There is nothing to let go of: a child makes connections of its own."""

    def after_fork_in_child(self) -> None:
        """Go on as another process."""
        self._lock = forks.ForkLock()
        self._owner = secrets.token_hex(8)
        self._changes = None
        self._begin_again()
