"""What is known here of the answers in a database: a bounded copy of those that are asked for.

Whatever is not in the copy is looked for on the server, in the scope of the question alone. The
copy is right for as long as we hear of every entry that leaves; who owns it forgets it otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from langchain_core.outputs import Generation

from langchain_tokenopt.cache.answer_groups import AnswerGroups
from langchain_tokenopt.cache.eviction_policy import Use
from langchain_tokenopt.cache.features import NEIGHBOURS, Neighbour, Neighbourhood
from langchain_tokenopt.cache.key import Question, is_wording_hash, wording_hash
from langchain_tokenopt.cache.memory_index import Entry
from langchain_tokenopt.cache.postgres_entries import PostgresEntries
from langchain_tokenopt.cache.stored_row import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PostgresIndex"]

_HOT: Final = 4_096
"""Entries that are copied."""
_READ_ANEW: Final = 100
"""Entries whose wording is told to the server at a time; it is a statement each."""


class PostgresIndex:
    """Entries by their number, as :class:`MemoryIndex` offers them. Hold the cache's lock.

    Args:
        entries: Those on the server.
        on_answers: Called with an entry and its answers when they have come along.
    """

    def __init__(
        self,
        entries: PostgresEntries,
        on_answers: Callable[[int, list[Generation]], None] = lambda entry, answers: None,
    ) -> None:
        self._entries = entries
        self.on_answers = on_answers
        self.read_anew: list[tuple[int, bytes]] = []
        """Entries of which an earlier release has stored another ``wording_hash`` than this."""
        self.forget_all()

    def forget_all(self) -> None:
        """Forget the copy."""
        self.answer_groups = AnswerGroups()
        self._hot: OrderedDict[int, Entry] = OrderedDict()
        self._by_exact: dict[bytes, int] = {}
        self._by_near: dict[bytes, int] = {}
        self._absent = b""
        """Words that nobody has asked for, as :meth:`equal` has just found."""

    @property
    def dimension(self) -> int | None:
        """Numbers per vector; ``None`` before there is one."""
        return self._entries.dimension

    def __len__(self) -> int:
        return self.totals()[0]

    def __getitem__(self, entry: int) -> Entry:
        known = self.get(entry)
        if known is None:
            raise KeyError(entry)
        return known

    def __contains__(self, entry: int) -> bool:
        return self.get(entry) is not None

    def get(self, entry: int, scope: bytes | None = None) -> Entry | None:
        """Return an entry, wherever it is; of that scope, where it is known."""
        known = self._hot.get(entry)
        if known is None:
            row = self._entries.get(entry, scope)
            known = None if row is None else self._keep(row)
        return known if known and scope in (None, known.scope) else None

    # --- coming and going

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Put rows of the server into the copy."""
        for row in rows:
            self._keep(row)

    def _keep(self, row: Row) -> Entry:
        known = _entry(row)
        if known.near and known.near != row.near and len(self.read_anew) < _READ_ANEW:
            self.read_anew.append((row.id, known.near))
        self.forget(row.id)
        self._hot[row.id] = known
        self._by_exact[row.exact] = row.id
        if known.near is not None:
            self._by_near[known.near] = row.id
        if len(self._hot) > _HOT:
            self.forget(next(iter(self._hot)))
        return known

    def forget(self, entry: int) -> None:
        """Forget an entry; nothing happens when it is unknown."""
        known = self._hot.pop(entry, None)
        if known is None:
            return
        if self._by_exact.get(known.exact) == entry:
            del self._by_exact[known.exact]
        if known.near is not None and self._by_near.get(known.near) == entry:
            del self._by_near[known.near]

    def prolong(self, entry: int, expires: float) -> None:
        """Move an entry's expiry."""
        self[entry].expires = expires

    def touch(self, entry: int) -> None:
        """Take note that an entry was served."""
        if entry in self._hot:
            self._hot[entry].hits += 1
            self._hot.move_to_end(entry)

    # --- looking up

    def is_alive(self, entry: int, now: float, scope: bytes | None = None) -> bool:
        """Say whether an entry is there, of that scope, and may be served at this time."""
        known = self.get(entry, scope)
        return known is not None and known.is_alive(now)

    def equal(self, question: Question, now: float) -> int | None:
        """Return the entry of an equal request that may be served at this time."""
        return self._copied(self._by_exact.get(question.exact), question, now) or self._found(
            question, now, lambda row: row.exact == question.exact
        )

    def same_question(self, question: Question, now: float, *, anew: bool = False) -> int | None:
        """Return the entry of a wording of the same question that may be served at this time.

        Args:
            question: What is asked.
            now: Seconds since the epoch.
            anew: Look on the server, whatever the copy holds.
        """
        copied = None if anew else self._by_near.get(question.near)
        found = self._copied(copied, question, now)
        if found is None and self._absent != question.near:
            found = self._found(question, now, lambda row: row.exact != question.exact)
        if anew:
            self._absent = b""
        return found

    def _copied(self, entry: int | None, question: Question, now: float) -> int | None:
        known = None if entry is None else self._hot[entry]
        is_right = known is not None and known.is_alive(now) and known.scope == question.scope
        return entry if is_right else None

    def _found(self, question: Question, now: float, is_meant: Callable[[Row], bool]) -> int | None:
        """Look on the server, for both tiers at once."""
        found = self._entries.find(question, now)
        self._absent = b"" if found else question.near
        for row, answers in reversed(found):  # the newest of the same words is found then
            self._keep(row)
            if answers is not None:
                self.on_answers(row.id, answers)
        return next((row.id for row, _ in found if is_meant(row)), None)

    def near_to(
        self, vector: NDArray[np.float32], scope: bytes, now: float, least: float
    ) -> Neighbourhood:
        """Return the neighbours of a question; see :class:`MemoryIndex`."""
        found = self._entries.neighbours.of(vector, scope, now, NEIGHBOURS)
        rows = [(row, cosine) for row, cosine in found.rows if row.scope == scope]
        if not rows or rows[0][1] < least:
            return Neighbourhood()
        for row, _ in reversed(rows):
            self._keep(row)
        near = self._named((row.id, cosine, row.group) for row, cosine in rows)
        return Neighbourhood(near, self._named(found.around))

    def _named(self, found: Iterable[tuple[int, float, int]]) -> list[Neighbour]:
        return [
            Neighbour(entry, cosine, self.answer_groups.of(group)) for entry, cosine, group in found
        ]

    def totals(self) -> tuple[int, int]:
        """Return the number of entries and the bytes they take."""
        return self._entries.totals()

    def top(self, limit: int) -> list[Entry]:
        """Return the entries that were served most, most served first."""
        return [_entry(row) for row in self._entries.top(limit)]

    def scopes(self) -> set[bytes]:
        """Return the scopes that have entries."""
        return self._entries.scopes()


def _entry(row: Row) -> Entry:
    near = row.near if row.question is not None else None
    if row.question is not None and not is_wording_hash(near):
        near = wording_hash(row.scope, row.question)
    return Entry(
        id=row.id,
        exact=row.exact,
        scope=row.scope,
        near=near,
        question=row.question,
        answer=row.group,
        expires=row.expires,
        size=row.size,
        tokens=row.tokens,
        hits=row.hits,
        use=Use(),
    )
